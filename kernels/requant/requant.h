// From exact int32 sums to codes: the definition that every epilogue inherits. Portable, scalar;
// the vector forms in the ISA files are proved equal to it bit for bit. Source: numerics section of
// kernels/README.md. Callers run with round-to-nearest-even and denormals kept.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/math/functions.h"
#include "kernels/math/lanes_scalar.h"
#include "kernels/requant/fixed.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

enum class Activation : uint8_t { kNone, kGelu, kGeluTanh, kTanh };

// Arrays have one entry per output channel, padded to a multiple of 64 entries (0 in the padding).
struct Epilogue {
  const int32_t* acc_bias = nullptr;  // acc starts here
  const float* multiplier = nullptr;
  const float* bias = nullptr;
  Elem out = Elem::u8;  // u8 (codes of any width), s32 (acc as it is) or f32 (v as it is)
  int32_t lo = 0, hi = 255;

  // Residual codes of the output's shape; residual.data == nullptr when there is none. They may be
  // the output's own planes: a code is read before its place is written, and written once.
  Planes residual;
  int32_t residual_zero_point = 0, residual_bits = 8;
  float residual_scale = 0.0F;
  int32_t residual_shift = -1;  // >= 0: in the accumulator domain, with residual_factor
  const int32_t* residual_factor = nullptr;

  // An equal form in 16-bit lanes that a kernel may take, [channel / 64]; null: it is not worth
  // trying. See fixed.h; no activation, no second output, and a residual only in the accumulator
  // domain.
  const FixedPanel* fixed = nullptr;
  int32_t fixed_offset = 0;

  // Second output of the same v; second.data == nullptr when there is none.
  Planes second;
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;

  // v = fma(activation(v), activation_scale, activation_bias) before v becomes anything.
  Activation activation = Activation::kNone;
  float activation_scale = 1.0F, activation_bias = 0.0F;
};

[[maybe_unused]] static FixedCodes fixed_codes(const Epilogue& e) {
  return {e.fixed_offset, e.lo, e.hi};
}
[[maybe_unused]] static FixedResidual fixed_residual(const Epilogue& e) {
  return {e.residual_shift, e.residual_bits, e.residual_zero_point};
}

namespace {

// There is an activation. L: lanes of math/.
template <typename L>
static inline typename L::F activate(const Epilogue& e, typename L::F v) {
  v = e.activation == Activation::kGelu       ? gelu<L>(v)
      : e.activation == Activation::kGeluTanh ? gelu_tanh<L>(v)
                                              : tanh_of<L>(v);
  return L::fma(v, L::set(e.activation_scale), L::set(e.activation_bias));
}

}  // namespace

// round_half_even(v) clamped to [lo, hi]; clamps first, so huge and infinite v are fine. NaN gives
// lo.
inline int32_t round_clamp(float v, int32_t lo, int32_t hi) {
  const auto flo = static_cast<float>(lo);
  const auto fhi = static_cast<float>(hi);
  v = v > flo ? v : flo;
  v = v < fhi ? v : fhi;
  return static_cast<int32_t>(std::nearbyintf(v));
}

// The residual in the accumulator domain: half away from zero.
inline int32_t scaled_residual(int32_t code, int32_t factor, int32_t shift) {
  const int64_t p = static_cast<int64_t>(code) * factor;
  const int64_t half = (int64_t{1} << shift) >> 1;
  const int64_t magnitude = ((p < 0 ? -p : p) + half) >> shift;
  return static_cast<int32_t>(p < 0 ? -magnitude : magnitude);
}

// acc includes acc_bias. v of channel c, with the residual code if there is one (ignored
// otherwise).
static inline float requant_value(int32_t acc, const Epilogue& e, uint32_t c,
                                  int32_t residual_code) {
  const int32_t residual = residual_code - e.residual_zero_point;
  if (e.residual.data != nullptr && e.residual_shift >= 0)
    acc += scaled_residual(residual, e.residual_factor[c], e.residual_shift);
  float v = std::fmaf(static_cast<float>(acc), e.multiplier[c], e.bias[c]);
  if (e.residual.data != nullptr && e.residual_shift < 0)
    v = std::fmaf(static_cast<float>(residual), e.residual_scale, v);
  return e.activation == Activation::kNone ? v : activate<ScalarLanes>(e, v);
}

}  // namespace mpq::kernels
