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
  kEmbedding = 7,
  kLayerNorm = 8,
  kAttention = 9,
  kSequencePool = 10,
};
inline constexpr int kOpCodeCount = 11;
const char* to_string(OpCode op);  // "conv2d"
using mpq::to_string;

// A function of real numbers between a sum and its code, in binary32 as kernels/math defines it.
enum class Activation : uint8_t { kNone = 0, kGelu = 1, kGeluTanh = 2, kTanh = 3 };

// How an exact int32 sum becomes a code: numerics.md ("Requantise") to the last bit.
//   v    = fma(float(acc), multiplier[c], bias[c])
//   v    = fma(float(residual_code - residual_zero_point), residual_scale, v)   if there is one
//   v    = fma(activation(v), activation_scale, activation_bias)                if there is one
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
  Activation activation = Activation::kNone;
  float activation_scale = 1.0F, activation_bias = 0.0F;
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

// Sequence operators. A run takes several sequences of tokens; their tokens lie one behind the
// other, so an activation has one row a token, of all sequences, and no padding. Only the operators
// here see where a sequence begins. All arithmetic is in binary32, in the order written.
//
// sum16(v): lane i of 16 adds v[i], v[i + 16], ... from +0;
//   then lane l += lane l + 8 for l < 8, the same with 4, with 2 and with 1.

// embedding: ids s32 [1], types s32 [1]?, words f32 or s8 [V,H], word_scale f32 [V]? (of s8),
// positions f32 [P,H], type_rows f32 [K,H]? -> f32 [1,H]. p: position of the token in its sequence.
//   v = words[id]          or float(code) * word_scale[id]
//   v = v + positions[position_offset + p]
//   v = v + type_rows[type]                      types and type_rows come together
enum EmbeddingInput : uint8_t {
  kIds = 0,
  kTypes = 1,
  kWords = 2,
  kWordScale = 3,
  kPositions = 4,
  kTypeRows = 5
};
struct EmbeddingAttrs {
  uint32_t position_offset = 0;
};
// layer_norm: x f32 [1,H], residual f32 [1,H]?, gamma f32 [H], beta f32 [H], second_gamma f32 [H]?,
// second_beta f32 [H]? -> y f32 [1,H] and optionally codes of the same shape.
//   v = x + residual;   mean = sum16(v) / float(H);   d = v - mean
//   variance = sum16 with lanes fma(d, d, lane) / float(H);   r = 1 / sqrt(variance + epsilon)
//   y = fma(d * r, gamma, beta)
//   v = fma(y, second_scale, second_bias), or fma(d * r, second_gamma, second_beta) where they are
//   code = clamp(round_half_even(v), second_lo, second_hi)
// second_gamma and second_beta come together, with second_scale and second_bias 0: a scale a
// channel.
enum LayerNormInput : uint8_t {
  kNormResidual = 1,
  kGamma = 2,
  kBeta = 3,
  kSecondGamma = 4,
  kSecondBeta = 5
};
struct LayerNormAttrs {
  float epsilon = 1e-12F;
  float second_scale = 0.0F, second_bias = 0.0F;
  int32_t second_lo = 0, second_hi = 255;
};
// attention: qkv u8 [1,3H] with zero point 128, score_scale f32 [heads], value_scale f32 [heads],
// relative_bias f32 [heads, 2S-1]? (S: the model's sequence_length) -> codes [1,H]. Columns of qkv:
// all heads of Q, of K, of V; a head is d = H / heads columns. For query i of a sequence of n
// tokens:
//   dot_j = sum over d of (q_i - 128) * (k_j - 128)         exact in int32
//   s_j   = fma(float(dot_j), score_scale, bias_j)          relative_bias[j - i + S - 1], or 0
//   p_j   = round_half_even(255 * exp(s_j - max s))         0..255, parts_of_255 of kernels/math
//   acc   = sum over j of p_j * (v_j - 128)                 exact in int32
//   total = sum over j of p_j                               exact in int32
//   code  = clamp(round_half_even(fma(float(acc), value_scale / float(total), out_bias)), lo, hi)
enum AttentionInput : uint8_t { kQkv = 0, kScoreScale = 1, kValueScale = 2, kRelativeBias = 3 };
struct AttentionAttrs {
  uint32_t heads = 1;
  float out_bias = 0.0F;
  int32_t lo = 0, hi = 255;
};
// sequence_pool: x f32 [1,H], a row a token -> f32 [1,H], a row a sequence: its first token, or
//   mean = (x_0 + x_1 + ... in order from +0) / float(n)
// and normalised, y / max(sqrt(sum16 with lanes fma(y, y, lane)), 1e-12).
struct SequencePoolAttrs {
  enum class Mode : uint8_t { kFirst = 0, kMean = 1 };
  Mode mode = Mode::kFirst;
  bool normalise = false;
};

// In OpCode order.
using Attrs = std::variant<ImageQuantizeAttrs, QuantizeAttrs, Conv2dAttrs, LinearAttrs,
                           MaxPoolAttrs, AvgPoolAttrs, AddAttrs, EmbeddingAttrs, LayerNormAttrs,
                           AttentionAttrs, SequencePoolAttrs>;

// Null when the operator has none.
const Requant* requant_of(const Attrs& attrs);

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
  // Of a node that several layers were merged into (query, key and value): the layer's own name.
  std::string part;
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

// How text becomes the ids of a sequence model; absent when the input is not text. WordPiece:
//   one text   begin A separator
//   two texts  begin A separator (x pair_separators) B separator, types 0 and 1
inline constexpr uint32_t kNoToken = std::numeric_limits<uint32_t>::max();
struct TextPreprocess {
  bool clean_text = true, split_chinese = true, strip_accents = true, lowercase = true;
  uint32_t unknown = 0, begin = 0, separator = 0;  // ids
  uint32_t padding = 0, mask = 0;                  // or kNoToken; no text of a run needs them
  uint32_t pair_separators = 1;
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
  uint32_t sequence_length = 0;  // longest sequence in tokens; 0: not a sequence model
  bool has_text_preprocess = false;
  TextPreprocess text;
  std::span<const std::byte> vocabulary;  // tokens in the order of ids, UTF-8, a line feed each
  std::vector<std::string> labels;        // class names; may be empty
  std::vector<std::pair<std::string, std::string>> metadata;  // key/value
  std::vector<Prepacked> prepacked;
};

// The embedding of a sequence model; null in others.
const Node* embedding_of(const Model& model);
// Tensors of a sequence model that have a row a sequence; the others have a row a token.
std::vector<bool> pooled_tensors(const Model& model);

}  // namespace mpq::format
