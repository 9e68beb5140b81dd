// From sums to codes on a GPU: kernels/requant/requant.h, bit for bit, eight neighbouring channels
// a thread.
#pragma once

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/primitives.h"
#include "kernels/math/functions.h"

namespace mpq::cuda {
namespace {

// round_half_even(v) clamped to [lo, hi], lo >= 0; NaN gives lo. The conversion saturates, NaN to
// 0, and rounding never crosses an integer, so integers may be clamped instead.
MPQ_DEVICE uint32_t round_clamp(float v, int32_t lo, int32_t hi) {
  int32_t code = round_to_int(v);
  code = code > lo ? code : lo;
  return static_cast<uint32_t>(code < hi ? code : hi);
}

MPQ_DEVICE int32_t scaled_residual(int32_t code, int32_t factor, int32_t shift) {
  const int64_t p = static_cast<int64_t>(code) * factor;
  const int64_t half = (int64_t{1} << shift) >> 1;
  const int64_t magnitude = ((p < 0 ? -p : p) + half) >> shift;
  return static_cast<int32_t>(p < 0 ? -magnitude : magnitude);
}

// Eight codes from channel `channel` on, a multiple of 8, of a row; 0 beyond the pitch.
MPQ_DEVICE void load_codes(const Codes& from, uint32_t row, uint32_t channel, int32_t (&codes)[8]) {
  const uint32_t bits = from.bits, at = channel * bits / 8;
  const uint8_t* p =
      static_cast<const uint8_t*>(from.data) + static_cast<uint64_t>(row) * from.pitch + at;
  Words2 w = {};
  const bool exists = at < from.pitch;
  if (exists && bits == 8)
    w = load_const(reinterpret_cast<const Words2*>(p));
  else if (exists && bits == 4)
    w.x[0] = load_const(reinterpret_cast<const uint32_t*>(p));
  else if (exists)
    w.x[0] = load_const(reinterpret_cast<const uint16_t*>(p));
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t word = bits == 8 ? w.x[i / 4] : w.x[0];
    const uint32_t shift = bits == 8 ? i % 4 * 8 : i * bits;
    codes[i] = static_cast<int32_t>(word >> shift & ((1U << bits) - 1));
  }
}

// Their counterpart. Codes beyond the pitch are dropped.
MPQ_DEVICE void store_codes(const Codes& to, uint32_t row, uint32_t channel,
                            const uint32_t (&codes)[8]) {
  const uint32_t bits = to.bits, at = channel * bits / 8;
  if (at >= to.pitch) return;
  auto* p = static_cast<uint8_t*>(to.data) + static_cast<uint64_t>(row) * to.pitch + at;
  uint32_t low = 0, high = 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    low |= codes[i] << (i * bits);
    high |= codes[i + 4] << (i * bits);
  }
  if (bits == 8)
    store(reinterpret_cast<Words2*>(p), Words2{{low, high}});
  else if (bits == 4)
    store(reinterpret_cast<uint32_t*>(p), low | high << 16);
  else
    store(reinterpret_cast<uint16_t*>(p), static_cast<uint16_t>(low | high << 8));
}

// Four codes from channel `channel` on, a multiple of 4, within the pitch.
MPQ_DEVICE void store_four(const Codes& to, uint32_t row, uint32_t channel,
                           const uint32_t (&codes)[4]) {
  const uint32_t bits = to.bits;
  auto* p =
      static_cast<uint8_t*>(to.data) + static_cast<uint64_t>(row) * to.pitch + channel * bits / 8;
  const uint32_t word =
      codes[0] | codes[1] << bits | codes[2] << (2 * bits) | codes[3] << (3 * bits);
  if (bits == 8)
    store(reinterpret_cast<uint32_t*>(p), word);
  else if (bits == 4)
    store(reinterpret_cast<uint16_t*>(p), static_cast<uint16_t>(word));
  else
    store(p, static_cast<uint8_t>(word));
}

// What is the same for all rows of eight channels.
struct EightChannels {
  float multiplier[8], bias[8];
  int32_t acc_bias[8];
};

MPQ_DEVICE void load_eight(const int32_t* p, int32_t (&to)[8]) {
#pragma unroll
  for (uint32_t i = 0; i < 8; i += 4) {
    const Words4 w = load_const(reinterpret_cast<const Words4*>(p + i));
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) to[i + j] = static_cast<int32_t>(w.x[j]);
  }
}

MPQ_DEVICE void load_eight(const float* p, float (&to)[8]) {
#pragma unroll
  for (uint32_t i = 0; i < 8; i += 4) {
    const Words4 w = load_const(reinterpret_cast<const Words4*>(p + i));
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) to[i + j] = float_of(w.x[j]);
  }
}

MPQ_DEVICE EightChannels eight_channels(const Epilogue& e, uint32_t channel) {
  EightChannels c;
  load_eight(e.multiplier + channel, c.multiplier);
  load_eight(e.bias + channel, c.bias);
  if (e.acc_bias != nullptr)
    load_eight(e.acc_bias + channel, c.acc_bias);
  else
    for (int32_t& bias : c.acc_bias) bias = 0;
  return c;
}

// Finishes eight channels of a row: sums without acc_bias.
template <bool has_activation>
MPQ_DEVICE void finish(const Epilogue& e, const EightChannels& c, uint32_t row, uint32_t channel,
                       uint32_t o, int32_t (&acc)[8]) {
  int32_t residual[8] = {};
  if (e.residual.data != nullptr) {
    load_codes(e.residual, row, channel, residual);
    for (int32_t& code : residual) code -= e.residual_zero_point;
  }
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) acc[i] += c.acc_bias[i];
  if (e.out == Output::kSums) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i)
      if (channel + i < o)
        store(static_cast<int32_t*>(e.dense) + static_cast<uint64_t>(row) * o + channel + i,
              acc[i]);
    return;
  }
  if (e.residual.data != nullptr && e.residual_shift >= 0) {
    int32_t factor[8];
    load_eight(e.residual_factor + channel, factor);
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i)
      acc[i] += scaled_residual(residual[i], factor[i], e.residual_shift);
  }
  float v[8];
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) {
    v[i] = fma(to_float(acc[i]), c.multiplier[i], c.bias[i]);
    if (e.residual.data != nullptr && e.residual_shift < 0)
      v[i] = fma(to_float(residual[i]), e.residual_scale, v[i]);
    if constexpr (has_activation) {
      v[i] = kernels::gelu_from<CudaLanes>(
          e.activation == Activation::kGelu ? kernels::kTakenByErf : kernels::kTakenByTanh, v[i]);
      v[i] = fma(v[i], e.activation_scale, e.activation_bias);
    }
  }
  uint32_t codes[8];
  if (e.out == Output::kFloat) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i)
      if (channel + i < o)
        store(static_cast<float*>(e.dense) + static_cast<uint64_t>(row) * o + channel + i, v[i]);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) codes[i] = round_clamp(v[i], e.lo, e.hi);
    store_codes(e.y, row, channel, codes);
  }
  if (e.second.data == nullptr) return;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i)
    codes[i] = round_clamp(fma(v[i], e.second_scale, e.second_bias), e.second_lo, e.second_hi);
  store_codes(e.second, row, channel, codes);
}

}  // namespace
}  // namespace mpq::cuda
