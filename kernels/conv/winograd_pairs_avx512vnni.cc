// Winograd F(2x2, 3x3) with products by pairs (winograd_pairs.h), for cores whose byte additions
// have ports of their own.
//
// A unit is up to 6 tiles, taken with 32 channels at a time. Its sums of a row of positions stay in
// registers until they are combined along the row, whose ends are added onto what the middle two
// positions make (A^T = 1 1 1 0; 0 1 -1 1):
//
//   a = sums of 1, b = sums of 2;  a, b = a + b, a - b;  a += sums of 0, b += sums of 3
//
// and rows are combined in the same order, so 4 vectors are stored for 16 sums, not 28:
//
//   row 1 -> halves; row 2: halves = halves + row, halves - row; row 0 -> upper, row 3 -> lower
//   pixels

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"
#include "kernels/conv/winograd_pairs.h"
#include "kernels/conv/winograd_walk_avx512.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kUnitTiles = 6, kM = 2, kSide = 4;
constexpr int kPairs = kPairsOfBlock;
constexpr uint32_t kHalfChannels = 32;
// int32 of a unit: sums of a column of outputs, of a row of them.
constexpr size_t kColumnSums = kUnitTiles * kPanelChannels, kRowSums = kM * kColumnSums;

#define MPQ_ADD_BYTES(sum, a, b) __asm__ volatile("vpaddb %2, %1, %0" : "=v"(sum) : "v"(a), "v"(b))

struct Winograd2Pairs : Winograd2 {
  static constexpr WinogradForm kForm = kWinogradPairs;
};

// A row of positions of a unit, 32 channels.
struct RowArgs {
  const uint8_t* x;  // V of the row's first position
  InputSteps steps;
  const int8_t* w;  // U of it
  size_t position_weights, blocks;
  const int8_t* prefetch;  // brought to L2 on the way, a line a pair of k-groups
  size_t prefetch_step;    // 64, or 0 when there is nothing to fetch
  uint32_t row;
  int32_t* halves;  // [upper, lower][column][tile][64]
  // Of rows 0 and 3:
  const int32_t *constant, *correction;  // [column][64], [column][tile]: added, taken off
  const int32_t* start;                  // [64], added after the division
  int32_t* pixels;                       // [2 * tile + column][64]
};

template <int kTiles>
using Sums = __m512i[kTiles][2];

// A k-group directly. Functions, since g++ 12 keeps no array that a lambda refers to in registers.
template <int kTiles>
__attribute__((always_inline)) inline void multiply_group(const uint8_t* codes, ptrdiff_t step,
                                                          const int8_t* weights, Sums<kTiles> acc) {
  const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64);
#pragma GCC unroll 6
  for (int p = 0; p < kTiles; ++p) {
    __m512i code;
    MPQ_BROADCAST(code, *reinterpret_cast<const UnalignedInt*>(codes + p * step));
    MPQ_DPBUSD(acc[p][0], code, w0);
    MPQ_DPBUSD(acc[p][1], code, w1);
  }
}

// Sums of a position: pairs and direct products in turns.
template <int kTiles>
__attribute__((always_inline)) inline void multiply(const RowArgs& t, uint32_t column,
                                                    const int8_t*& prefetch, Sums<kTiles> acc) {
  constexpr size_t kOther = kPairs * kGroupBytes;  // from a pair's first weights to the second
  const uint8_t* x = t.x + column * t.steps.position;
  const int8_t* w = t.w + column * t.position_weights;
  ptrdiff_t step = static_cast<ptrdiff_t>(t.steps.tile);
#pragma GCC unroll 1
  for (size_t block = 0; block < t.blocks; ++block, x += 64, w += 16 * kGroupBytes) {
    const uint8_t* codes = x;
    const int8_t* weights = w;
#pragma GCC unroll 1
    for (int i = 0; i < kPairs; ++i, codes += 4, weights += kGroupBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
      prefetch += t.prefetch_step;
      __asm__ volatile("" : "+r"(step));  // else g++ keeps its multiples, more than fit registers
      __m512i w0[2], w1[2];
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        w0[v] = _mm512_loadu_si512(weights + 64 * v);
        w1[v] = _mm512_loadu_si512(weights + kOther + 64 * v);
      }
#pragma GCC unroll 6
      for (int p = 0; p < kTiles; ++p) {
        const uint8_t* at = codes + p * step;
        __m512i x0, x1;
        MPQ_BROADCAST(x0, *reinterpret_cast<const UnalignedInt*>(at));
        MPQ_BROADCAST(x1, *reinterpret_cast<const UnalignedInt*>(at + 4 * kPairs));
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          __m512i u, s;
          MPQ_ADD_BYTES(u, x0, w1[v]);
          MPQ_ADD_BYTES(s, x1, w0[v]);
          MPQ_DPBUSD(acc[p][v], u, s);
        }
      }
      multiply_group<kTiles>(codes + 8 * kPairs, step, weights + 2 * kOther, acc);
    }
    multiply_group<kTiles>(x + 60, step, w + 15 * kGroupBytes, acc);
  }
}

// For each vector of sums, where it lies in a unit's [column][tile][64] and the sums.
template <int kTiles, typename Fn>
__attribute__((always_inline)) inline void for_each_sum(Sums<kTiles> a, Sums<kTiles> b,
                                                        const Fn& fn) {
#pragma GCC unroll 6
  for (int p = 0; p < kTiles; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      fn(0, p, 16 * v, a[p][v]);
      fn(1, p, 16 * v, b[p][v]);
    }
}

template <int kTiles>
void multiply_row(const RowArgs& t) {
  Sums<kTiles> a, b;
  const int8_t* prefetch = t.prefetch;
#pragma GCC unroll 6
  for (int p = 0; p < kTiles; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) a[p][v] = b[p][v] = _mm512_setzero_si512();
  multiply<kTiles>(t, 1, prefetch, a);
  multiply<kTiles>(t, 2, prefetch, b);
#pragma GCC unroll 6
  for (int p = 0; p < kTiles; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m512i sum = add32(a[p][v], b[p][v]);
      b[p][v] = sub32(a[p][v], b[p][v]);
      a[p][v] = sum;
    }
  multiply<kTiles>(t, 0, prefetch, a);
  multiply<kTiles>(t, 3, prefetch, b);

  int32_t* const halves = t.halves;
  if (t.row == 1) {
    for_each_sum<kTiles>(a, b, [&](int column, int p, int c, __m512i sum) {
      _mm512_store_si512(halves + column * kColumnSums + p * kPanelChannels + c, sum);
    });
  } else if (t.row == 2) {
    for_each_sum<kTiles>(a, b, [&](int column, int p, int c, __m512i sum) {
      int32_t* upper = halves + column * kColumnSums + p * kPanelChannels + c;
      const __m512i half = _mm512_load_si512(upper);
      _mm512_store_si512(upper, add32(half, sum));
      _mm512_store_si512(upper + kRowSums, sub32(half, sum));
    });
  } else {
    const int32_t* half = t.row == 0 ? halves : halves + kRowSums;
    for_each_sum<kTiles>(a, b, [&](int column, int p, int c, __m512i sum) {
      sum = add32(sum, _mm512_load_si512(half + column * kColumnSums + p * kPanelChannels + c));
      sum = add32(sum, _mm512_loadu_si512(t.constant + column * kPanelChannels + c));
      sum = sub32(sum, _mm512_set1_epi32(t.correction[column * kUnitTiles + p]));
      _mm512_store_si512(t.pixels + (2 * p + column) * kPanelChannels + c,
                         add32(Winograd2Pairs::divide(sum), _mm512_loadu_si512(t.start + c)));
    });
  }
}

using RowFn = void (*)(const RowArgs&);
constexpr RowFn kRows[kUnitTiles + 1] = {nullptr,         multiply_row<1>, multiply_row<2>,
                                         multiply_row<3>, multiply_row<4>, multiply_row<5>,
                                         multiply_row<6>};

// What pairs add to the four outputs of a tile at all channels.
void correct_tile(const uint8_t* x, size_t position, size_t blocks, __m256i outputs[4]) {
  constexpr __mmask8 kFirst = (1U << kPairs) - 1;
  for (int i = 0; i < 4; ++i) outputs[i] = _mm256_setzero_si256();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m256i m[4] = {};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j, x += position)
      for (size_t block = 0; block < blocks; ++block) {
        const auto load = [&](size_t at) {
          return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 64 * block + at));
        };
        m[j] = _mm256_mask_dpbusd_epi32(m[j], kFirst, load(0), load(4 * kPairs));
      }
    const __m256i y[2] = {_mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]),
                          _mm256_add_epi32(_mm256_sub_epi32(m[1], m[2]), m[3])};
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      if (i < 3) outputs[j] = _mm256_add_epi32(outputs[j], y[j]);
      if (i == 1 || i == 3) outputs[2 + j] = _mm256_add_epi32(outputs[2 + j], y[j]);
      if (i == 2) outputs[2 + j] = _mm256_sub_epi32(outputs[2 + j], y[j]);
    }
  }
}

// Sums of the lanes of four vectors.
__m128i sum_lanes(const __m256i v[4]) {
  const __m256i sums =
      _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

// Sizes and places in scratch; of a unit in int32 for halves, else in bytes.
struct Plan {
  size_t groups, blocks;
  InputSteps steps;
  size_t unit_input, position_weights, row_weights;
  bool resident;  // all panels' weights at once
  uint32_t chunk_units;
  size_t corrections_at, weights_at, input_at, halves_at, total;
  static constexpr size_t kUnitHalves = 2 * kRowSums, kUnitCorrections = 4 * kUnitTiles;

  explicit Plan(const ConvShape& s) {
    const uint32_t units = Tiling(s, kM, kUnitTiles).units;
    groups = s.c / 4;
    blocks = s.c / 64;
    steps = {.tile = s.c, .position = size_t{kUnitTiles} * s.c + 64};
    unit_input = kWinogradPairs.positions() * steps.position;
    position_weights = groups * kGroupBytes + kSkew;
    row_weights = kSide * position_weights;
    const size_t all_weights = panel_count(s) * kSide * row_weights;
    resident = all_weights <= kResidentBytes;
    const size_t fitting =
        (resident ? kSmallChunkBytes : kChunkBytes) / (unit_input + kUnitHalves * sizeof(int32_t));
    chunk_units = fitting < units ? static_cast<uint32_t>(fitting) : units;
    if (chunk_units == 0) chunk_units = 1;
    corrections_at = 0;
    weights_at = (chunk_units * kUnitCorrections * sizeof(int32_t) + 63) / 64 * 64;
    input_at = weights_at + (resident ? all_weights : row_weights);
    halves_at = input_at + chunk_units * unit_input;
    total = halves_at + chunk_units * kUnitHalves * sizeof(int32_t);
  }
};

class WinogradPairsConv {
 public:
  WinogradPairsConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        plan_(a.shape),
        tiling_(a.shape, kM, kUnitTiles),
        packed_bytes_(winograd_pairs_panel_bytes(a.shape)) {
    auto* scratch = static_cast<uint8_t*>(context.scratch);
    corrections_ = reinterpret_cast<int32_t*>(scratch + plan_.corrections_at);
    weights_ = reinterpret_cast<int8_t*>(scratch + plan_.weights_at);
    input_ = scratch + plan_.input_at;
    halves_ = reinterpret_cast<int32_t*>(scratch + plan_.halves_at);
  }

  void run() {
    for (chunk_ = part_.unit_begin; chunk_ < part_.unit_end; chunk_ += plan_.chunk_units) {
      units_ = min(part_.unit_end - chunk_, plan_.chunk_units);
      for (uint32_t i = 0; i < units_; ++i) read_unit(i);
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        panel_.enter(a_, part_, p, packed_bytes_, plan_.groups, kWinogradPairs);
        for (const uint32_t row : {1, 2, 0, 3}) {
          const int8_t* weights = weights_of(row);
          for (uint32_t i = 0; i < units_; ++i) run_row(row, weights, i);
        }
      }
    }
  }

 private:
  TileRange unit(uint32_t i) const { return tiling_.unit(chunk_ + i); }
  uint8_t* input_of(uint32_t i) const { return input_ + i * plan_.unit_input; }
  int32_t* corrections_of(uint32_t i) const { return corrections_ + i * Plan::kUnitCorrections; }

  void read_unit(uint32_t i) {
    // k-groups 5 to 9 of 16 are the second ones of pairs.
    const __m512i offset = _mm512_mask_blend_epi32(((1U << kPairs) - 1) << kPairs,
                                                   _mm512_set1_epi8(kWinogradPairs.offset),
                                                   _mm512_set1_epi8(kSecondOffset));
    const TileRange u = unit(i);
    uint8_t* const input = input_of(i);
    tiling_.for_each_run(u, [&](const Run& run) {
      transform_input<Winograd2Pairs>(a_, run, offset, plan_.steps,
                                      input + run.first * plan_.steps.tile);
    });
    int32_t* const corrections = corrections_of(i);
    for (uint32_t t = 0; t < u.tiles; ++t) {
      __m256i outputs[4];
      correct_tile(input + t * plan_.steps.tile, plan_.steps.position, plan_.blocks, outputs);
      alignas(16) int32_t sums[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(sums), sum_lanes(outputs));
      for (uint32_t j = 0; j < 4; ++j) corrections[j * kUnitTiles + t] = sums[j];
    }
  }

  // Transformed ones of a row of positions.
  const int8_t* weights_of(uint32_t row) {
    int8_t* weights = weights_;
    if (plan_.resident)
      weights += ((panel_.number - part_.panel_begin) * kSide + row) * plan_.row_weights;
    if (!plan_.resident || chunk_ == part_.unit_begin)
      transform_weights<Winograd2Pairs>(row, panel_.packed + kWinogradPairsHead, plan_.groups,
                                        plan_.position_weights, weights);
    return weights;
  }

  void run_row(uint32_t row, const int8_t* weights, uint32_t i) {
    const TileRange u = unit(i);
    const bool upper = row == 0;
    alignas(64) int32_t pixels[kM * kUnitTiles * kPanelChannels];
    for (uint32_t c = 0; c < kPanelChannels; c += kHalfChannels) {
      const bool fetches = panel_.next < panel_.next_end;
      kRows[u.tiles]({.x = input_of(i) + row * kSide * plan_.steps.position,
                      .steps = plan_.steps,
                      .w = weights + 4 * c,
                      .position_weights = plan_.position_weights,
                      .blocks = plan_.blocks,
                      .prefetch = fetches ? panel_.next : weights,
                      .prefetch_step = fetches ? size_t{64} : 0,
                      .row = row,
                      .halves = halves_ + i * Plan::kUnitHalves + c,
                      .constant = reinterpret_cast<const int32_t*>(panel_.packed) +
                                  (upper ? 0 : kM * kPanelChannels) + c,
                      .correction = corrections_of(i) + (upper ? 0 : kM * kUnitTiles),
                      .start = panel_.start + c,
                      .pixels = pixels + c});
      panel_.next += 64 * kSide * kPairs * plan_.blocks;
    }
    if (row == 0 || row == 3) write_row(u, upper ? 0 : 1, pixels);
  }

  void write_row(const TileRange& u, uint32_t row, const int32_t* pixels) {
    const ConvShape& s = a_.shape;
    tiling_.for_each_run(u, [&](const Run& run) {
      const uint32_t x = kM * run.x, y = kM * run.y + row;
      if (y < s.oh)
        run_epilogue(
            pixels + kM * run.first * kPanelChannels, a_.epilogue, a_.y, a_.dense,
            block_at(s, Unit{run.image, y, x, min(s.ow - x, kM * run.tiles)}, panel_.number),
            panel_.form);
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Plan plan_;
  const Tiling tiling_;
  const size_t packed_bytes_;
  int32_t* corrections_;  // [unit][output of a tile][tile]
  int8_t* weights_;
  uint8_t* input_;
  int32_t* halves_;
  uint32_t chunk_ = 0, units_ = 0;  // first unit of the chunk at hand, their number
  PanelAtHand panel_;
};

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = Tiling(s, kM, kUnitTiles).units;
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t) { return Plan(s).total; }

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  WinogradPairsConv(a, part, context).run();
}

}  // namespace

const ConvKernel conv_u20s4_winograd2_pairs_avx512vnni = {"conv_u20s4_winograd2_pairs_avx512vnni",
                                                          kIsaAvx512Vnni,
                                                          Elem::s4,
                                                          kWinogradPairs.max_activation,
                                                          "winograd2_pairs64_s4_v1",
                                                          winograd_pairs_fit,
                                                          winograd_pairs_bytes,
                                                          pack_winograd_pairs,
                                                          units,
                                                          scratch_bytes,
                                                          run,
                                                          winograd_pairs_cost};

}  // namespace mpq::kernels
