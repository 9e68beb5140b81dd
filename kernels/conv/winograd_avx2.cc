// Winograd F(2x2, 3x3) with vpmaddubsw in 16-bit sums (winograd.h and winograd_quarters.h have the
// algebra).
//
// A unit is up to 6 tiles. Units are taken in chunks whose transformed codes stay in L2. Half a
// panel's weights, 2 quarters, are transformed from their 4 bits and serve all units of a chunk in
// turn; for each quarter a unit's sums of the 16 positions stay in L1 until they are transformed to
// outputs.
//
//   x --B^T d B + 30--> V [position][tile][c]                  (u8)
//   w ---G g G^T------> U [position][k-group][16][4]           (s8)
//   start + V * U --> sums [position][tile][16] --A^T m A / 4--> pixels --> epilogue

#include "kernels/conv/epilogue_avx2.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx2.h"
#include "kernels/conv/tiling.h"
#include "kernels/conv/winograd_quarters.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kM = 2, kSide = 4, kPositions = kSide * kSide;
constexpr size_t kChunkBytes = 192 * 1024;  // transformed codes of a chunk
constexpr size_t kSkew = 64;                // keeps the positions out of each other's cache sets
constexpr uint32_t kPixelRow = kM * kTilePixels * kPanelChannels;  // sums of a row of outputs

// Sizes and places in scratch, in bytes.
struct Plan {
  size_t channels, position_input, unit_input, position_weights, quarter_weights, weights_at, total;
  uint32_t chunk_units;
  Plan(const ConvShape& s, uint32_t cb) {
    channels = winograd_groups(s, cb) * 4;
    position_input = kTilePixels * channels + kSkew;
    unit_input = kPositions * position_input;
    chunk_units = static_cast<uint32_t>(kChunkBytes / unit_input);
    chunk_units = min(chunk_units == 0 ? 1 : chunk_units, Tiling(s, kM, kTilePixels).units);
    position_weights = channels / 4 * kQuarterGroup + kSkew;
    quarter_weights = kPositions * position_weights;
    weights_at = chunk_units * unit_input;
    total = weights_at + 2 * quarter_weights;
  }
};

inline __m256i add8(__m256i a, __m256i b) { return _mm256_add_epi8(a, b); }
inline __m256i sub8(__m256i a, __m256i b) { return _mm256_sub_epi8(a, b); }
inline __m256i add32(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
inline __m256i sub32(__m256i a, __m256i b) { return _mm256_sub_epi32(a, b); }

// B^T d
inline void transform_codes(const __m256i d[kSide], __m256i v[kSide]) {
  v[0] = sub8(d[0], d[2]);
  v[1] = add8(d[1], d[2]);
  v[2] = sub8(d[2], d[1]);
  v[3] = sub8(d[3], d[1]);
}

// 32 codes, or 16 of a narrower block.
template <bool kWhole>
inline __m256i load_codes(const uint8_t* at) {
  if constexpr (kWhole) return load(at);
  return _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
template <bool kWhole>
inline void store_codes(uint8_t* at, __m256i codes) {
  if constexpr (kWhole)
    store(at, codes);
  else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_castsi256_si128(codes));
}

// The codes of neighbouring tiles. Rows and columns that only serve outputs outside the image do
// not exist: any existing one may stand in, since those outputs are dropped.
template <bool kWhole>
void transform_input(const ConvArgs& a, const Run& run, const Plan& plan, uint8_t* out) {
  constexpr uint32_t kStep = kWhole ? 32 : 16;
  const uint32_t cb = a.x.cb, last_row = a.shape.oh + 1, last_column = a.shape.ow + 1;
  const __m256i offset = _mm256_set1_epi8(kQuartersOffset);
  const uint8_t* rows[kSide];
  for (uint32_t i = 0; i < kSide; ++i)
    rows[i] = a.x.data + run.image * a.x.image +
              static_cast<ptrdiff_t>(min(kM * run.y + i, last_row)) * a.x.row;
  for (uint32_t c = 0; c < plan.channels; c += kStep, out += kStep) {
    const ptrdiff_t block = static_cast<ptrdiff_t>(c / cb) * a.x.plane + c % cb;
    __m256i columns[kSide][kSide];  // [column][row]
    const auto load_column = [&](uint32_t x, __m256i column[kSide]) {
      const ptrdiff_t at = block + static_cast<ptrdiff_t>(min(x, last_column)) * cb;
      __m256i d[kSide];
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kSide; ++i) d[i] = load_codes<kWhole>(rows[i] + at);
      transform_codes(d, column);
    };
    load_column(kM * run.x, columns[2]);
    load_column(kM * run.x + 1, columns[3]);
    uint8_t* to = out;
    for (uint32_t t = 0; t < run.tiles; ++t, to += plan.channels) {
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kSide; ++i) {
        columns[0][i] = columns[2][i];
        columns[1][i] = columns[3][i];
      }
      load_column(kM * (run.x + t) + 2, columns[2]);
      load_column(kM * (run.x + t) + 3, columns[3]);
      uint8_t* position = to;
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kSide; ++i) {
        __m256i d[kSide], v[kSide];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kSide; ++j) d[j] = columns[j][i];
        transform_codes(d, v);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kSide; ++j, position += plan.position_input)
          store_codes<kWhole>(position, i == 1 && j == 1 ? v[j] : add8(v[j], offset));
      }
    }
  }
}

// G g
inline void transform_taps(const __m256i g[3], __m256i u[kSide]) {
  const __m256i ends = add8(g[0], g[2]);
  u[0] = add8(g[0], g[0]);
  u[1] = add8(ends, g[1]);
  u[2] = sub8(ends, g[1]);
  u[3] = add8(g[2], g[2]);
}

// A quarter's weights, [position][k-group][16][4].
void transform_weights(const uint8_t* packed, size_t groups, size_t position_weights, int8_t* out) {
  const __m256i low = _mm256_set1_epi8(15), eight = _mm256_set1_epi8(8);
  for (size_t g = 0; g < groups; ++g, packed += 9 * kTapBytes, out += kQuarterGroup)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      __m256i columns[3][kSide];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        __m256i taps[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) {
          __m256i both = load(packed + (3 * i + j) * static_cast<ptrdiff_t>(kTapBytes));
          if (v == 1) both = _mm256_srli_epi16(both, 4);
          taps[i] = sub8(_mm256_and_si256(both, low), eight);
        }
        transform_taps(taps, columns[j]);
      }
      int8_t* to = out + 32 * v;
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kSide; ++i) {
        const __m256i row[3] = {columns[0][i], columns[1][i], columns[2][i]};
        __m256i u[kSide];
        transform_taps(row, u);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kSide; ++j, to += position_weights) store(to, u[j]);
      }
    }
}

// A quarter's weights: stretches of steps of 4 k-groups, and where the sums of each begin.
struct Quarter {
  const uint32_t* ends;
  uint32_t stretches;
  const uint8_t* starts;    // [position]
  size_t position_starts;   // bytes
  const int8_t* weights;    // transformed
  const uint8_t* prefetch;  // these many lines for each position
  size_t prefetch_lines;
};

// Sums of 16 channels of all tiles at each position: [position][tile][16].
template <int kTiles>
void multiply_quarter(const uint8_t* input, const Plan& plan, const Quarter& quarter,
                      int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (uint32_t at = 0; at < kPositions; ++at) {
    const uint8_t* tiles[kTiles];
#pragma GCC unroll 6
    for (int t = 0; t < kTiles; ++t) tiles[t] = input + static_cast<size_t>(t) * plan.channels;
    const uint8_t* ahead = quarter.prefetch + at * quarter.prefetch_lines * 64;
    for (size_t i = 0; i < quarter.prefetch_lines; ++i, ahead += 64)
      __builtin_prefetch(ahead, 0, 2);
    const uint8_t* start = quarter.starts + at * quarter.position_starts;
    const int8_t* w = quarter.weights + at * plan.position_weights;
    uint32_t step = 0;
    for (uint32_t s = 0; s < quarter.stretches; ++s, start += kQuarterGroup) {
      __m256i acc[kTiles][2];
#pragma GCC unroll 12
      for (int i = 0; i < kTiles * 2; ++i) acc[i / 2][i % 2] = load(start + i % 2 * 32);
      const uint32_t end = quarter.ends[s];
      ptrdiff_t k = static_cast<ptrdiff_t>(step) * 4 * kStretchStep;
      if ((end - step) % 2 != 0) {
        multiply_groups<kTiles, kStretchStep>(tiles, k, w, acc);
        w += kStretchStep * kQuarterGroup;
        k += 4 * kStretchStep;
        ++step;
      }
#pragma GCC unroll 1
      for (; step < end; step += 2, k += 8 * kStretchStep, w += 2 * kStretchStep * kQuarterGroup)
        multiply_groups<kTiles, 2 * kStretchStep>(tiles, k, w, acc);
#pragma GCC unroll 12
      for (int i = 0; i < kTiles * 2; ++i) {
        __m256i sum = _mm256_madd_epi16(acc[i / 2][i % 2], ones);
        if (s > 0) sum = add32(sum, load(sums + 8 * i));
        store(sums + 8 * i, sum);
      }
    }
    input += plan.position_input;
    sums += kTilePixels * kQuarterChannels;
  }
}

using MultiplyFn = void (*)(const uint8_t*, const Plan&, const Quarter&, int32_t*);
constexpr MultiplyFn kMultiply[kTilePixels] = {multiply_quarter<1>, multiply_quarter<2>,
                                               multiply_quarter<3>, multiply_quarter<4>,
                                               multiply_quarter<5>, multiply_quarter<6>};

// A^T m
inline void transform_sums(const __m256i m[kSide], __m256i y[kM]) {
  y[0] = add32(add32(m[0], m[1]), m[2]);
  y[1] = add32(sub32(m[1], m[2]), m[3]);
}

// sums [position][tile][16] -> pixels [row][2 * tile + column][64] of the 16 channels. `centre`
// belongs to position (1, 1), `start` to the outputs.
void transform_output(const int32_t* sums, uint32_t tiles, const int32_t* centre,
                      const int32_t* start, int32_t* pixels) {
  constexpr size_t kPosition = kTilePixels * kQuarterChannels;
#pragma GCC unroll 2
  for (uint32_t c = 0; c < kQuarterChannels; c += 8) {
    const __m256i from_centre = load(centre + c), from_start = load(start + c);
    for (uint32_t t = 0; t < tiles; ++t) {
      const int32_t* from = sums + t * kQuarterChannels + c;
      __m256i halves[kM][kSide];
#pragma GCC unroll 4
      for (uint32_t i = 0; i < kSide; ++i, from += kSide * kPosition) {
        __m256i m[kSide], y[kM];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < kSide; ++j) m[j] = load(from + j * kPosition);
        if (i == 1) m[1] = add32(m[1], from_centre);
        transform_sums(m, y);
        halves[0][i] = y[0];
        halves[1][i] = y[1];
      }
#pragma GCC unroll 2
      for (uint32_t j = 0; j < kM; ++j) {
        __m256i y[kM];
        transform_sums(halves[j], y);
        int32_t* to = pixels + (kM * t + j) * kPanelChannels + c;
        store(to, add32(_mm256_srai_epi32(y[0], 2), from_start));
        store(to + kPixelRow, add32(_mm256_srai_epi32(y[1], 2), from_start));
      }
    }
  }
}

class WinogradConv {
 public:
  WinogradConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        plan_(a.shape, a.x.cb),
        tiling_(a.shape, kM, kTilePixels),
        layout_(a.shape, a.x.cb),
        input_(static_cast<uint8_t*>(context.scratch)),
        weights_(reinterpret_cast<int8_t*>(input_ + plan_.weights_at)) {}

  void run() {
    for (uint32_t first = part_.unit_begin; first < part_.unit_end; first += plan_.chunk_units) {
      const uint32_t units = min(part_.unit_end - first, plan_.chunk_units);
      for (uint32_t i = 0; i < units; ++i)
        tiling_.for_each_run(tiling_.unit(first + i), [&](const Run& run) {
          (a_.x.cb % 32 == 0 ? transform_input<true>
                             : transform_input<false>)(a_, run, plan_,
                                                       input_ + i * plan_.unit_input +
                                                           run.first * plan_.channels);
        });
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        const PanelForm form = panel_form(a_.epilogue, p * kPanelChannels);
        for (uint32_t half = 0; half < min(a_.shape.o - p * kPanelChannels, kPanelChannels);
             half += kHalf) {
          enter(p, half, units);
          for (uint32_t i = 0; i < units; ++i)
            run_unit(tiling_.unit(first + i), input_ + i * plan_.unit_input, p, half, form);
        }
      }
    }
  }

 private:
  const uint8_t* packed(uint32_t panel) const {
    return static_cast<const uint8_t*>(a_.weights) + panel * layout_.panel_bytes;
  }
  static uint32_t quarter_of(uint32_t channel) { return channel / kQuarterChannels; }

  // Transforms half a panel's weights; while they are used, the next half comes from memory.
  void enter(uint32_t panel, uint32_t half, uint32_t units) {
    const bool last = half > 0 && panel + 1 == part_.panel_end;
    const size_t half_bytes = 2 * layout_.quarter_weights;
    next_ = packed(half > 0 ? panel + 1 : panel) + layout_.weights_at + (half > 0 ? 0 : half_bytes);
    next_lines_ = last ? 0 : half_bytes / 64 / (units * 2 * kPositions) + 1;
    for (uint32_t i = 0; i < 2; ++i)
      transform_weights(
          packed(panel) + layout_.weights_at + (quarter_of(half) + i) * layout_.quarter_weights,
          layout_.groups, plan_.position_weights, weights_ + i * plan_.quarter_weights);
  }

  void run_unit(const TileRange& u, const uint8_t* input, uint32_t panel, uint32_t half,
                PanelForm form) {
    const uint8_t* at = packed(panel);
    const auto* header = reinterpret_cast<const WinogradQuartersHeader*>(at);
    alignas(64) int32_t sums[kPositions * kTilePixels * kQuarterChannels];
    alignas(64) int32_t pixels[kM * kPixelRow];
    for (uint32_t c = half; c < half + kHalf; c += kQuarterChannels) {
      const Quarter quarter = {reinterpret_cast<const uint32_t*>(at + layout_.ends_at),
                               header->stretches,
                               at + layout_.starts_at + quarter_of(c) * layout_.quarter_starts,
                               layout_.position_starts,
                               weights_ + quarter_of(c - half) * plan_.quarter_weights,
                               next_,
                               next_lines_};
      next_ += kPositions * next_lines_ * 64;
      kMultiply[u.tiles - 1](input, plan_, quarter, sums);
      transform_output(sums, u.tiles, header->start + c, start_of(a_, panel) + c, pixels + c);
    }
    const ConvShape& s = a_.shape;
    tiling_.for_each_run(u, [&](const Run& run) {
      const uint32_t x = kM * run.x, width = min(s.ow - x, kM * run.tiles);
      const int32_t* row = pixels + kM * run.first * kPanelChannels;
      for (uint32_t y = kM * run.y; y < min(kM * (run.y + 1), s.oh); ++y, row += kPixelRow)
        run_epilogue(row, a_, block_at(s, Unit{run.image, y, x, width}, panel), form, half);
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Plan plan_;
  const Tiling tiling_;
  const WinogradQuarters layout_;
  uint8_t* const input_;
  int8_t* const weights_;          // of half a panel, transformed
  const uint8_t* next_ = nullptr;  // packed weights to prefetch
  size_t next_lines_ = 0;          // at each position
};

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = Tiling(s, kM, kTilePixels).units;
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return Plan(s, cb).total; }

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  WinogradConv(a, part, context).run();
}

}  // namespace

const ConvKernel conv_u4s4_winograd2_avx2 = {"conv_u4s4_winograd2_avx2",
                                             kIsaAvx2,
                                             Elem::s4,
                                             kQuartersMaxCode,
                                             kWinogradQuartersLayout,
                                             winograd_quarters_fit,
                                             winograd_quarters_bytes,
                                             pack_winograd_quarters,
                                             units,
                                             scratch_bytes,
                                             run,
                                             winograd_quarters_cost};

}  // namespace mpq::kernels
