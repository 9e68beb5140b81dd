// requant.h for a block of pixels by 64 channels, equal to it bit for bit. For AVX2 files only.
//
// Clamping is done on integers where equal, as in epilogue_avx512.h: vpackssdw and vpackuswb
// saturate, after a conversion that gives INT_MIN for anything out of range. That is right below
// the range and for NaN, and wrong only for v >= 2^31, which a panel's constants may exclude.
#pragma once

#include <immintrin.h>

#include "kernels/conv/blocks.h"
#include "kernels/math/lanes_avx2.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kHalf = 32;  // channels at a time: four vectors of sums, one of codes

enum class ResidualForm {
  none,
  real,               // added to v
  accumulator,        // added to the accumulator: 64-bit products
  accumulator_small,  // products and their halves below 2^24: exact in binary32
};

// What the constants of a panel allow.
struct PanelForm {
  ResidualForm residual;
  bool fast;  // |v| < 2^31 whatever the accumulator; of both outputs
};

PanelForm panel_form(const Epilogue& e, uint32_t channel) {
  if (e.out == Elem::s32) return {ResidualForm::none, false};
  const int64_t zero = e.residual_zero_point;
  const bool near_zero = zero >= 0 && zero <= 255;  // |code - zero| <= 255
  // |acc * m| <= 2^29 and |b| <= 2^29 and |residual * r| < 2^29
  bool bounded = e.activation == Activation::kNone;
  bool small = near_zero && e.residual_shift >= 0 && e.residual_shift <= 20;
  const int32_t limit = small ? ((1 << 24) - 1 - ((1 << e.residual_shift) >> 1)) / 255 : 0;
  for (uint32_t i = channel; i < channel + kPanelChannels; ++i) {
    bounded = bounded && std::fabs(e.multiplier[i]) <= 0.25F && std::fabs(e.bias[i]) <= 0x1p29F;
    small = small && e.residual_factor[i] <= limit && e.residual_factor[i] >= -limit;
  }
  if (e.second.data != nullptr)
    bounded = bounded && std::fabs(e.second_scale) <= 1.0F && std::fabs(e.second_bias) <= 0x1p28F;
  if (e.residual.data == nullptr) return {ResidualForm::none, bounded};
  if (e.residual_shift < 0)
    return {ResidualForm::real, bounded && near_zero && std::fabs(e.residual_scale) <= 0x1p20F};
  return {small ? ResidualForm::accumulator_small : ResidualForm::accumulator, bounded};
}

inline __m256i load_sums(const int32_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
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

// The same where every intermediate is a multiple of 2^-shift below 2^24 of them: half away from
// zero is a truncation of x + copysign(1/2, x).
inline __m256i scaled_residual_small_x8(__m256i code, __m256 factor, __m256 half) {
  const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(code), factor);
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0F));
  return _mm256_cvttps_epi32(_mm256_add_ps(x, _mm256_or_ps(sign, half)));
}

struct CodeRange {
  __m256 float_hi;
  __m256i lo, hi;
};

inline CodeRange code_range(int32_t lo, int32_t hi) {
  return {_mm256_set1_ps(static_cast<float>(hi)), _mm256_set1_epi8(static_cast<char>(lo)),
          _mm256_set1_epi8(static_cast<char>(hi))};
}

// v to codes of 32 channels in channel order.
template <bool kFast>
inline __m256i to_codes(const __m256 v[4], const CodeRange& range) {
  __m256i q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)  // minimum gives its second operand for NaN
    q[i] = _mm256_cvtps_epi32(kFast ? v[i] : _mm256_min_ps(range.float_hi, v[i]));
  const __m256i packed =
      _mm256_packus_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i codes =
      _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  return _mm256_max_epu8(_mm256_min_epu8(codes, range.hi), range.lo);
}

// Half of a pixel's channels, in blocks of fewer than 64; only blocks that hold real channels
// exist. Out of line, as is what else is rare: the common case keeps its registers.
inline uint8_t* small_block(uint8_t* pixel, const Planes& p, uint32_t channel) {
  return pixel + static_cast<ptrdiff_t>(channel / p.cb) * p.plane + channel % p.cb;
}
__attribute__((noinline)) void scatter_half(uint8_t* pixel, const Planes& p, uint32_t first,
                                            uint32_t channels, const uint8_t codes[kHalf]) {
  for (uint32_t i = 0; i < kHalf && first + i < channels; i += 4)
    __builtin_memcpy(small_block(pixel, p, first + i), codes + i, 4);
}
__attribute__((noinline)) void gather_half(uint8_t* pixel, const Planes& p, uint32_t first,
                                           uint32_t channels, uint8_t codes[kHalf]) {
  for (uint32_t i = 0; i < kHalf && first + i < channels; i += 4)
    __builtin_memcpy(codes + i, small_block(pixel, p, first + i), 4);
}
inline void put_codes(uint8_t* pixel, const Planes& p, uint32_t first, uint32_t channels,
                      __m256i value) {
  if (__builtin_expect(p.cb == 64, 1)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pixel + first), value);
    return;
  }
  alignas(32) uint8_t codes[kHalf];
  _mm256_store_si256(reinterpret_cast<__m256i*>(codes), value);
  scatter_half(pixel, p, first, channels, codes);
}

inline void put_reals(float* to, uint32_t channels, const __m256 v[4]) {
  if (__builtin_expect(channels >= kHalf, 1)) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm256_storeu_ps(to + 8 * i, v[i]);
    return;
  }
  alignas(32) float values[kHalf];
  for (int i = 0; i < 4; ++i) _mm256_store_ps(values + 8 * i, v[i]);
  for (uint32_t i = 0; i < channels; ++i) to[i] = values[i];
}

void write_half_sums(const int32_t* sums, int32_t* dense, const EpilogueBlock& at, uint32_t first) {
  const uint32_t end = at.channels - first < kHalf ? at.channels : first + kHalf;
  for (uint32_t p = 0; p < at.pixels; ++p)
    for (uint32_t c = first; c < end; ++c)
      dense[at.dense_at + p * at.dense_pixel + c] = sums[p * kPanelChannels + c];
}

// Out of line, on a copy: v stays in registers where there is no activation.
__attribute__((noinline)) void activate_values(const Epilogue& e, __m256* v) {
  for (int i = 0; i < 4; ++i) v[i] = activate<Avx2Lanes>(e, v[i]);
}

// The channels from `first` on, 32 of them, of all pixels: constants stay in registers.
template <ResidualForm kResidual, bool kFast>
void write_half(const int32_t* sums, const Epilogue& e, const Planes& y, void* dense,
                const EpilogueBlock& at, uint32_t first) {
  constexpr bool kHasResidual = kResidual != ResidualForm::none;
  const uint32_t channel = at.channel + first;
  __m256 multiplier[4], bias[4], small_factor[4];
  __m256i factor[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    multiplier[i] = _mm256_loadu_ps(e.multiplier + channel + 8 * i);
    bias[i] = _mm256_loadu_ps(e.bias + channel + 8 * i);
    if (kHasResidual && kResidual != ResidualForm::real) {
      factor[i] = load_sums(e.residual_factor + channel + 8 * i);
      small_factor[i] =
          _mm256_mul_ps(_mm256_cvtepi32_ps(factor[i]),
                        _mm256_set1_ps(1.0F / static_cast<float>(int64_t{1} << e.residual_shift)));
    }
  }
  const __m256 half = _mm256_set1_ps(e.residual_shift > 0 ? 0.5F : 0.0F);
  const __m256 residual_scale = _mm256_set1_ps(e.residual_scale);
  const __m256i residual_zero = _mm256_set1_epi32(e.residual_zero_point);
  const CodeRange range = code_range(e.lo, e.hi);
  const __m256 second_scale = _mm256_set1_ps(e.second_scale),
               second_bias = _mm256_set1_ps(e.second_bias);
  const CodeRange second_range = code_range(e.second_lo, e.second_hi);
  const bool codes = e.out == Elem::u8, active = !kFast && e.activation != Activation::kNone;
  const Planes y_planes = y, second_planes = e.second, residual_planes = e.residual;
  uint8_t* residual = kHasResidual ? planes_at(e.residual, at) : nullptr;
  uint8_t* out = codes ? planes_at(y, at) : nullptr;
  uint8_t* second = e.second.data != nullptr ? planes_at(e.second, at) : nullptr;
  float* real = codes ? nullptr : static_cast<float*>(dense) + at.dense_at + first;
  alignas(32) uint8_t gathered[kHalf] = {};
  sums += first;
  for (uint32_t p = 0; p < at.pixels; ++p, sums += kPanelChannels) {
    const uint8_t* residual_codes = nullptr;
    if (kHasResidual) {
      residual_codes = residual + first;
      if (__builtin_expect(residual_planes.cb != 64, 0)) {
        gather_half(residual, residual_planes, first, at.channels, gathered);
        residual_codes = gathered;
      }
      residual += residual_planes.cb;
    }
    __m256 v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m256i acc = load_sums(sums + 8 * i), code = _mm256_setzero_si256();
      if (kHasResidual)
        code = _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
                                    reinterpret_cast<const __m128i*>(residual_codes + 8 * i))),
                                residual_zero);
      if (kResidual == ResidualForm::accumulator)
        acc = _mm256_add_epi32(acc, scaled_residual_x8(code, factor[i], e.residual_shift));
      if (kResidual == ResidualForm::accumulator_small)
        acc = _mm256_add_epi32(acc, scaled_residual_small_x8(code, small_factor[i], half));
      v[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), multiplier[i], bias[i]);
      if (kResidual == ResidualForm::real)
        v[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(code), residual_scale, v[i]);
    }
    if (__builtin_expect(active, 0)) {
      __m256 copy[4] = {v[0], v[1], v[2], v[3]};
      activate_values(e, copy);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) v[i] = copy[i];
    }
    if (codes) {
      put_codes(out, y_planes, first, at.channels, to_codes<kFast>(v, range));
      out += y_planes.cb;
    } else {
      put_reals(real, at.channels - first, v);
      real += at.dense_pixel;
    }
    if (second != nullptr) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) v[i] = _mm256_fmadd_ps(v[i], second_scale, second_bias);
      put_codes(second, second_planes, first, at.channels, to_codes<kFast>(v, second_range));
      second += second_planes.cb;
    }
  }
}

using WriteFn = void (*)(const int32_t* sums, const Epilogue&, const Planes&, void* dense,
                         const EpilogueBlock&, uint32_t first);

// The half of a panel from channel `first` on. sums: [pixel][64]
void run_epilogue(const int32_t* sums, const ConvArgs& a, const EpilogueBlock& at, PanelForm form,
                  uint32_t first) {
  using R = ResidualForm;
  static constexpr WriteFn kWrite[][2] = {
      // [residual form][fast]
      {write_half<R::none, false>, write_half<R::none, true>},
      {write_half<R::real, false>, write_half<R::real, true>},
      {write_half<R::accumulator, false>, write_half<R::accumulator, true>},
      {write_half<R::accumulator_small, false>, write_half<R::accumulator_small, true>},
  };
  if (a.epilogue.out == Elem::s32)
    write_half_sums(sums, static_cast<int32_t*>(a.dense), at, first);
  else
    kWrite[static_cast<int>(form.residual)][form.fast](sums, a.epilogue, a.y, a.dense, at, first);
}

// All halves of the panel that hold real channels.
inline void run_epilogues(const int32_t* sums, const ConvArgs& a, const EpilogueBlock& at,
                          PanelForm form) {
  for (uint32_t first = 0; first < at.channels; first += kHalf)
    run_epilogue(sums, a, at, form, first);
}

// The channels of a panel that those halves have.
inline uint32_t channels_of_halves(const ConvShape& s, uint32_t panel) {
  const uint32_t whole = (s.o - panel * kPanelChannels + kHalf - 1) / kHalf * kHalf;
  return whole < kPanelChannels ? whole : kPanelChannels;
}

}  // namespace
}  // namespace mpq::kernels
