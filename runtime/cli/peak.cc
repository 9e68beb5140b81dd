#include "runtime/cli/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "runtime/mpq.h"

namespace mpq::cli {

namespace {

using Clock = std::chrono::steady_clock;

// Enough independent chains to cover the latency (5 cycles, 2 ports), all in registers. In
// assembly: a compiler that optimises little would keep them in memory.
constexpr uint64_t kChains = 12, kRounds = 20000;

// Eight tiles of 16 rows of 64 bytes, the largest there are.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Four chains: an instruction starts every 16 cycles and ends after 52.
constexpr uint64_t kTileChains = 4;
void multiply_amx() {
  static constexpr TileConfig kConfig;
  __asm__ volatile("ldtilecfg %0" : : "m"(kConfig));
  for (uint64_t i = 0; i < kRounds; ++i)
    __asm__ volatile(
        "tdpbusd %tmm7, %tmm6, %tmm0\n\t"
        "tdpbusd %tmm7, %tmm6, %tmm1\n\t"
        "tdpbusd %tmm7, %tmm6, %tmm2\n\t"
        "tdpbusd %tmm7, %tmm6, %tmm3");
  __asm__ volatile("tilerelease");
}

#define MPQ_TWELVE_REGISTERS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"

void multiply_avx512vnni() {
  for (uint64_t i = 0; i < kRounds; ++i)
    __asm__ volatile(
        ".irp sum, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
        "vpdpbusd %%zmm13, %%zmm12, %%zmm\\sum\n\t"
        ".endr"
        :
        :
        : MPQ_TWELVE_REGISTERS);
  __asm__ volatile("vzeroupper");
}

void multiply_avx2() {
  for (uint64_t i = 0; i < kRounds; ++i)
    __asm__ volatile(
        ".irp sum, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
        "vpmaddubsw %%ymm13, %%ymm12, %%ymm15\n\t"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm15\n\t"
        "vpaddd %%ymm15, %%ymm\\sum, %%ymm\\sum\n\t"
        ".endr"
        :
        :
        : MPQ_TWELVE_REGISTERS, "xmm15");
  __asm__ volatile("vzeroupper");
}

struct Unit {
  uint32_t isa;
  void (*multiply)();
  uint64_t ops;  // of the whole loop
};
constexpr Unit kUnits[] = {{MPQ_ISA_AMX, multiply_amx, kRounds* kTileChains * 16 * 16 * 64 * 2},
                           {MPQ_ISA_AVX512VNNI, multiply_avx512vnni, kRounds* kChains * 128},
                           {MPQ_ISA_AVX2, multiply_avx2, kRounds* kChains * 64}};

// The best of several short bursts: interruptions only ever make it look slower.
double best_rate(const Unit& unit) {
  constexpr int kBursts = 20;
  double best = 0.0;
  for (int i = 0; i < kBursts; ++i) {
    const Clock::time_point start = Clock::now();
    unit.multiply();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(unit.ops) / seconds);
  }
  return best;
}

}  // namespace

double peak_ops_per_second(uint32_t isa_mask, uint32_t threads) {
  const auto* const unit = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const Unit& u) {
    return (isa_mask & mpq_isa_available() & u.isa) != 0;
  });
  if (unit == std::end(kUnits)) return 0.0;
  std::vector<double> rates(std::max(threads, 1U));
  std::vector<std::thread> workers;
  for (size_t i = 1; i < rates.size(); ++i)
    workers.emplace_back([&, i] { rates[i] = best_rate(*unit); });
  rates[0] = best_rate(*unit);
  for (std::thread& worker : workers) worker.join();
  double sum = 0.0;
  for (const double rate : rates) sum += rate;
  return sum;
}

double read_bytes_per_second(size_t block_bytes, uint32_t threads) {
  constexpr size_t kLeastBlock = 1 << 12;
  constexpr double kSeconds = 0.1;
  threads = std::max(threads, 1U);
  const size_t share = std::max(block_bytes / threads, kLeastBlock);
  std::vector<double> rates(threads);
  const auto measure = [share](double* rate) {
    const std::vector<char> block(share, 2);  // touched: pages of its own
    const Clock::time_point begin = Clock::now();
    for (Clock::time_point now = begin;
         std::chrono::duration<double>(now - begin).count() < kSeconds;) {
      const Clock::time_point start = now;
      const void* const found = std::memchr(block.data(), 1, share);  // there is none
      __asm__ volatile("" : : "r"(found));
      now = Clock::now();
      *rate = std::max(
          *rate, static_cast<double>(share) / std::chrono::duration<double>(now - start).count());
    }
  };
  std::vector<std::thread> workers;
  for (size_t i = 1; i < rates.size(); ++i) workers.emplace_back([&, i] { measure(&rates[i]); });
  measure(rates.data());
  for (std::thread& worker : workers) worker.join();
  double sum = 0.0;
  for (const double rate : rates) sum += rate;
  return sum;
}

}  // namespace mpq::cli
