// Direct convolution with AVX2. Weights are bytes in memory whatever their width
// ("quarter16_s8_v1").
//
// vpmaddubsw adds two u8 x s8 products in 16 bits and saturates. So:
//   narrow rows: the products are small enough (4 bits: 2 * 15 * 8 = 240) that many k-groups add up
//     in 16 bits before vpmaddwd widens them to 32; how many is what fits 32767.
//   the wide row: 8-bit codes times 8-bit weights; bytes are split into even and odd 16-bit lanes
//     and multiplied by vpmaddwd, exact for any codes, at half the rate.
//
// A unit is up to 24 pixels, for which each quarter of a panel is read four times while it is in
// L1; sums wait in L1 for one epilogue.

#include "kernels/conv/epilogue_avx2.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx2.h"
#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kUnitPixels = 24;

// 8-bit codes and weights, exactly: 16-bit lanes of even and odd bytes.
template <int kPixels, int kGroups>
void multiply_wide(const TileArgs& t) {
  __m256i acc[kPixels][2];
#pragma GCC unroll 8
  for (int i = 0; i < kPixels * 2; ++i)
    acc[i / 2][i % 2] = load(t.start + i / 2 * t.start_step + i % 2 * 8);
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
  const int8_t* w = t.w;
#pragma GCC unroll 1
  for (size_t step = 0; step < t.steps; ++step)
#pragma GCC unroll 1
    for (int g = 0; g < kGroups; ++g, w += kQuarterGroup) {
      __m256i even[2], odd[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const __m256i both = load(w + 32 * v);
        even[v] = _mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8);
        odd[v] = _mm256_srai_epi16(both, 8);
      }
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const __m256i a = broadcast_codes(t.pixels[p] + t.offsets[step] + 4 * g);
        const __m256i a_even = _mm256_and_si256(a, low_bytes), a_odd = _mm256_srli_epi16(a, 8);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          acc[p][v] = _mm256_add_epi32(acc[p][v], _mm256_madd_epi16(a_even, even[v]));
          acc[p][v] = _mm256_add_epi32(acc[p][v], _mm256_madd_epi16(a_odd, odd[v]));
        }
      }
    }
#pragma GCC unroll 8
  for (int i = 0; i < kPixels * 2; ++i)
    store(t.sums + i / 2 * kPanelChannels + i % 2 * 8, acc[i / 2][i % 2]);
}

template <int kGroups>
constexpr TileFn kWideTiles[4] = {multiply_wide<1, kGroups>, multiply_wide<2, kGroups>,
                                  multiply_wide<3, kGroups>, multiply_wide<4, kGroups>};

// The tiles of a row: [pixels - 1], of how many pixels, k-groups that add up in 16 bits.
struct Tiles {
  const TileFn* fn;
  uint32_t pixels;
  size_t groups_at_once;
};

// Products of at most max_code * max_weight, k-groups in steps of kGroups.
template <int32_t kMaxCode, int32_t kMaxWeight, int kGroups>
constexpr Tiles tiles() {
  constexpr int32_t kAtOnce = 32767 / (2 * kMaxCode * kMaxWeight);
  if constexpr (kAtOnce >= kGroups)
    return {kTiles<kGroups>, kTilePixels, kAtOnce};
  else
    return {kWideTiles<kGroups>, 4, kGroups};
}

// k-groups at constant distances: 8 of a block of 32 channels or more.
constexpr uint32_t step_groups(uint32_t cb) { return cb % 32 == 0 ? 8 : cb % 16 == 0 ? 4 : 1; }

class DirectConv {
 public:
  DirectConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context, Tiles tiles)
      : a_(a),
        part_(part),
        tiles_(tiles),
        groups_(panel_groups(a.shape, a.x.cb)),
        tiling_(a.shape, 1, kUnitPixels),
        offsets_(static_cast<ptrdiff_t*>(context.scratch)) {
    const uint32_t step = step_groups(a.x.cb);
    fill_offsets(a, offsets_);
    tile_.steps = groups_ / step;
    for (size_t i = 0; i < tile_.steps; ++i) offsets_[i] = offsets_[i * step];
    tile_.offsets = offsets_;
    tile_.steps_at_once = tiles_.groups_at_once / step;
  }

  void run() {
    for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
      const PanelForm form = panel_form(a_.epilogue, p * kPanelChannels);
      const size_t panel_bytes = groups_ * kGroupBytes;
      next_ = static_cast<const int8_t*>(a_.weights) + (p + 1) * panel_bytes;
      next_end_ = next_ + (p + 1 < part_.panel_end ? panel_bytes : 0);
      for (uint32_t unit = part_.unit_begin; unit < part_.unit_end; ++unit)
        run_unit(tiling_.unit(unit), p, form);
    }
  }

 private:
  void run_unit(const TileRange& unit, uint32_t panel, PanelForm form) {
    const uint8_t* inputs[kUnitPixels];
    tiling_.for_each_run(unit, [&](const Run& run) {
      const uint8_t* x = input_of(a_, pixels_of(run));
      for (uint32_t i = 0; i < run.tiles; ++i, x += a_.shape.stride_w * a_.x.cb)
        inputs[run.first + i] = x;
      prefetch_block(a_.epilogue, a_.y, block_at(a_.shape, pixels_of(run), panel));
    });
    alignas(64) int32_t sums[kUnitPixels * kPanelChannels];
    const uint32_t parts = ceil_div(unit.tiles, tiles_.pixels), size = unit.tiles / parts,
                   larger = unit.tiles % parts;  // parts of size + 1
    const uint32_t channels = channels_of_halves(a_.shape, panel);
    for (uint32_t c = 0; c < channels; c += kQuarterChannels) {
      tile_.w = static_cast<const int8_t*>(a_.weights) +
                (panel * kPanelChannels + c) / kQuarterChannels * groups_ * kQuarterGroup;
      tile_.start = start_of(a_, panel) + c;
      tile_.sums = sums + c;
      tile_.pixels = inputs;
      for (uint32_t i = 0; i < parts; ++i) {
        const uint32_t pixels = i < larger ? size + 1 : size;
        // The next panel, which may come from memory. Past its end: what is in L1 anyhow.
        tile_.prefetch = next_ < next_end_ ? next_ : tile_.w;
        tiles_.fn[pixels - 1](tile_);
        next_ += tile_.steps * 64;
        tile_.pixels += pixels;
        tile_.sums += pixels * kPanelChannels;
      }
    }
    tiling_.for_each_run(unit, [&](const Run& run) {
      run_epilogues(sums + run.first * kPanelChannels, a_,
                    block_at(a_.shape, pixels_of(run), panel), form);
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Tiles tiles_;
  const size_t groups_;
  const Tiling tiling_;
  ptrdiff_t* const offsets_;
  TileArgs tile_ = {};
  const int8_t *next_ = nullptr, *next_end_ = nullptr;  // packed weights to prefetch
};

template <int32_t kMaxCode, int32_t kMaxWeight>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const uint32_t step = step_groups(a.x.cb);
  DirectConv(a, part, context,
             step == 8   ? tiles<kMaxCode, kMaxWeight, 8>()
             : step == 4 ? tiles<kMaxCode, kMaxWeight, 4>()
                         : tiles<kMaxCode, kMaxWeight, 1>())
      .run();
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = Tiling(s, 1, kUnitPixels).units;
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return offset_bytes(s, cb); }

// Measured on ResNet-50's layers, Zen 3.
template <int32_t kMaxCode, int32_t kMaxWeight>
float cost(const ConvShape&, uint32_t, CpuFamily) {
  constexpr int32_t kAtOnce = 32767 / (2 * kMaxCode * kMaxWeight);
  return kAtOnce == 0 ? 9.6F : kAtOnce < 16 ? 4.8F : 4.0F;
}

template <int32_t kMaxCode, int32_t kMaxWeight>
constexpr ConvKernel row(const char* name, Elem weights) {
  return {name,
          kIsaAvx2,
          weights,
          kMaxCode,
          "quarter16_s8_v1",
          panels_fit,
          quarters_bytes,
          pack_quarters,
          units,
          scratch_bytes,
          run<kMaxCode, kMaxWeight>,
          cost<kMaxCode, kMaxWeight>};
}

}  // namespace

const ConvKernel conv_u8s8_4x16_avx2 = row<255, 128>("conv_u8s8_4x16_avx2", Elem::s8);
const ConvKernel conv_u8s4_6x16_avx2 = row<255, 8>("conv_u8s4_6x16_avx2", Elem::s4);
const ConvKernel conv_u4s8_6x16_avx2 = row<15, 128>("conv_u4s8_6x16_avx2", Elem::s8);
const ConvKernel conv_u4s4_6x16_avx2 = row<15, 8>("conv_u4s4_6x16_avx2", Elem::s4);

}  // namespace mpq::kernels
