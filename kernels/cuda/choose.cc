#include "kernels/cuda/choose.h"

#include <cmath>

namespace mpq::cuda {
namespace {

// Clocks, near enough to compare launches with.
constexpr double kStart = 1200;      // until the first stage has come, and results leave
constexpr double kStage = 130;       // a barrier, then loads and products that wait for one another
constexpr double kJoin = 2500;       // sums to memory and, by the last part, back
constexpr double kOutput = 0.17;     // an output
constexpr double kJoined = 0.06;     // a sum of one part
constexpr double kThread = 1.0;      // what a thread computes before its first stage
constexpr double kStageOfWarp = 28;  // addresses of a stage
constexpr uint32_t kMostSplits = 16;

// Of a multiprocessor and a clock: products of 8 bits, bytes of shared memory and of the L2 cache.
struct Rates {
  uint32_t arch;  // and later
  double products, shared, l2;
};
constexpr Rates kRates[] = {
    {90, 2540, 128, 27}, {86, 1024, 128, 16}, {80, 2048, 128, 33}, {0, 1024, 64, 18}};

const Rates& rates_of(uint32_t arch) {
  const Rates* rates = kRates;  // the last one serves all
  while (arch < rates->arch) ++rates;
  return *rates;
}

// Blocks that one multiprocessor holds: registers for 16 warps of large tiles, 20 of small ones.
uint32_t resident(const ConvKernel& k) { return (k.tile_m > 64 ? 512 : 640) / k.threads; }

double clocks(const Gpu& gpu, const ConvKernel& k, const ConvParams& p, uint32_t splits) {
  const Rates& rates = rates_of(gpu.arch);
  const uint32_t math = math_bits(k.a_bits, k.w_bits, gpu.arch), steps = k.a_bits == 8 ? 1 : 2;
  const uint32_t part = blocks_of(blocks_of(p.k_steps, steps), splits);
  const double outputs = static_cast<double>(k.tile_m) * k.tile_n, warps = k.threads / 32;
  const double columns = k.tile_n / 32, rows = warps / columns;  // of warps
  // Bytes of a stage; every warp reads its own rows of A and columns of B.
  const double a = k.tile_m * 8.0 * k.a_bits * steps, b = k.tile_n * 8.0 * k.w_bits * steps;
  const double products = outputs * 64 * steps / rates.products * math / 8;
  const double shared = (a * (columns + 1) + b * (rows + 1)) / rates.shared;
  const double stage =
      std::fmax(std::fmax(products, shared), std::fmax((a + b) / rates.l2, warps * kStageOfWarp));
  const double finish = outputs * (kOutput + (splits > 1 ? kJoined : 0)) + k.threads * kThread;
  const double work = part * stage + finish;  // of a block that shares its multiprocessor
  const double alone = kStart + part * (kStage + products) + finish + (splits > 1 ? kJoin : 0);
  const Grid grid = grid_of(k, p);
  const uint32_t blocks = blocks_of(uint64_t{grid.x} * grid.y * splits, gpu.processors);
  return std::fmax(blocks * work, blocks_of(blocks, resident(k)) * alone);
}

}  // namespace

ConvChoice choose_conv(const Gpu& gpu, uint32_t a_bits, uint32_t w_bits, const ConvParams& p) {
  ConvChoice best;
  double least = 0;
  const bool gelu = p.epilogue.activation != Activation::kNone;
  for (const ConvKernel& k : kConvKernels) {
    if (k.a_bits != a_bits || k.w_bits != w_bits || k.gelu != gelu) continue;
    const uint32_t stages = blocks_of(p.k_steps, a_bits == 8 ? 1 : 2);
    for (uint32_t splits = 1; splits <= kMostSplits && splits <= stages; ++splits) {
      // No part may be empty.
      if (splits != blocks_of(stages, blocks_of(stages, splits))) continue;
      const double time = clocks(gpu, k, p, splits);
      if (best.kernel == nullptr || time < least) {
        best = {&k, splits};
        least = time;
      }
    }
  }
  return best;
}

}  // namespace mpq::cuda
