// The model in memory: what the converter emits, what the writer and the reader translate to and
// from bytes, and what the runtime plans. A plain immutable value: after reading, nothing refers to
// the FlatBuffer any more; only bulk data is borrowed from the file's bytes.
//
// Graph rules (validate.h checks all of them): nodes are in topological order, each tensor is a
// graph input, a constant or the output of exactly one earlier node.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "format/types.h"

namespace mpq::format {

using TensorId = uint32_t;
inline constexpr TensorId kNoTensor = std::numeric_limits<TensorId>::max();  // an absent optional

struct Tensor {
  std::string name;  // unique, non-empty
  DType dtype = DType::kF32;
  Shape shape;
  QuantParams quant;  // of code tensors
  // Constants only: canonical bytes, i.e. elements in row-major order, packed low bits first
  // without row padding (bits.h). Borrowed: from the file's bytes, or from the converter's buffers.
  std::span<const std::byte> data;
  bool is_constant() const { return !data.empty(); }
};

// Operators. Values are pinned in the file.
enum class OpCode : uint8_t {
  kImageQuantize = 0,
  kQuantize = 1,
  kConv2d = 2,
  kLinear = 3,
  kMaxPool = 4,
  kAvgPool = 5,
  kAdd = 6,
};
inline constexpr int kOpCodeCount = 7;
const char* to_string(OpCode op);  // "conv2d"
using mpq::to_string;

// How an exact int32 sum becomes a code: numerics.md ("Requantise") to the last bit.
//   v    = fma(float(acc), multiplier[c], bias[c])
//   v    = fma(float(residual_code - residual_zero_point), residual_scale, v)   if there is one
//   code = clamp(round_half_even(v), lo, hi)
//   code2 = clamp(round_half_even(fma(v, second_scale, second_bias)), lo2, hi2) for a second output
// The zero point of the output is inside bias[c] (and second_bias). acc starts at acc_bias[c]
// (s32), which also carries -zero_point(x) * sum(w).
// Residual in the accumulator domain instead (residual_shift >= 0): before the first line,
//   p = (residual_code - residual_zero_point) * residual_factor[c]      (int64)
//   acc += sign(p) * ((|p| + (1 << shift >> 1)) >> shift)                 half away from zero
// f32 output: v as it is, lo and hi ignored. s32 output: acc as it is.
struct Requant {
  int32_t lo = 0, hi = 255;  // within the output's code range; narrowed by ReLU or clip
  float residual_scale = 0.0F;
  int32_t residual_shift = -1;  // >= 0: residual in the accumulator domain
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;
};

// Inputs of a node that has a Requant: positions after the operator's own inputs. Optional ones may
// be kNoTensor; trailing kNoTensor may be dropped.
//   conv2d, linear: x (codes), weights (s8/s4/s2), multiplier f32[C], bias f32[C], acc_bias
//   s32[C]?,
//                   residual? (codes, same shape as the output), residual_factor s32[C]?
// Outputs: y (codes, f32 or s32), and optionally the second y (codes).
enum ConvInput : uint8_t {
  kX = 0,
  kWeights = 1,
  kMultiplier = 2,
  kBias = 3,
  kAccBias = 4,
  kResidual = 5,
  kResidualFactor = 6
};

// image_quantize: x u8 NHWC pixels [N,H,W,C], table u8 [C,256] -> codes NCHW: code =
// table[c][pixel].
struct ImageQuantizeAttrs {};
// quantize: x f32 (NCHW or [M,K]) -> codes of the same shape:
//   code = clamp(round_half_even(x / scale) + zero_point, range of the type); x/scale in binary32.
struct QuantizeAttrs {};
// conv2d: x [N,C,H,W], weights [O,C,R,S] -> [N,O,OH,OW]. Padding holds the zero point of x.
struct Conv2dAttrs {
  uint32_t stride_h = 1, stride_w = 1;
  uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  uint32_t dilation_h = 1, dilation_w = 1;
  uint32_t groups = 1;
  Requant requant;
};
// linear: x [M,K] (or [N,C,1,1], K = C), weights [O,K] -> [M,O].
struct LinearAttrs {
  Requant requant;
};
// max_pool: on codes, same quant in and out; padding never wins (it is the lowest code).
struct MaxPoolAttrs {
  uint32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  uint32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
};
// avg_pool, global when kernel is 0: exact int32 sum of (code - zero point), then
// v = fma(float(sum), multiplier, bias), code = clamp(round_half_even(v)); or f32 v.
struct AvgPoolAttrs {
  uint32_t kernel_h = 0, kernel_w = 0, stride_h = 1, stride_w = 1;
  float multiplier = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
};
// add: a, b codes of one shape.
//   v = fma(float(a - za), scale_a, fma(float(b - zb), scale_b, bias)); then as Requant's code,
//   code2.
struct AddAttrs {
  float scale_a = 0.0F, scale_b = 0.0F, bias = 0.0F;
  int32_t lo = 0, hi = 255;
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;
};

// In OpCode order.
using Attrs = std::variant<ImageQuantizeAttrs, QuantizeAttrs, Conv2dAttrs, LinearAttrs,
                           MaxPoolAttrs, AvgPoolAttrs, AddAttrs>;

struct Node {
  std::string name;  // unique, non-empty: the key of precision maps
  Attrs attrs;
  std::vector<TensorId> inputs, outputs;
  OpCode op() const { return static_cast<OpCode>(attrs.index()); }
};

// The precision map with its provenance: what was chosen for each layer, by what, from what.
struct MapLayer {
  std::string node;
  uint8_t weight_bits = 8, activation_bits = 8;  // activation_bits: of the layer's input
  uint32_t group = 0;                            // linked layers share a group
};
struct MapGroup {
  double gain = 0.0, gain_stderr = 0.0;
  double cost_high = 0.0, cost_low = 0.0;  // in units of the cost model
  bool fixed = false;                      // first and last layer
};
struct PrecisionMap {
  std::string method;               // "eagl", "alps", "uniform", "manual", "imported", ...
  std::string cost_model;           // "bmac", "bops", "bytes", "latency"
  std::string solver;               // "pareto-dp", ...
  std::string checkpoint;           // "trained", "ptq", "imported"
  std::string source_sha256;        // of the source model file, hex
  double budget = 0.0;              // fraction of the all-high cost of the selectable layers
  double value = 0.0, bound = 0.0;  // sum of kept gains; LP upper bound
  uint64_t seed = 0;
  std::vector<MapLayer> layers;  // graph order
  std::vector<MapGroup> groups;
};

// How an encoded image becomes the u8 NHWC input; absent when the input is not an image.
struct ImagePreprocess {
  enum class Resize : uint8_t {
    kNone = 0,
    kBilinearAntialias = 1,
    kBicubicAntialias = 2,
    kArea = 3
  };
  Resize resize = Resize::kBilinearAntialias;
  uint32_t resize_shorter = 256;  // 0: no resize; images whose shorter side is already in
                                  // [crop, resize_shorter] are only cropped when crop_only_small
  bool crop_only_small = false;
  uint32_t crop_h = 224, crop_w = 224;                        // centre crop
  std::array<float, 3> mean = {0, 0, 0}, stddev = {1, 1, 1};  // of pixel/255, RGB order
};

enum class SegmentKind : uint8_t {
  kWeights = 0,
  kConstants = 1,
  kLabels = 2,
  kVocabulary = 3,
  kPrepacked = 4
};

// Weights already in a kernel's layout; any reader may ignore them.
struct Prepacked {
  uint32_t node = 0;   // index into Model::nodes
  std::string layout;  // kernels' layout name with its version
  std::span<const std::byte> data;
};

struct Model {
  std::string name, producer;
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;
  std::vector<TensorId> inputs, outputs;
  PrecisionMap map;  // may be empty
  bool has_image_preprocess = false;
  ImagePreprocess image;
  std::vector<std::string> labels;                            // class names; may be empty
  std::vector<std::pair<std::string, std::string>> metadata;  // key/value
  std::vector<Prepacked> prepacked;
};

}  // namespace mpq::format
