// What the host hands to the CUDA kernels: one plain struct a kernel, passed by value. Pointers are
// addresses of the device, aligned to 16 bytes unless it says otherwise.
#pragma once

#include <cstdint>

#include "kernels/device.h"

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

  // Row i of the product is pixel i of x.
  MPQ_EVERYWHERE bool is_plain() const {
    return r == 1 && s == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 &&
           oh == h && ow == w;
  }
};

// attention_64, attention_32 (by head size): kernels/attention/attention.h, with Q, K and V in one
// tensor of 8-bit codes.
struct AttentionParams {
  const uint32_t* starts = nullptr;  // [sequences + 1], aligned to 4
  uint32_t sequences = 0, heads = 0, max_length = 0;
  Codes qkv;
  const float* score_scale = nullptr;    // [heads]
  const float* value_scale = nullptr;    // [heads]
  const float* relative_bias = nullptr;  // [heads][2 max_length - 1]; null: none
  float out_bias = 0.0F;
  int32_t lo = 0, hi = 255;
  Codes y;
};

// layer_norm: kernels/norm/norm.h. y may be x.
struct LayerNormParams {
  uint32_t tokens = 0, width = 0;
  const float* x = nullptr;         // [tokens][width], as residual and y
  const float* residual = nullptr;  // null: none
  const float* gamma = nullptr;     // [width], as beta
  const float* beta = nullptr;
  float epsilon = 0.0F;
  float* y = nullptr;
  Codes second;  // data null: none
  float second_scale = 0.0F, second_bias = 0.0F;
  const float* second_gamma = nullptr;  // [width], as second_beta; null: by second_scale
  const float* second_beta = nullptr;
  int32_t second_lo = 0, second_hi = 255;
};

// max_pool, average_pool: kernels/pool/pool.h.
struct PoolParams {
  uint32_t n = 1, c = 0, h = 1, w = 1, oh = 1, ow = 1;
  uint32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int32_t pad_top = 0, pad_left = 0;
  Codes x, y;
  // Average only from here.
  float* dense = nullptr;  // instead of y: [n][c][oh][ow]
  int32_t zero_point = 0;
  float multiplier = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
};

// add_codes: kernels/eltwise/eltwise.h.
struct AddParams {
  uint32_t pixels = 0, c = 0;
  Codes a, b, y;
  Codes second;  // data null: none
  int32_t a_zero_point = 0, b_zero_point = 0;
  float a_scale = 0.0F, b_scale = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;
};

// quantize_f32: kernels/quantize/quantize.h. Strides in elements.
struct QuantizeParams {
  uint32_t n = 1, c = 0, h = 1, w = 1;
  const float* x = nullptr;
  int64_t image = 0, channel = 0, row = 0, pixel = 0;
  Codes y;
  float scale = 1.0F;
  int32_t zero_point = 0, lo = 0, hi = 255;
};

// quantize_image: pixels by a table, into an image with its padding in memory:
//   y[n][i][j][c] = table[c][pixels[n][i - pad_top][j - pad_left][c]], outside: zero_point
// With fold 2, 2 x 2 pixels become one of 16 channels, so that a convolution of stride 2 over up to
// 4 channels is one of stride 1 over 16 (fold_weights of weights.h): channel (2 di + dj) 4 + c of
// (i, j) is channel c of (2 i + di, 2 j + dj).
struct ImageParams {
  uint32_t n = 1, c = 0, h = 1, w = 1;
  const uint8_t* pixels = nullptr;  // [n][h][w][c], aligned to 1
  const uint8_t* table = nullptr;   // [c][256]
  uint32_t fold = 1;
  uint32_t oh = 1, ow = 1;  // of y
  int32_t pad_top = 0, pad_left = 0;
  int32_t zero_point = 0;
  Codes y;
};

// activate_f32: v = fma(activation(x), scale, bias), as it is or in codes.
struct ActivateParams {
  uint32_t rows = 0, width = 0;
  const float* x = nullptr;  // [rows][width]
  Activation activation = Activation::kNone;
  float scale = 1.0F, bias = 0.0F;
  float* dense = nullptr;  // [rows][width]; null: codes
  Codes y;
  int32_t lo = 0, hi = 255;
};

// embed: kernels/sequence/sequence.h.
struct EmbeddingParams {
  const int32_t* ids = nullptr;      // [tokens]
  const int32_t* types = nullptr;    // [tokens]; null: no types
  const uint32_t* starts = nullptr;  // [sequences + 1]
  uint32_t sequences = 0, max_length = 0, width = 0;
  const float* words = nullptr;        // [V][width], or
  const int8_t* word_codes = nullptr;  // the same in codes, with
  const float* word_scale = nullptr;   // [V]
  const float* positions = nullptr;    // [P][width]
  const float* type_rows = nullptr;    // [K][width]
  uint32_t position_offset = 0;
  float* y = nullptr;  // [tokens][width]
};

// pool_sequences: kernels/sequence/sequence.h. width <= 12000.
struct SequencePoolParams {
  const float* x = nullptr;          // [tokens][width]
  const uint32_t* starts = nullptr;  // [sequences + 1]
  uint32_t sequences = 0, width = 0;
  uint32_t mean = 0, normalise = 0;  // 0 or 1
  float* y = nullptr;                // [sequences][width]
};

}  // namespace mpq::cuda
