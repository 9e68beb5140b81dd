// Direct convolution with AVX2. Weights stay int8 in memory ("panel64_s8_v1"), whatever their
// width.
//
// vpmaddubsw adds two u8 x s8 products in 16 bits and saturates. So:
//   narrow rows: the products are small enough (4 bits: 2 * 15 * 8 = 240) that many k-groups add up
//     in 16 bits before vpmaddwd widens them to 32; how many is what fits 32767.
//   the wide row: 8-bit codes times 8-bit weights; bytes are split into even and odd 16-bit lanes
//   and
//     multiplied by vpmaddwd, exact for any codes, at half the rate.
//
// Register block: 3 pixels x 32 channels (narrow), 2 x 32 (wide): 4 vectors of 8 channels x 4 k.

#include <immintrin.h>

#include "kernels/conv/blocks.h"
#include "kernels/conv/rows.h"
#include "kernels/math/lanes.h"
#include "kernels/math/lanes_avx2.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kHalf = 32;  // channels of a register block
typedef int32_t UnalignedInt __attribute__((may_alias, aligned(1)));

struct TileArgs {
  const uint8_t* x;
  ptrdiff_t pixel;           // bytes from an output pixel's input to the next one's
  const ptrdiff_t* offsets;  // of each k-group
  size_t groups;
  const int8_t* w;
  int32_t* sums;  // [pixel][64], added to
};

inline __m256i broadcast_codes(const uint8_t* at) {
  return _mm256_set1_epi32(*reinterpret_cast<const UnalignedInt*>(at));
}

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

inline void add_to(int32_t* sums, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), _mm256_add_epi32(load(sums), value));
}

template <int kPixels>
void multiply_narrow(const TileArgs& t, size_t groups_at_once) {
  for (size_t begin = 0; begin < t.groups; begin += groups_at_once) {
    const size_t end = begin + groups_at_once < t.groups ? begin + groups_at_once : t.groups;
    __m256i acc[kPixels][4];
#pragma GCC unroll 12
    for (int i = 0; i < kPixels * 4; ++i) acc[i / 4][i % 4] = _mm256_setzero_si256();
#pragma GCC unroll 1
    for (size_t g = begin; g < end; ++g) {
      const uint8_t* x = t.x + t.offsets[g];
      const int8_t* w = t.w + g * kGroupBytes;
#pragma GCC unroll 3
      for (int p = 0; p < kPixels; ++p) {
        const __m256i a = broadcast_codes(x + p * t.pixel);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v)
          acc[p][v] = _mm256_add_epi16(acc[p][v], _mm256_maddubs_epi16(a, load(w + 32 * v)));
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 12
    for (int i = 0; i < kPixels * 4; ++i)
      add_to(t.sums + i / 4 * kPanelChannels + i % 4 * 8,
             _mm256_madd_epi16(acc[i / 4][i % 4], ones));
  }
}

template <int kPixels>
void multiply_wide(const TileArgs& t, size_t) {
  __m256i acc[kPixels][4];
#pragma GCC unroll 8
  for (int i = 0; i < kPixels * 4; ++i) acc[i / 4][i % 4] = _mm256_setzero_si256();
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
#pragma GCC unroll 1
  for (size_t g = 0; g < t.groups; ++g) {
    const uint8_t* x = t.x + t.offsets[g];
    const int8_t* w = t.w + g * kGroupBytes;
    __m256i even[kPixels], odd[kPixels];
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; ++p) {
      const __m256i a = broadcast_codes(x + p * t.pixel);
      even[p] = _mm256_and_si256(a, low_bytes);
      odd[p] = _mm256_srli_epi16(a, 8);
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i both = load(w + 32 * v);
      const __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8);
      const __m256i w_odd = _mm256_srai_epi16(both, 8);
#pragma GCC unroll 2
      for (int p = 0; p < kPixels; ++p) {
        acc[p][v] = _mm256_add_epi32(acc[p][v], _mm256_madd_epi16(even[p], w_even));
        acc[p][v] = _mm256_add_epi32(acc[p][v], _mm256_madd_epi16(odd[p], w_odd));
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kPixels * 4; ++i)
    add_to(t.sums + i / 4 * kPanelChannels + i % 4 * 8, acc[i / 4][i % 4]);
}

// scaled_residual of 8 lanes: 64-bit products of even and odd lanes.
inline __m256i scaled_residual_x8(__m256i code, __m256i factor, int32_t shift) {
  const __m256i half = _mm256_set1_epi64x((int64_t{1} << shift) >> 1);
  const __m128i count = _mm_cvtsi32_si128(shift);
  __m256i part[2] = {_mm256_mul_epi32(code, factor),
                     _mm256_mul_epi32(_mm256_srli_epi64(code, 32), _mm256_srli_epi64(factor, 32))};
  for (__m256i& p : part) {
    const __m256i sign = _mm256_cmpgt_epi64(_mm256_setzero_si256(), p);
    p = _mm256_sub_epi64(_mm256_xor_si256(p, sign), sign);
    p = _mm256_srl_epi64(_mm256_add_epi64(p, half), count);
    p = _mm256_sub_epi64(_mm256_xor_si256(p, sign), sign);
  }
  return _mm256_blend_epi32(part[0], _mm256_slli_epi64(part[1], 32), 0xaa);
}

void put_codes(uint8_t* at, const Planes& p, uint32_t channels, const uint8_t codes[64]) {
  if (p.cb == 64)
    __builtin_memcpy(at, codes, 64);
  else
    scatter_codes(at, p, channels, codes);
}

void write_block(const int32_t* sums, const ConvArgs& a, const EpilogueBlock& at) {
  const Epilogue& e = a.epilogue;
  alignas(64) uint8_t residual_codes[64] = {}, codes[64], second_codes[64];
  alignas(64) float values[64];
  const bool has_residual = e.residual.data != nullptr;
  const auto lo = static_cast<float>(e.lo), hi = static_cast<float>(e.hi);
  const auto second_lo = static_cast<float>(e.second_lo),
             second_hi = static_cast<float>(e.second_hi);
  for (uint32_t p = 0; p < at.pixels; ++p, sums += kPanelChannels) {
    const uint8_t* residual = residual_codes;
    if (has_residual)
      residual = gather_codes(planes_at(e.residual, at) + size_t{p} * e.residual.cb, e.residual,
                              at.channels, residual_codes);
    for (uint32_t c = 0; c < kPanelChannels; c += 8) {
      __m256i acc = load(sums + c);
      const __m256i code = _mm256_sub_epi32(
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(residual + c))),
          _mm256_set1_epi32(e.residual_zero_point));
      if (has_residual && e.residual_shift >= 0)
        acc = _mm256_add_epi32(
            acc,
            scaled_residual_x8(code, load(e.residual_factor + at.channel + c), e.residual_shift));
      __m256 v =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(e.multiplier + at.channel + c),
                          _mm256_loadu_ps(e.bias + at.channel + c));
      if (has_residual && e.residual_shift < 0)
        v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(e.residual_scale), v);
      if (e.activation != Activation::kNone) v = activate<Avx2Lanes>(e, v);
      if (e.out == Elem::u8)
        store_clamped<Avx2Lanes>(codes + c, v, lo, hi);
      else
        _mm256_store_ps(values + c, v);
      if (e.second.data != nullptr)
        store_clamped<Avx2Lanes>(
            second_codes + c,
            _mm256_fmadd_ps(v, _mm256_set1_ps(e.second_scale), _mm256_set1_ps(e.second_bias)),
            second_lo, second_hi);
    }
    if (e.out == Elem::u8)
      put_codes(planes_at(a.y, at) + size_t{p} * a.y.cb, a.y, at.channels, codes);
    else
      __builtin_memcpy(static_cast<float*>(a.dense) + at.dense_at + p * at.dense_pixel, values,
                       at.channels * sizeof(float));
    if (e.second.data != nullptr)
      put_codes(planes_at(e.second, at) + size_t{p} * e.second.cb, e.second, at.channels,
                second_codes);
  }
}

using TileFn = void (*)(const TileArgs&, size_t groups_at_once);

void run_unit(const ConvArgs& a, TileArgs tile, const Unit& u, uint32_t panel, const TileFn tiles[],
              uint32_t tile_pixels, size_t groups_at_once) {
  alignas(64) int32_t sums[kMaxPixels * kPanelChannels];
  const int32_t* start = start_of(a, panel);
  for (uint32_t p = 0; p < u.pixels; ++p)
    __builtin_memcpy(sums + p * kPanelChannels, start, kPanelChannels * sizeof(int32_t));
  const uint8_t* x = input_of(a, u);
  const int8_t* w = tile.w;
  for (uint32_t c = 0; c < kPanelChannels; c += kHalf)
    for (uint32_t p = 0; p < u.pixels; p += tile_pixels) {
      const uint32_t left = u.pixels - p;
      tile.x = x + p * tile.pixel;
      tile.w = w + 4 * c;
      tile.sums = sums + p * kPanelChannels + c;
      tiles[(left < tile_pixels ? left : tile_pixels) - 1](tile, groups_at_once);
    }
  const EpilogueBlock at = block_at(a.shape, u, panel);
  if (a.epilogue.out == Elem::s32)
    write_sums(sums, static_cast<int32_t*>(a.dense), at);
  else
    write_block(sums, a, at);
}

// Products of at most max_code * max_weight.
template <int32_t kMaxCode, int32_t kMaxWeight>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  constexpr int32_t kAtOnce = 32767 / (2 * kMaxCode * kMaxWeight);
  constexpr bool kNarrow = kAtOnce > 0;
  static constexpr TileFn kNarrowTiles[] = {multiply_narrow<1>, multiply_narrow<2>,
                                            multiply_narrow<3>};
  static constexpr TileFn kWideTiles[] = {multiply_wide<1>, multiply_wide<2>};
  auto* offsets = static_cast<ptrdiff_t*>(context.scratch);
  fill_offsets(a, offsets);
  const size_t groups = panel_groups(a.shape, a.x.cb);
  TileArgs tile = {};
  tile.pixel = static_cast<ptrdiff_t>(a.shape.stride_w) * a.x.cb;
  tile.offsets = offsets;
  tile.groups = groups;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    tile.w = static_cast<const int8_t*>(a.weights) + p * groups * kGroupBytes;
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit)
      run_unit(a, tile, unit_at(a.shape, unit), p, kNarrow ? kNarrowTiles : kWideTiles,
               kNarrow ? 3 : 2, static_cast<size_t>(kAtOnce));
  }
}

size_t packed_bytes(const ConvShape& s, uint32_t cb) { return panels_bytes(s, cb, 8); }

void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_panels(s, cb, 8, canonical, packed);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return offset_bytes(s, cb); }

template <int32_t kMaxCode, int32_t kMaxWeight>
float cost(const ConvShape&, uint32_t, CpuFamily) {
  constexpr int32_t kAtOnce = 32767 / (2 * kMaxCode * kMaxWeight);
  return kAtOnce == 0 ? 8.0F : kAtOnce < 16 ? 5.0F : 4.0F;
}

template <int32_t kMaxCode, int32_t kMaxWeight>
constexpr ConvKernel row(const char* name, Elem weights) {
  return {name,
          kIsaAvx2,
          weights,
          kMaxCode,
          "panel64_s8_v1",
          panels_fit,
          packed_bytes,
          pack,
          row_units<kMaxPixels>,
          scratch_bytes,
          run<kMaxCode, kMaxWeight>,
          cost<kMaxCode, kMaxWeight>};
}

}  // namespace

const ConvKernel conv_u8s8_2x32_avx2 = row<255, 128>("conv_u8s8_2x32_avx2", Elem::s8);
const ConvKernel conv_u8s4_3x32_avx2 = row<255, 8>("conv_u8s4_3x32_avx2", Elem::s4);
const ConvKernel conv_u4s8_3x32_avx2 = row<15, 128>("conv_u4s8_3x32_avx2", Elem::s8);
const ConvKernel conv_u4s4_3x32_avx2 = row<15, 8>("conv_u4s4_3x32_avx2", Elem::s4);

}  // namespace mpq::kernels
