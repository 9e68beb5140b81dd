// What the host hands to the CUDA kernels: one plain struct a kernel, passed by value. Pointers are
// addresses of the device, aligned to 16 bytes unless it says otherwise.
#pragma once

#include <cstdint>

namespace mpq::cuda {

// Codes on a GPU are packed at their own width: a pixel (or token) is `pitch` bytes, a multiple of
// 16, with channel c at bits [c * bits, (c + 1) * bits), low bits first; pixels are dense, rows and
// images one behind the other. Channels beyond the last are unspecified: weights are 0 there.
struct Codes {
  void* data = nullptr;
  uint32_t pitch = 0;
  uint32_t bits = 0;  // 8, 4 or 2
};

enum class Output : uint32_t { kCodes, kFloat, kSums };
enum class Activation : uint32_t { kNone, kGelu, kGeluTanh, kTanh };

// kernels/requant/requant.h, on packed codes. Arrays have an entry a channel, padded to a multiple
// of 32 entries.
struct Epilogue {
  const int32_t* acc_bias = nullptr;  // null: 0
  const float* multiplier = nullptr;
  const float* bias = nullptr;
  Output out = Output::kCodes;
  int32_t lo = 0, hi = 255;
  Codes y;                // for kCodes
  void* dense = nullptr;  // for kFloat and kSums: [pixel][o], 4 bytes each, aligned to 4

  Codes residual;  // data null: none
  int32_t residual_zero_point = 0;
  float residual_scale = 0.0F;
  int32_t residual_shift = -1;  // >= 0: in the accumulator domain, with residual_factor
  const int32_t* residual_factor = nullptr;

  Codes second;  // data null: none
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;

  // kGelu and kGeluTanh: of the kernels named so only. kTanh: never here (ActivateParams).
  Activation activation = Activation::kNone;
  float activation_scale = 1.0F, activation_bias = 0.0F;
};

// conv_*: a convolution as a matrix product of m = n oh ow rows; a plain one has h = oh = 1, w = ow
// = m, r = s = 1. Limits: sums times the factor of weight_shift (tile.h) within int32, tensors
// below 2^31 bytes.
struct ConvParams {
  const void* x = nullptr;  // codes of the kernel's width
  uint32_t x_pitch = 0;     // bytes
  uint32_t n = 1, h = 1, w = 1, oh = 1, ow = 1, o = 0;
  uint32_t r = 1, s = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int32_t pad_top = 0, pad_left = 0;
  // The 16 bytes of a pixel outside the image, or padding_bytes = 0 where the code of real 0 is 0.
  const void* padding = nullptr;
  uint32_t padding_bytes = 0;

  const void* weights = nullptr;  // weights.h
  uint32_t k_steps = 0;

  // Parts of k, one a block in z. If more than one, they add up in `partial`, and the last block of
  // an output tile finishes it: both are 0 before, and again after.
  uint32_t splits = 1;
  int32_t* partial = nullptr;   // [tiles][accumulators of a tile]
  uint32_t* tickets = nullptr;  // [tiles]

  Epilogue epilogue;
};

}  // namespace mpq::cuda
