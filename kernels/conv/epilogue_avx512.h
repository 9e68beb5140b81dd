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

#include "kernels/conv/blocks.h"
#include "kernels/math/lanes_avx512.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {

static void store_codes(uint8_t* at, const Planes& p, uint32_t channels, __m512i value) {
  if (p.cb == 64) {
    _mm512_storeu_si512(at, value);
    return;
  }
  alignas(64) uint8_t codes[64];
  _mm512_store_si512(codes, value);
  scatter_codes(at, p, channels, codes);
}

enum class ResidualForm {
  none,
  real,                  // added to v
  real_from_zero,        // the same with zero point 0
  accumulator,           // added to the accumulator: 64-bit products
  accumulator_small,     // products and their halves below 2^24: exact in binary32
  accumulator_signed,    // the same with shift 0: sums less 1.5 * 2^23, see below
  accumulator_unsigned,  // the same with no negative product, shift 0 or 1: sums less 2^23
};

// What the constants of a panel allow.
struct PanelForm {
  ResidualForm residual;
  bool fast;           // |v| < 2^31 whatever the accumulator, and lo = 0; of both outputs
  bool gelu = false;   // and no residual
  bool fixed = false;  // 16-bit lanes where a channel has that form
};

static inline __mmask16 not_above(const float* values, float limit) {
  return _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(values)), _mm512_set1_ps(limit),
                            _CMP_LE_OQ);
}

// accumulator_unsigned adds the residual r while it rounds it, in one FMA on the magic number 2^23
// (whose unit is 1): 2^23 + ceil(code * factor / 2^shift), rounded up, is exact below 2^24, and for
// a shift of 0 or 1 ceil is half away from zero. The accumulators start 2^23 lower to take it back.
// accumulator_signed does it on 1.5 * 2^23, which has room on both sides; products are integers.
static constexpr int32_t kMagic = 1 << 23, kSignedMagic = kMagic + kMagic / 2;

// No factor is above max_factor, and sums with their biases stay below `room`.
static bool allows_magic(const Epilogue& e, uint32_t channel, int64_t max_sum, int32_t max_factor,
                         int32_t room) {
  if (max_sum >= room) return false;
  const __m512i max_bias = _mm512_set1_epi32(room - 1 - static_cast<int32_t>(max_sum));
  __mmask16 good = 0xffff;
  for (uint32_t i = 0; i < 64; i += 16) {
    good &= _mm512_cmple_epu32_mask(_mm512_loadu_si512(e.residual_factor + channel + i),
                                    _mm512_set1_epi32(max_factor));
    if (e.acc_bias != nullptr)
      good &= _mm512_cmple_epu32_mask(
          _mm512_abs_epi32(_mm512_loadu_si512(e.acc_bias + channel + i)), max_bias);
  }
  return good == 0xffff;
}
static bool allows_unsigned(const Epilogue& e, uint32_t channel, int64_t max_sum) {
  return e.residual_zero_point == 0 && e.residual_shift <= 1 &&
         allows_magic(e, channel, max_sum, e.residual_shift == 0 ? 32767 : 65535, kMagic);
}
// 255 * 16448 and 128 * 32767 are below 2^22.
static bool allows_signed(const Epilogue& e, uint32_t channel, int64_t max_sum) {
  return e.residual_zero_point >= 0 && e.residual_zero_point <= 255 && e.residual_shift == 0 &&
         allows_magic(e, channel, max_sum, e.residual_zero_point == 128 ? 32767 : 16448,
                      kMagic / 2);
}

// A bound on the magnitude of sums with their biases and residuals, which the planner has proved to
// fit 32 bits.
static float largest_start(const Epilogue& e, uint32_t channel, int64_t max_sum) {
  if (e.residual.data != nullptr && e.residual_shift >= 0) return 0x1p31F;
  __m512i biases = _mm512_setzero_si512();  // ored: none is larger
  if (e.acc_bias != nullptr)
    for (uint32_t i = 0; i < 64; i += 16)
      biases =
          _mm512_or_si512(biases, _mm512_abs_epi32(_mm512_loadu_si512(e.acc_bias + channel + i)));
  const int32_t bias = _mm512_reduce_or_epi32(biases);
  const int64_t largest = max_sum + (bias < 0 ? INT32_MAX : bias);
  return largest < INT32_MAX ? static_cast<float>(largest) : 0x1p31F;
}

// max_sum: bound on the magnitude of the sum of products; fixed: 16-bit lanes are wanted.
static PanelForm panel_form(const Epilogue& e, uint32_t channel, int64_t max_sum, bool fixed) {
  PanelForm form = {ResidualForm::none, false};
  if (e.out == Elem::s32) return form;
  const int64_t zero = e.residual_zero_point;
  const bool near_zero = zero >= 0 && zero <= 255;  // |code - zero| <= 255
  // |acc * m| <= 2^29 and |b| <= 2^29 and |residual * r| < 2^29
  __mmask16 bounded = 0xffff;
  const float max_multiplier = 0x1p29F / largest_start(e, channel, max_sum);
  for (uint32_t i = 0; i < 64; i += 16) {
    bounded &= not_above(e.multiplier + channel + i, max_multiplier);
    bounded &= not_above(e.bias + channel + i, 0x1p29F);
  }
  const bool second = e.second.data == nullptr ||
                      (e.second_lo == 0 && e.second_scale >= -1.0F && e.second_scale <= 1.0F &&
                       e.second_bias >= -0x1p28F && e.second_bias <= 0x1p28F);
  form.fast = bounded == 0xffff && e.lo == 0 && e.activation == Activation::kNone && second;
  if (e.residual.data == nullptr) {
    form.gelu = e.activation == Activation::kGelu || e.activation == Activation::kGeluTanh;
    form.fixed = fixed;
    return form;
  }
  if (e.residual_shift < 0) {
    form.residual = zero == 0 ? ResidualForm::real_from_zero : ResidualForm::real;
    form.fast =
        form.fast && near_zero && e.residual_scale >= -0x1p20F && e.residual_scale <= 0x1p20F;
    return form;
  }
  form.residual = ResidualForm::accumulator;
  form.fixed = fixed;
  if (fixed) return form;
  if (allows_unsigned(e, channel, max_sum)) {
    form.residual = ResidualForm::accumulator_unsigned;
    return form;
  }
  if (allows_signed(e, channel, max_sum)) {
    form.residual = ResidualForm::accumulator_signed;
    return form;
  }
  if (near_zero && e.residual_shift <= 20) {
    const int32_t half = (1 << e.residual_shift) >> 1;
    const __m512i limit = _mm512_set1_epi32(((1 << 24) - 1 - half) / 255);
    __mmask16 small = 0xffff;
    for (uint32_t i = 0; i < 64; i += 16)
      small &= _mm512_cmple_epu32_mask(
          _mm512_abs_epi32(_mm512_loadu_si512(e.residual_factor + channel + i)), limit);
    if (small == 0xffff) form.residual = ResidualForm::accumulator_small;
  }
  return form;
}

// In 16-bit lanes where all vectors have that form.
[[maybe_unused]] static PanelForm panel_form(const Epilogue& e, uint32_t channel, int64_t max_sum) {
  return panel_form(e, channel, max_sum,
                    e.fixed != nullptr && e.fixed[channel / kPanelChannels].others == 0);
}

// What serves both panels.
static PanelForm weaker(PanelForm a, PanelForm b) {
  return {a.residual < b.residual ? a.residual : b.residual, a.fast && b.fast, a.gelu && b.gelu,
          a.fixed && b.fixed};
}

// What serves all panels of a part; it has some. In 16-bit lanes unless more than one vector of 16
// has not that form.
[[maybe_unused]] static PanelForm common_form(const Epilogue& e, const ConvPart& part,
                                              int64_t max_sum) {
  bool fixed = false;
  if (e.fixed != nullptr) {
    uint32_t others = 0;
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p)
      others += static_cast<uint32_t>(__builtin_popcountll(e.fixed[p].others));
    fixed = others * 16 <= (part.panel_end - part.panel_begin) * 4;
  }
  PanelForm form = panel_form(e, part.panel_begin * kPanelChannels, max_sum, fixed);
  for (uint32_t p = part.panel_begin + 1; p < part.panel_end; ++p)
    form = weaker(form, panel_form(e, p * kPanelChannels, max_sum, fixed));
  return form;
}

// Where the accumulators of a panel start.
static const int32_t* form_start(PanelForm form, const int32_t* start, int32_t lowered[64]) {
  if (form.residual < ResidualForm::accumulator_signed) return start;
  const int32_t magic = form.residual == ResidualForm::accumulator_signed ? kSignedMagic : kMagic;
  for (uint32_t i = 0; i < 64; i += 16)
    _mm512_storeu_si512(lowered + i,
                        _mm512_sub_epi32(_mm512_loadu_si512(start + i), _mm512_set1_epi32(magic)));
  return lowered;
}

// scaled_residual of 16 lanes: 64-bit products of even and odd lanes.
static inline __m512i scaled_residual_x16(__m512i code, __m512i factor, int32_t shift) {
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

// The same where every intermediate is a multiple of 2^-shift below 2^24 of them: half away from
// zero is a truncation of x + copysign(1/2, x).
static inline __m512i scaled_residual_small_x16(__m512i code, __m512 factor, __m512 half) {
  const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(code), factor);
  const __m512i sign = _mm512_set1_epi32(INT32_MIN);
  const __m512i signed_half =  // (x & sign) | half
      _mm512_ternarylogic_epi32(_mm512_castps_si512(x), sign, _mm512_castps_si512(half), 0xea);
  return _mm512_cvttps_epi32(_mm512_add_ps(x, _mm512_castsi512_ps(signed_half)));
}

// 2^23 + code of 16 codes, or 1.5 * 2^23: each dropped into the low byte of the magic number.
static inline __m512i magic_code(const uint8_t* codes, int vector, int32_t magic_bits) {
  const __m512i each = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i index = _mm512_add_epi32(each, _mm512_set1_epi32(16 * vector));
  return _mm512_mask_permutexvar_epi8(_mm512_set1_epi32(magic_bits), 0x1111111111111111, index,
                                      _mm512_loadu_si512(codes));
}

struct CodeRange {
  __m512 float_hi;
  __m512i lo, hi;
};

static inline CodeRange code_range(int32_t lo, int32_t hi) {
  return {_mm512_set1_ps(static_cast<float>(hi)), _mm512_set1_epi8(static_cast<char>(lo)),
          _mm512_set1_epi8(static_cast<char>(hi))};
}

// v to codes of 64 channels in channel order.
template <bool kFast>
static inline __m512i to_codes(const __m512 v[4], const CodeRange& range) {
  __m512i q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)  // minimum gives its second operand for NaN
    q[i] = _mm512_cvtps_epi32(kFast ? v[i] : _mm512_min_ps(range.float_hi, v[i]));
  const __m512i codes = _mm512_min_epu8(Avx512Lanes::pack_codes(q), range.hi);
  return kFast ? codes : _mm512_max_epu8(codes, range.lo);
}

static inline void store_real(float* out, uint32_t channels, const __m512 v[4]) {
  const uint64_t mask = ~uint64_t{0} >> (64 - channels);
  for (uint32_t i = 0; i < 4; ++i)
    _mm512_mask_storeu_ps(out + 16 * i, static_cast<__mmask16>(mask >> (16 * i)), v[i]);
}

// Out of line, on a copy: v stays in registers where there is no activation.
__attribute__((noinline)) static void activate_values(const Epilogue& e, __m512* v) {
  for (int i = 0; i < 4; ++i) v[i] = activate<Avx512Lanes>(e, v[i]);
}
static inline void activate_pixel(const Epilogue& e, __m512 v[4]) {
  __m512 copy[4] = {v[0], v[1], v[2], v[3]};
  activate_values(e, copy);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) v[i] = copy[i];
}

// Where sums start that are kept as unsigned words: what is to be added to them.
// Words lie in the order in which packing leaves vectors of 32 bits: unpacking gives them back.
struct WordStarts {
  alignas(64) int32_t sum[kPanelChannels];
  float real[kPanelChannels];     // less 2^23; if exact
  int16_t lanes[kPanelChannels];  // in the order of Lanes16; if the sums fit 16 bits
  bool real_is_exact, lanes_fit;
};

// max_magnitude: of sums that start at 0; biases: where sums start by definition.
[[maybe_unused]] static void fill_word_starts(const int32_t* starts, const int32_t* biases,
                                              int32_t max_magnitude, WordStarts* to) {
  const int32_t room = max_magnitude < INT16_MAX ? INT16_MAX - max_magnitude : 0;
  const __m512i most = _mm512_set1_epi32(room), exact = _mm512_set1_epi32(kMagic - 0xffff);
  __mmask16 fit = 0xffff, real = 0xffff;
  __m512i v[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_loadu_si512(starts + 16 * i);
    _mm512_store_si512(to->sum + 16 * i, v[i]);
    _mm512_store_ps(to->real + 16 * i,
                    _mm512_sub_ps(_mm512_cvtepi32_ps(v[i]), _mm512_set1_ps(kMagic)));
    real &= _mm512_cmplt_epu32_mask(_mm512_abs_epi32(v[i]), exact);
    fit &= _mm512_cmple_epu32_mask(_mm512_abs_epi32(_mm512_loadu_si512(biases + 16 * i)), most);
  }
  _mm512_store_si512(to->lanes, _mm512_packs_epi32(v[0], v[1]));
  _mm512_store_si512(to->lanes + 32, _mm512_packs_epi32(v[2], v[3]));
  to->real_is_exact = real == 0xffff;
  to->lanes_fit = fit == 0xffff && max_magnitude <= INT16_MAX;
}

// The pixels of a block that are not yet written: where their sums are, and where they go.
struct EpilogueCursor {
  const int32_t* sums;      // [pixel][64], or [pixel][64] words
  const uint8_t* residual;  // codes; these four are null where there is none
  uint8_t *out, *second;
  void* dense;         // f32 or s32
  size_t dense_pixel;  // elements from a pixel to the next there
  uint32_t channel, channels, pixels;
  const WordStarts* starts = nullptr;  // of words
};

// How sums of 16 channels are read.
struct Sums32 {
  static constexpr uint32_t kPixel = kPanelChannels;  // int32 from a pixel to the next
  static __m512i load(const int32_t* sums, int i) { return _mm512_loadu_si512(sums + 16 * i); }
  static __m512 real(const int32_t* sums, const WordStarts*, int i) {
    return _mm512_cvtepi32_ps(load(sums, i));
  }
};
struct SumsOfWords {
  static constexpr uint32_t kPixel = kPanelChannels / 2;
  static __m512i unpack(const int32_t* sums, int i, __m512i above) {
    const __m512i words = _mm512_load_si512(sums + i / 2 * 16);
    return i % 2 == 0 ? _mm512_unpacklo_epi16(words, above) : _mm512_unpackhi_epi16(words, above);
  }
  static __m512i load(const int32_t* sums, const WordStarts* starts, int i) {
    return _mm512_add_epi32(unpack(sums, i, _mm512_setzero_si512()),
                            _mm512_load_si512(starts->sum + 16 * i));
  }
  // A word in the low half of 2^23 is 2^23 + word, and what is added exact.
  static __m512 real(const int32_t* sums, const WordStarts* starts, int i) {
    return _mm512_add_ps(_mm512_castsi512_ps(unpack(sums, i, _mm512_set1_epi16(0x4b00))),
                         _mm512_load_ps(starts->real + 16 * i));
  }
};

[[maybe_unused]] static EpilogueCursor cursor_at(const int32_t* sums, const Epilogue& e,
                                                 const Planes& y, void* dense,
                                                 const EpilogueBlock& at) {
  const bool codes = e.out == Elem::u8;
  return {.sums = sums,
          .residual = e.residual.data == nullptr ? nullptr : planes_at(e.residual, at),
          .out = codes ? planes_at(y, at) : nullptr,
          .second = e.second.data == nullptr ? nullptr : planes_at(e.second, at),
          .dense = codes ? nullptr : static_cast<float*>(dense) + at.dense_at,
          .dense_pixel = at.dense_pixel,
          .channel = at.channel,
          .channels = at.channels,
          .pixels = at.pixels};
}

static void write_sums(EpilogueCursor* c, uint32_t pixels) {
  auto* to = static_cast<int32_t*>(c->dense);
  for (uint32_t p = 0; p < pixels; ++p, c->sums += kPanelChannels, to += c->dense_pixel)
    for (uint32_t i = 0; i < c->channels; ++i) to[i] = c->sums[i];
  c->dense = to;
}

// The next pixels of a block. Little is done before the loop: the AMX rows call it for a few pixels
// at a time.
template <ResidualForm kResidual, bool kFast, bool kGelu = false, typename Sums = Sums32>
static void write_block(const Epilogue& e, const Planes& y, EpilogueCursor* c, uint32_t pixels) {
  constexpr bool kHasResidual = kResidual != ResidualForm::none;
  constexpr bool kReal =
      kResidual == ResidualForm::real || kResidual == ResidualForm::real_from_zero;
  constexpr bool kSigned = kResidual == ResidualForm::accumulator_signed;
  static_assert(kReal || !kHasResidual || Sums::kPixel == kPanelChannels);
  __m512 multiplier[4], bias[4], small_factor[4], unmagic[4];
  __m512i factor[4];
  const __m512 unit = _mm512_set1_ps(
      kReal || !kHasResidual ? 0.0F : 1.0F / static_cast<float>(int64_t{1} << e.residual_shift));
  const __m512 half = _mm512_set1_ps(e.residual_shift > 0 ? 0.5F : 0.0F);
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 4; ++i) {
    multiplier[i] = _mm512_loadu_ps(e.multiplier + c->channel + 16 * i);
    bias[i] = _mm512_loadu_ps(e.bias + c->channel + 16 * i);
    if (kHasResidual && !kReal) {
      factor[i] = _mm512_loadu_si512(e.residual_factor + c->channel + 16 * i);
      small_factor[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(factor[i]), unit);
      const __m512 magic = _mm512_set1_ps(kSigned ? kSignedMagic : kMagic);  // all exact
      unmagic[i] = _mm512_fnmadd_ps(magic, small_factor[i], magic);
    }
  }
  const __m512 residual_scale = _mm512_set1_ps(e.residual_scale);
  const __m512i residual_zero = _mm512_set1_epi32(e.residual_zero_point);
  const int32_t residual_shift = e.residual_shift;
  const CodeRange range = code_range(e.lo, e.hi);
  const __m512 second_scale = _mm512_set1_ps(e.second_scale),
               second_bias = _mm512_set1_ps(e.second_bias);
  const CodeRange second_range = code_range(e.second_lo, e.second_hi);

  const auto& taken = e.activation == Activation::kGelu ? kTakenByErf : kTakenByTanh;
  const __m512 activation_scale = _mm512_set1_ps(e.activation_scale),
               activation_bias = _mm512_set1_ps(e.activation_bias);

  const int32_t* sums = c->sums;
  const uint8_t* residual = c->residual;
  uint8_t *out = c->out, *second = c->second;
  auto* real = static_cast<float*>(c->dense);
  const uint32_t channels = c->channels;
  const WordStarts* starts = c->starts;
  alignas(64) uint8_t gathered[64];

#pragma GCC unroll 1
  for (uint32_t p = 0; p < pixels; ++p, sums += Sums::kPixel) {
    __m512 v[4];
    const uint8_t* codes = nullptr;
    if (kHasResidual) {
      codes = gather_codes(residual, e.residual, channels, gathered);
      residual += e.residual.cb;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512i code = _mm512_setzero_si512();
      if (kHasResidual)
        code =
            _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i)));
      if (kHasResidual && kResidual != ResidualForm::real_from_zero)
        code = _mm512_sub_epi32(code, residual_zero);
      if constexpr (kReal || !kHasResidual) {
        v[i] = _mm512_fmadd_ps(Sums::real(sums, starts, i), multiplier[i], bias[i]);
        if (kReal) v[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), residual_scale, v[i]);
        continue;
      }
      __m512i acc = Sums32::load(sums, i);
      if (kResidual == ResidualForm::accumulator)
        acc = _mm512_add_epi32(acc, scaled_residual_x16(code, factor[i], residual_shift));
      if (kSigned || kResidual == ResidualForm::accumulator_unsigned) {
        __m512i magic = magic_code(codes, i, kSigned ? 0x4b400000 : 0x4b000000);
        if (kSigned) magic = _mm512_sub_epi32(magic, residual_zero);
        const __m512 sum = _mm512_add_ps(
            _mm512_cvtepi32_ps(acc),
            _mm512_fmadd_round_ps(_mm512_castsi512_ps(magic), small_factor[i], unmagic[i],
                                  _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
        v[i] = _mm512_fmadd_ps(sum, multiplier[i], bias[i]);
        continue;
      }
      if (kResidual == ResidualForm::accumulator_small)
        acc = _mm512_add_epi32(acc, scaled_residual_small_x16(code, small_factor[i], half));
      v[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), multiplier[i], bias[i]);
    }
    if constexpr (kGelu) {  // activate() in line
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        v[i] =
            _mm512_fmadd_ps(gelu_from<Avx512Lanes>(taken, v[i]), activation_scale, activation_bias);
    } else if (!kFast && e.activation != Activation::kNone) {
      activate_pixel(e, v);
    }
    if (out != nullptr) {
      store_codes(out, y, channels, to_codes<kFast>(v, range));
      out += y.cb;
    } else {
      store_real(real, channels, v);
      real += c->dense_pixel;
    }
    if (second != nullptr) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) v[i] = _mm512_fmadd_ps(v[i], second_scale, second_bias);
      store_codes(second, e.second, channels, to_codes<kFast>(v, second_range));
      second += e.second.cb;
    }
  }
  c->sums = sums;
  c->residual = residual;
  c->out = out;
  c->second = second;
  c->dense = real;
}

// Four vectors of one code's width to two of 16 bits, in the order that pack_codes() undoes.
struct Lanes16 {
  __m512i low, high;
};
static inline Lanes16 pack_lanes(const __m512i v[4]) {
  return {_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3])};
}

static inline Lanes16 load_lanes(const int16_t* lanes) {
  return {_mm512_load_si512(lanes), _mm512_load_si512(lanes + 32)};
}

// 64 times the codes of 16 channels less the offset, by the definition. The residual is exact in
// binary32: codes of at most 8 bits times factors of at most 16.
static inline __m512i definition_x64(const Epilogue& e, uint32_t channel, __m512i acc,
                                     const uint8_t* residual) {
  if (residual != nullptr) {
    const __m512i codes = _mm512_sub_epi32(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(residual))),
        _mm512_set1_epi32(e.residual_zero_point));
    const auto unit = 1.0F / static_cast<float>(1 << e.residual_shift);
    const __m512 factor = _mm512_mul_ps(
        _mm512_cvtepi32_ps(_mm512_loadu_si512(e.residual_factor + channel)), _mm512_set1_ps(unit));
    const __m512 half = _mm512_set1_ps(e.residual_shift > 0 ? 0.5F : 0.0F);
    acc = _mm512_add_epi32(acc, scaled_residual_small_x16(codes, factor, half));
  }
  const __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(e.multiplier + channel),
                                   _mm512_loadu_ps(e.bias + channel));
  const __m512 high = _mm512_set1_ps(static_cast<float>(e.hi));  // limits: the second for NaN
  const __m512 low = _mm512_set1_ps(static_cast<float>(e.lo));
  const __m512i codes = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, low), high));
  return _mm512_slli_epi32(_mm512_sub_epi32(codes, _mm512_set1_epi32(e.fixed_offset)), 6);
}

enum class FixedForm {
  plain,     // all vectors in this form, codes from 0 on, and no residual
  moved,     // codes with an offset or from above 0 on
  residual,  // as plain, with a residual of fewer than 8 bits
  any,
};

static FixedForm fixed_form(const Epilogue& e, const FixedPanel& panel) {
  const bool moved = e.fixed_offset != 0 || e.lo != 0;
  if (panel.others != 0) return FixedForm::any;
  if (e.residual.data == nullptr) return moved ? FixedForm::moved : FixedForm::plain;
  return moved || magnitude_bits(fixed_residual(e)) > 7 ? FixedForm::any : FixedForm::residual;
}

// write_block() in 16-bit lanes (requant/fixed.h): a third of its instructions.
template <FixedForm kForm, typename Sums = Sums32>
__attribute__((always_inline)) static inline void write_fixed(const Epilogue& e, const Planes& y,
                                                              const FixedPanel& panel,
                                                              EpilogueCursor* c, uint32_t pixels) {
  constexpr bool kAny = kForm == FixedForm::any, kMoved = kAny || kForm == FixedForm::moved;
  const bool has_residual = kForm == FixedForm::residual || (kAny && e.residual.data != nullptr);
  const int32_t residual_bits = magnitude_bits(fixed_residual(e));
  const Lanes16 multiplier = load_lanes(panel.multiplier), rounding = load_lanes(panel.rounding),
                factor = load_lanes(panel.factor);
  const CodeRange range = code_range(e.lo, e.hi);
  const __m512i offset = _mm512_set1_epi16(static_cast<int16_t>(e.fixed_offset));
  // Residual codes fill their lanes from above; a sign comes from the zero point.
  const __m512i zero = _mm512_setzero_si512(),
                sign = _mm512_set1_epi8(static_cast<char>(e.residual_zero_point));
  const __m128i up = _mm_cvtsi32_si128(residual_bits > 7 ? 0 : 7 - residual_bits);
  const int32_t* sums = c->sums;
  const uint8_t* residual = c->residual;
  uint8_t* out = c->out;
  alignas(64) uint8_t gathered[64];
  constexpr bool kWords = Sums::kPixel != kPanelChannels;
  static_assert(!kWords || !kAny);
  const Lanes16 starts = kWords ? load_lanes(c->starts->lanes) : Lanes16{};
#pragma GCC unroll 1
  for (uint32_t p = 0; p < pixels; ++p, sums += Sums::kPixel, out += y.cb) {
    const uint8_t* codes = nullptr;
    if (has_residual) {
      codes = gather_codes(residual, e.residual, c->channels, gathered);
      residual += e.residual.cb;
    }
    __m512i acc[4] = {};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      if (!kWords) acc[i] = Sums32::load(sums, i);
    if (kAny && panel.others != 0) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        if ((panel.others >> i & 1) != 0)
          acc[i] = definition_x64(e, c->channel + 16 * i, acc[i],
                                  codes == nullptr ? nullptr : codes + 16 * i);
    }
    Lanes16 s = pack_lanes(acc);
    if (kWords) {
      s = load_lanes(reinterpret_cast<const int16_t*>(sums));
      s = {_mm512_add_epi16(s.low, starts.low), _mm512_add_epi16(s.high, starts.high)};
    }
    if (has_residual) {
      __m512i r = Avx512Lanes::packed_order(_mm512_loadu_si512(codes));
      r = _mm512_sll_epi16(_mm512_xor_si512(r, sign), up);
      Lanes16 lanes = {_mm512_unpacklo_epi8(zero, r), _mm512_unpackhi_epi8(zero, r)};
      if (kAny && residual_bits > 7)
        lanes = {_mm512_srli_epi16(lanes.low, 1), _mm512_srli_epi16(lanes.high, 1)};
      s.low = _mm512_adds_epi16(s.low, _mm512_mulhrs_epi16(lanes.low, factor.low));
      s.high = _mm512_adds_epi16(s.high, _mm512_mulhrs_epi16(lanes.high, factor.high));
    }
    s.low = _mm512_mulhrs_epi16(_mm512_mulhi_epi16(s.low, multiplier.low), rounding.low);
    s.high = _mm512_mulhrs_epi16(_mm512_mulhi_epi16(s.high, multiplier.high), rounding.high);
    if (kMoved) {
      s.low = _mm512_add_epi16(s.low, offset);
      s.high = _mm512_add_epi16(s.high, offset);
    }
    __m512i packed = _mm512_min_epu8(_mm512_packus_epi16(s.low, s.high), range.hi);
    if (kMoved) packed = _mm512_max_epu8(packed, range.lo);
    store_codes(out, y, c->channels, Avx512Lanes::packed_order(packed));
  }
  c->sums = sums;
  c->residual = residual;
  c->out = out;
}
__attribute__((noinline)) static void write_fixed_any(const Epilogue& e, const Planes& y,
                                                      const FixedPanel& panel, EpilogueCursor* c,
                                                      uint32_t pixels) {
  write_fixed<FixedForm::any>(e, y, panel, c, pixels);
}

using WriteFn = void (*)(const Epilogue&, const Planes&, EpilogueCursor*, uint32_t pixels);

// In line, as are its callers: a call, with a cursor in memory, takes as long as three pixels.
__attribute__((always_inline)) static inline void write_fixed_pixels(const Epilogue& e,
                                                                     const Planes& y,
                                                                     EpilogueCursor* c,
                                                                     uint32_t pixels) {
  const FixedPanel& panel = e.fixed[c->channel / kPanelChannels];
  c->pixels -= pixels;
  switch (fixed_form(e, panel)) {
    case FixedForm::plain:
      return write_fixed<FixedForm::plain>(e, y, panel, c, pixels);
    case FixedForm::moved:
      return write_fixed<FixedForm::moved>(e, y, panel, c, pixels);
    case FixedForm::residual:
      return write_fixed<FixedForm::residual>(e, y, panel, c, pixels);
    default:
      return write_fixed_any(e, y, panel, c, pixels);
  }
}

// In any form but the fixed-point one.
static void write_pixels(const Epilogue& e, const Planes& y, PanelForm form, EpilogueCursor* c,
                         uint32_t pixels) {
  using R = ResidualForm;
  static constexpr WriteFn kWrite[][2] = {
      // [residual form][fast]
      {write_block<R::none, false>, write_block<R::none, true>},
      {write_block<R::real, false>, write_block<R::real, true>},
      {write_block<R::real_from_zero, false>, write_block<R::real_from_zero, true>},
      {write_block<R::accumulator, false>, write_block<R::accumulator, true>},
      {write_block<R::accumulator_small, false>, write_block<R::accumulator_small, true>},
      {write_block<R::accumulator_signed, false>, write_block<R::accumulator_signed, true>},
      {write_block<R::accumulator_unsigned, false>, write_block<R::accumulator_unsigned, true>},
  };
  c->pixels -= pixels;
  if (e.out == Elem::s32)
    write_sums(c, pixels);
  else if (form.gelu)
    write_block<R::none, false, true>(e, y, c, pixels);
  else
    kWrite[static_cast<int>(form.residual)][form.fast](e, y, c, pixels);
}

[[maybe_unused, gnu::always_inline]] static inline void run_epilogue(const int32_t* sums,
                                                                     const Epilogue& e,
                                                                     const Planes& y, void* dense,
                                                                     const EpilogueBlock& at,
                                                                     PanelForm form) {
  EpilogueCursor cursor = cursor_at(sums, e, y, dense, at);
  if (!form.fixed) return write_pixels(e, y, form, &cursor, at.pixels);
  write_fixed_pixels(e, y, &cursor, at.pixels);
}

// run_epilogue() of sums of at most 16 pixels that are words: those that have a shorter way from
// words take it, the others are made what they would have been.
[[maybe_unused, gnu::always_inline]] static inline void run_word_epilogue(
    const uint16_t* words, const WordStarts& starts, const Epilogue& e, const Planes& y,
    void* dense, const EpilogueBlock& at, PanelForm form) {
  using R = ResidualForm;
  static constexpr WriteFn kWrite[][2] = {
      {write_block<R::none, false, false, SumsOfWords>,
       write_block<R::none, true, false, SumsOfWords>},
      {write_block<R::real, false, false, SumsOfWords>,
       write_block<R::real, true, false, SumsOfWords>},
      {write_block<R::real_from_zero, false, false, SumsOfWords>,
       write_block<R::real_from_zero, true, false, SumsOfWords>}};
  EpilogueCursor c = cursor_at(reinterpret_cast<const int32_t*>(words), e, y, dense, at);
  c.starts = &starts;
  if (form.fixed && starts.lanes_fit) {
    const FixedPanel& panel = e.fixed[at.channel / kPanelChannels];
    switch (fixed_form(e, panel)) {
      case FixedForm::plain:
        return write_fixed<FixedForm::plain, SumsOfWords>(e, y, panel, &c, at.pixels);
      case FixedForm::moved:
        return write_fixed<FixedForm::moved, SumsOfWords>(e, y, panel, &c, at.pixels);
      case FixedForm::residual:
        return write_fixed<FixedForm::residual, SumsOfWords>(e, y, panel, &c, at.pixels);
      case FixedForm::any:
        break;
    }
  } else if (!form.fixed && e.out != Elem::s32 && starts.real_is_exact &&
             form.residual <= R::real_from_zero) {
    if (form.gelu) return write_block<R::none, false, true, SumsOfWords>(e, y, &c, at.pixels);
    return kWrite[static_cast<int>(form.residual)][form.fast](e, y, &c, at.pixels);
  }
  alignas(64) int32_t sums[16 * kPanelChannels];
  for (uint32_t p = 0; p < at.pixels; ++p, c.sums += SumsOfWords::kPixel)
    for (int i = 0; i < 4; ++i)
      _mm512_store_si512(sums + p * kPanelChannels + 16 * i, SumsOfWords::load(c.sums, &starts, i));
  run_epilogue(sums, e, y, dense, at, form);
}

}  // namespace mpq::kernels
