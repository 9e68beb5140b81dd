// requant.h for a block of pixels by 64 channels, equal to it bit for bit. For AVX-512 files only.
//
// Cheaper than the definition where equal: clamping is done on integers (vpackssdw and vpackuswb
// saturate), after a conversion that gives INT_MIN for anything out of range; that is right below
// the range and for NaN, and wrong only for v >= 2^31, so one float minimum is kept unless the
// panel's multipliers prove that v stays below.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requant/requant.h"

namespace mpq::kernels {

// Where a block of 64 channels of one image row segment lies.
struct EpilogueBlock {
  uint32_t image, y, x, channel;  // first pixel and channel (a multiple of 64)
  uint32_t pixels, channels;      // channels: 1..64 real ones
  size_t dense_at;                // element of the dense output
  size_t dense_pixel;             // elements from a pixel to the next there
};

static uint8_t* planes_at(const Planes& p, const EpilogueBlock& at) {
  return p.data + at.image * p.image + static_cast<ptrdiff_t>(at.channel / p.cb) * p.plane +
         at.y * p.row + static_cast<ptrdiff_t>(at.x) * p.cb;
}

// 64 channels of a pixel from or to blocks of fewer; only blocks that hold real channels exist.
static const uint8_t* gather_codes(const uint8_t* at, const Planes& p, uint32_t channels,
                                   uint8_t gathered[64]) {
  if (p.cb == 64) return at;
  for (uint32_t c = 0; c < channels; c += p.cb, at += p.plane)
    for (uint32_t i = 0; i < p.cb; i += 4) __builtin_memcpy(gathered + c + i, at + i, 4);
  return gathered;
}

static void store_codes(uint8_t* at, const Planes& p, uint32_t channels, __m512i value) {
  if (p.cb == 64) {
    _mm512_storeu_si512(at, value);
    return;
  }
  alignas(64) uint8_t codes[64];
  _mm512_store_si512(codes, value);
  for (uint32_t c = 0; c < channels; c += p.cb, at += p.plane)
    for (uint32_t i = 0; i < p.cb; i += 4) __builtin_memcpy(at + i, codes + c + i, 4);
}

// scaled_residual of 16 lanes: 64-bit products of even and odd lanes.
static __m512i scaled_residual_x16(__m512i code, __m512i factor, int32_t shift) {
  const __m512i half = _mm512_set1_epi64((int64_t{1} << shift) >> 1);
  const __m128i count = _mm_cvtsi32_si128(shift);
  __m512i part[2] = {_mm512_mul_epi32(code, factor),
                     _mm512_mul_epi32(_mm512_srli_epi64(code, 32), _mm512_srli_epi64(factor, 32))};
  for (__m512i& p : part) {
    const __mmask8 negative = _mm512_movepi64_mask(p);
    p = _mm512_srl_epi64(_mm512_add_epi64(_mm512_abs_epi64(p), half), count);
    p = _mm512_mask_sub_epi64(p, negative, _mm512_setzero_si512(), p);
  }
  return _mm512_mask_blend_epi32(0xaaaa, part[0], _mm512_slli_epi64(part[1], 32));
}

enum class ResidualForm { none, real, accumulator };

struct EpilogueConstants {
  __m512 multiplier[4], bias[4];
  __m512i factor[4];
};

// |v| < 2^31 for every int32 accumulator: |m| <= 1/4 and the other terms below 2^29.
static bool is_bounded(const Epilogue& e, uint32_t channel) {
  const __m512 quarter = _mm512_set1_ps(0.25F), limit = _mm512_set1_ps(0x1p29F);
  __mmask16 good = 0xffff;
  for (uint32_t i = 0; i < 64; i += 16) {
    good &= _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(e.multiplier + channel + i)), quarter,
                               _CMP_LE_OQ);
    good &=
        _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(e.bias + channel + i)), limit, _CMP_LT_OQ);
  }
  const int64_t zero = e.residual_zero_point;
  const bool small =
      e.residual.data == nullptr ||
      (e.residual_scale > -65536.0F && e.residual_scale < 65536.0F && zero > -256 && zero < 512);
  return good == 0xffff && small;
}

// v to codes of 64 channels in channel order.
template <bool kBounded>
static __m512i to_codes(const __m512 v[4], int32_t lo, int32_t hi) {
  const __m512 fhi = _mm512_set1_ps(static_cast<float>(hi));
  __m512i q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)  // minimum gives its second operand for NaN
    q[i] = _mm512_cvtps_epi32(kBounded ? v[i] : _mm512_min_ps(fhi, v[i]));
  const __m512i words01 = _mm512_packs_epi32(q[0], q[1]), words23 = _mm512_packs_epi32(q[2], q[3]);
  __m512i codes = _mm512_packus_epi16(words01, words23);
  codes = _mm512_min_epu8(codes, _mm512_set1_epi8(static_cast<char>(hi)));
  codes = _mm512_max_epu8(codes, _mm512_set1_epi8(static_cast<char>(lo)));
  // The packs work in 128-bit lanes: dword 4 * lane + i came from vector i.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, codes);
}

template <ResidualForm kResidual, bool kBounded>
static void write_block(const int32_t* sums, const Epilogue& e, const Planes& y, void* dense,
                        const EpilogueBlock& at) {
  EpilogueConstants k;
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 4; ++i) {
    k.multiplier[i] = _mm512_loadu_ps(e.multiplier + at.channel + 16 * i);
    k.bias[i] = _mm512_loadu_ps(e.bias + at.channel + 16 * i);
    if (kResidual == ResidualForm::accumulator)
      k.factor[i] = _mm512_loadu_si512(e.residual_factor + at.channel + 16 * i);
  }
  const __m512 residual_scale = _mm512_set1_ps(e.residual_scale);
  const __m512i residual_zero = _mm512_set1_epi32(e.residual_zero_point);
  const __m512 second_scale = _mm512_set1_ps(e.second_scale),
               second_bias = _mm512_set1_ps(e.second_bias);
  const uint8_t* residual = kResidual == ResidualForm::none ? nullptr : planes_at(e.residual, at);
  uint8_t* second = e.second.data == nullptr ? nullptr : planes_at(e.second, at);
  uint8_t* out = e.out == Elem::u8 ? planes_at(y, at) : nullptr;
  float* real = static_cast<float*>(dense) + at.dense_at;

  alignas(64) uint8_t gathered[64] = {};
  for (uint32_t p = 0; p < at.pixels; ++p) {
    __m512 v[4];
    __m512i code[4];
    if (kResidual != ResidualForm::none) {
      const uint8_t* codes =
          gather_codes(residual + size_t{p} * e.residual.cb, e.residual, at.channels, gathered);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        code[i] =
            _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i)));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512i acc = _mm512_loadu_si512(sums + p * 64 + 16 * i);
      if (kResidual == ResidualForm::accumulator)
        acc = _mm512_add_epi32(acc, scaled_residual_x16(_mm512_sub_epi32(code[i], residual_zero),
                                                        k.factor[i], e.residual_shift));
      v[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), k.multiplier[i], k.bias[i]);
      if (kResidual == ResidualForm::real)
        v[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code[i], residual_zero)),
                               residual_scale, v[i]);
    }
    if (out != nullptr) {
      store_codes(out + p * y.cb, y, at.channels, to_codes<kBounded>(v, e.lo, e.hi));
    } else {
      for (uint32_t i = 0; i < 4 && 16 * i < at.channels; ++i)
        _mm512_mask_storeu_ps(
            real + p * at.dense_pixel + 16 * i,
            _cvtu32_mask16(at.channels - 16 * i >= 16 ? 0xffffU
                                                      : (1U << (at.channels - 16 * i)) - 1U),
            v[i]);
    }
    if (second != nullptr) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) v[i] = _mm512_fmadd_ps(v[i], second_scale, second_bias);
      store_codes(second + p * e.second.cb, e.second, at.channels,
                  to_codes<false>(v, e.second_lo, e.second_hi));
    }
  }
}

static void write_sums(const int32_t* sums, int32_t* dense, const EpilogueBlock& at) {
  for (uint32_t p = 0; p < at.pixels; ++p)
    for (uint32_t c = 0; c < at.channels; ++c)
      dense[at.dense_at + p * at.dense_pixel + c] = sums[p * 64 + c];
}

static void run_epilogue(const int32_t* sums, const Epilogue& e, const Planes& y, void* dense,
                         const EpilogueBlock& at, bool bounded) {
  if (e.out == Elem::s32)
    write_sums(sums, static_cast<int32_t*>(dense), at);
  else if (e.residual.data == nullptr)
    (bounded ? write_block<ResidualForm::none, true>
             : write_block<ResidualForm::none, false>)(sums, e, y, dense, at);
  else if (e.residual_shift < 0)
    (bounded ? write_block<ResidualForm::real, true>
             : write_block<ResidualForm::real, false>)(sums, e, y, dense, at);
  else
    write_block<ResidualForm::accumulator, false>(sums, e, y, dense, at);
}

}  // namespace mpq::kernels
