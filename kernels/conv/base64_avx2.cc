// Two pixels of 2-bit codes in a byte, two sums in 16 bits (base64.h), any shape.
//
// Units are taken in chunks whose codes, pixels in pairs and taps side by side, are copied into
// scratch that stays in L2. A tile is 2 pairs x 16 channels: 4 registers of sums and 8 of what the
// stretches before have come to.

#include "kernels/conv/base64.h"
#include "kernels/conv/epilogue_avx2.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx2.h"
#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kUnitPairs = 12, kUnitPixels = 2 * kUnitPairs, kTilePairs = 2;
constexpr size_t kChunkBytes = 192 * 1024;  // of codes

struct Plan {
  size_t groups, pair_bytes, unit_bytes;
  uint32_t chunk_units;
  Plan(const ConvShape& s, uint32_t cb) {
    groups = panel_groups(s, cb);
    pair_bytes = (groups * 4 + 63) / 64 * 64 + 64;  // out of each other's cache sets
    unit_bytes = kUnitPairs * pair_bytes;
    chunk_units =
        min(static_cast<uint32_t>(kChunkBytes / unit_bytes) + 1, Tiling(s, 1, kUnitPixels).units);
  }
};

// n bytes, a multiple of 4: a + 64 b.
inline void join_codes(const uint8_t* a, const uint8_t* b, uint32_t n, uint8_t* to) {
  uint32_t i = 0;
  for (; i + 32 <= n; i += 32)
    store(to + i, _mm256_or_si256(load(a + i), _mm256_slli_epi16(load(b + i), 6)));
  for (; i < n; i += 4) {
    uint32_t x, y;
    __builtin_memcpy(&x, a + i, 4);
    __builtin_memcpy(&y, b + i, 4);
    x |= y << 6;
    __builtin_memcpy(to + i, &x, 4);
  }
}

struct TileOfPairs {
  const uint8_t* codes;  // of the first pair
  size_t pair_bytes, groups;
  const int8_t* packed;     // of the quarter
  const int32_t* start;     // of its channels
  int32_t *first, *second;  // sums of the first pair's pixels; the next ones' lie behind them
  const int8_t* prefetch;   // a line at each stretch
};

template <int kPairs, int kStretch>
void multiply_pairs(const TileOfPairs& t) {
  const uint8_t* codes[kPairs];
  __m256i low[kPairs][2], high[kPairs][2];
#pragma GCC unroll 2
  for (int p = 0; p < kPairs; ++p) {
    codes[p] = t.codes + static_cast<size_t>(p) * t.pair_bytes;
    low[p][0] = low[p][1] = high[p][0] = high[p][1] = _mm256_setzero_si256();
  }
  const __m256i six_bits = _mm256_set1_epi16(kBase - 1);
  const int8_t *packed = t.packed, *ahead = t.prefetch;
  size_t left = t.groups;
  ptrdiff_t k = 0;
  while (left > 0) {
    __m256i acc[kPairs][2];
#pragma GCC unroll 4
    for (int i = 0; i < kPairs * 2; ++i) acc[i / 2][i % 2] = load(packed + i % 2 * 32);
    packed += kQuarterGroup;
    __builtin_prefetch(ahead, 0, 2);
    ahead += 64;
    if (left >= kStretch) {
      multiply_groups<kPairs, kStretch>(codes, k, packed, acc);
      packed += kStretch * kQuarterGroup;
      k += 4 * kStretch;
      left -= kStretch;
    } else {
      for (; left > 0; --left, k += 4, packed += kQuarterGroup)
        multiply_groups<kPairs, 1>(codes, k, packed, acc);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kPairs * 2; ++i) {
      const __m256i sum = acc[i / 2][i % 2];
      low[i / 2][i % 2] = _mm256_add_epi16(low[i / 2][i % 2], _mm256_and_si256(sum, six_bits));
      high[i / 2][i % 2] = _mm256_add_epi16(high[i / 2][i % 2], _mm256_srli_epi16(sum, 6));
    }
  }
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
  for (int i = 0; i < kPairs * 2; ++i) {
    const __m256i start = load(t.start + i % 2 * 8);
    const size_t at = static_cast<size_t>(i / 2) * kPanelChannels + i % 2 * 8;
    store(t.first + at, _mm256_add_epi32(_mm256_madd_epi16(low[i / 2][i % 2], ones), start));
    store(t.second + at, _mm256_add_epi32(_mm256_madd_epi16(high[i / 2][i % 2], ones), start));
  }
}

using PairsFn = void (*)(const TileOfPairs&);
// [stretch - kMinStretch][pairs - 1]
constexpr PairsFn kMultiplyPairs[][kTilePairs] = {{multiply_pairs<1, 5>, multiply_pairs<2, 5>},
                                                  {multiply_pairs<1, 6>, multiply_pairs<2, 6>},
                                                  {multiply_pairs<1, 7>, multiply_pairs<2, 7>},
                                                  {multiply_pairs<1, 8>, multiply_pairs<2, 8>}};

class Base64Conv {
 public:
  Base64Conv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        plan_(a.shape, a.x.cb),
        tiling_(a.shape, 1, kUnitPixels),
        codes_(static_cast<uint8_t*>(context.scratch)) {}

  void run() {
    for (uint32_t first = part_.unit_begin; first < part_.unit_end; first += plan_.chunk_units) {
      const uint32_t units = min(part_.unit_end - first, plan_.chunk_units);
      for (uint32_t i = 0; i < units; ++i)
        copy_unit(tiling_.unit(first + i), codes_ + i * plan_.unit_bytes);
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        enter(p);
        for (uint32_t i = 0; i < units; ++i)
          run_unit(tiling_.unit(first + i), codes_ + i * plan_.unit_bytes, p);
      }
    }
  }

 private:
  static uint32_t pairs_of(const TileRange& unit) { return ceil_div(unit.tiles, 2); }

  // Pixel i and the one half a unit further; an odd one out is paired with itself.
  void copy_unit(const TileRange& unit, uint8_t* to) {
    const ConvShape& s = a_.shape;
    const uint8_t* inputs[kUnitPixels];
    tiling_.for_each_run(unit, [&](const Run& run) {
      const uint8_t* x = input_of(a_, pixels_of(run));
      for (uint32_t i = 0; i < run.tiles; ++i, x += s.stride_w * a_.x.cb) inputs[run.first + i] = x;
    });
    const uint32_t pairs = pairs_of(unit), cb = a_.x.cb;
    for (uint32_t i = 0; i < pairs; ++i, to += plan_.pair_bytes) {
      const uint8_t *a = inputs[i], *b = inputs[min(i + pairs, unit.tiles - 1)];
      uint8_t* at = to;
      for (uint32_t c = 0; c < s.c; c += cb)
        for (uint32_t r = 0; r < s.r; ++r)
          for (uint32_t q = 0; q < s.s; ++q, at += cb) {
            const ptrdiff_t tap = c / cb * a_.x.plane +
                                  static_cast<ptrdiff_t>(r) * s.dilation_h * a_.x.row +
                                  static_cast<ptrdiff_t>(q) * s.dilation_w * cb;
            join_codes(a + tap, b + tap, cb, at);
          }
    }
  }

  void enter(uint32_t panel) {
    const size_t bytes = base64_panel(plan_.groups);
    header_ = reinterpret_cast<const Base64Header*>(static_cast<const uint8_t*>(a_.weights) +
                                                    panel * bytes);
    form_ = panel_form(a_.epilogue, panel * kPanelChannels);
    const int32_t* start = start_of(a_, panel);
    for (uint32_t i = 0; i < kPanelChannels; ++i) start_[i] = start[i] + header_->start[i];
    next_ = reinterpret_cast<const int8_t*>(header_) + bytes;
    next_end_ = next_ + (panel + 1 < part_.panel_end ? bytes : 0);
  }

  void run_unit(const TileRange& unit, const uint8_t* codes, uint32_t panel) {
    const ConvShape& s = a_.shape;
    tiling_.for_each_run(unit, [&](const Run& run) {
      prefetch_block(a_.epilogue, a_.y, block_at(s, pixels_of(run), panel));
    });
    alignas(64) int32_t sums[kUnitPixels * kPanelChannels];
    const uint32_t pairs = pairs_of(unit), stretch = header_->stretch;
    const uint32_t channels = channels_of_halves(s, panel);
    TileOfPairs tile = {};
    tile.pair_bytes = plan_.pair_bytes;
    tile.groups = plan_.groups;
    for (uint32_t c = 0; c < channels; c += kQuarterChannels) {
      tile.packed = reinterpret_cast<const int8_t*>(header_ + 1) +
                    c / kQuarterChannels * base64_quarter(plan_.groups, stretch);
      tile.start = start_ + c;
      for (uint32_t i = 0; i < pairs; i += kTilePairs) {
        tile.codes = codes + i * plan_.pair_bytes;
        tile.first = sums + i * kPanelChannels + c;
        tile.second = tile.first + pairs * kPanelChannels;
        tile.prefetch = next_ < next_end_ ? next_ : tile.packed;
        kMultiplyPairs[stretch - kMinStretch][min(pairs - i, kTilePairs) - 1](tile);
        next_ += ceil_div(static_cast<uint32_t>(plan_.groups), stretch) * 64;
      }
    }
    tiling_.for_each_run(unit, [&](const Run& run) {
      run_epilogues(sums + run.first * kPanelChannels, a_, block_at(s, pixels_of(run), panel),
                    form_);
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Plan plan_;
  const Tiling tiling_;
  uint8_t* const codes_;
  const Base64Header* header_ = nullptr;
  PanelForm form_ = {};
  alignas(32) int32_t start_[kPanelChannels];
  const int8_t *next_ = nullptr, *next_end_ = nullptr;  // packed weights to prefetch
};

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = Tiling(s, 1, kUnitPixels).units;
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  const Plan plan(s, cb);
  return plan.chunk_units * plan.unit_bytes;
}

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  Base64Conv(a, part, context).run();
}

// 0.69 to 0.87 of conv_u4s4_6x16_avx2's time in ResNet-50, Zen 3: less the longer the sums.
float cost(const ConvShape&, uint32_t, CpuFamily) { return 3.0F; }

}  // namespace

const ConvKernel conv_u2s2_base64_avx2 = {"conv_u2s2_base64_avx2",
                                          kIsaAvx2,
                                          Elem::s2,
                                          kBaseMaxCode,
                                          kBase64Layout,
                                          base64_fits,
                                          base64_bytes,
                                          pack_base64,
                                          units,
                                          scratch_bytes,
                                          run,
                                          cost};

}  // namespace mpq::kernels
