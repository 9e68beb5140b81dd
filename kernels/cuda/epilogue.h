// From sums to codes on a GPU: kernels/requant/requant.h, bit for bit, eight neighbouring channels
// a thread.
#pragma once

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/primitives.h"
#include "kernels/cuda/rounding.h"
#include "kernels/math/functions.h"

namespace mpq::cuda {
namespace {

// round_half_even(v) clamped to [lo, hi], 0 <= lo, plus kRounded; NaN gives lo. Rounding never
// crosses an integer, so what is rounded may be clamped before.
MPQ_DEVICE uint32_t round_clamp_up(float v, float lo, float hi) {
  return rounded(min_number(max_number(v, lo), hi));
}
MPQ_DEVICE uint32_t round_clamp(float v, int32_t lo, int32_t hi) {
  return round_clamp_up(v, to_float(lo), to_float(hi)) - kRounded;
}

// p / 2^shift, half away from zero, of p = code * factor. Of a negative p, rounded down, half is
// less by the least there is; a p of 0 may pass for one.
MPQ_DEVICE int32_t scaled_residual(int32_t code, int32_t factor, int32_t shift) {
  const int32_t half = static_cast<int32_t>((1U << shift) >> 1), less = half != 0 ? -1 : 0;
  const auto added = static_cast<uint32_t>(half + ((code ^ factor) >> 31 & less));
  return static_cast<int32_t>((static_cast<int64_t>(code) * factor + static_cast<int64_t>(added)) >>
                              shift);
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

// Four codes side by side, each given plus `more`.
MPQ_DEVICE uint32_t packed(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t bits,
                           uint32_t more) {
  const uint32_t next = 1U << bits;
  return ((d * next + c) * next + b) * next + a - more * (((next + 1) * next + 1) * next + 1);
}

// The counterpart of load_codes, of codes plus `more`. Codes beyond the pitch are dropped.
MPQ_DEVICE void store_codes(const Codes& to, uint32_t row, uint32_t channel,
                            const uint32_t (&codes)[8], uint32_t more = 0) {
  const uint32_t bits = to.bits, at = channel * bits / 8;
  if (at >= to.pitch) return;
  auto* p = static_cast<uint8_t*>(to.data) + static_cast<uint64_t>(row) * to.pitch + at;
  const uint32_t low = packed(codes[0], codes[1], codes[2], codes[3], bits, more);
  const uint32_t high = packed(codes[4], codes[5], codes[6], codes[7], bits, more);
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

// Eight words of 4 bytes of a row of `o`, without those beyond it.
MPQ_DEVICE void store_dense(void* dense, uint32_t row, uint32_t channel, uint32_t o,
                            const uint32_t (&words)[8]) {
  uint32_t* to = static_cast<uint32_t*>(dense) + static_cast<uint64_t>(row) * o + channel;
  if (o % 4 == 0 && channel + 8 <= o && reinterpret_cast<uintptr_t>(dense) % 16 == 0) {
    store(reinterpret_cast<Words4*>(to), Words4{{words[0], words[1], words[2], words[3]}});
    store(reinterpret_cast<Words4*>(to + 4), Words4{{words[4], words[5], words[6], words[7]}});
    return;
  }
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i)
    if (channel + i < o) store(to + i, words[i]);
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
    if (e.residual_zero_point != 0)
      for (int32_t& code : residual) code -= e.residual_zero_point;
  }
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i) acc[i] += c.acc_bias[i];
  if (e.out == Output::kSums) {
    uint32_t words[8];
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) words[i] = static_cast<uint32_t>(acc[i]);
    store_dense(e.dense, row, channel, o, words);
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
  }
  if (e.residual.data != nullptr && e.residual_shift < 0) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) v[i] = fma(to_float(residual[i]), e.residual_scale, v[i]);
  }
  if constexpr (has_activation) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      v[i] = kernels::gelu_from<CudaLanes>(
          e.activation == Activation::kGelu ? kernels::kTakenByErf : kernels::kTakenByTanh, v[i]);
      v[i] = fma(v[i], e.activation_scale, e.activation_bias);
    }
  }
  uint32_t codes[8];
  if (e.out == Output::kFloat) {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) codes[i] = bits_of(v[i]);
    store_dense(e.dense, row, channel, o, codes);
  } else {
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i)
      codes[i] = round_clamp_up(v[i], to_float(e.lo), to_float(e.hi));
    store_codes(e.y, row, channel, codes, kRounded);
  }
  if (e.second.data == nullptr) return;
#pragma unroll
  for (uint32_t i = 0; i < 8; ++i)
    codes[i] = round_clamp_up(fma(v[i], e.second_scale, e.second_bias), to_float(e.second_lo),
                              to_float(e.second_hi));
  store_codes(e.second, row, channel, codes, kRounded);
}

}  // namespace
}  // namespace mpq::cuda
