#include "converter/nvidia/import.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "converter/nvidia/builder.h"
#include "converter/nvidia/source.h"
#include "converter/nvidia/staircase.h"

namespace mpq::convert::nvidia {
namespace {

using format::kNoTensor;
using format::TensorId;

constexpr int kRequantShift = 16;    // of every Quantize that produces codes
constexpr float kHalfUp = 0x1p-17F;  // acc * f / 65536 has granularity 2^-16: this breaks ties
                                     // upward, crosses nothing else
constexpr int32_t kSignedZeroPoint = 128;  // s8 codes are stored unsigned
constexpr int32_t kInputLimit = 127;
constexpr float kInputMax = 2.64F;  // real value of code 127
constexpr std::array<float, 3> kMean = {0.485F, 0.456F, 0.406F};
constexpr std::array<float, 3> kStddev = {0.229F, 0.224F, 0.225F};
constexpr int64_t kInputSide = 224;

// A skip connection in the accumulator domain of the convolution that adds it.
struct Skip {
  Codes codes;
  std::vector<int32_t> factor;
  int shift = -1;
};

struct Quantizer {
  std::vector<int32_t> factor;  // per channel
  int shift = 0;
  int output_bits = 0;
  bool is_signed = false;
};

Error corrupt(const std::string& message) { return Error{Status::kCorrupt, message}; }
Error unsupported(const std::string& message) { return Error{Status::kUnsupported, message}; }

class Importer {
 public:
  Importer(const Source& source, const ImportOptions& options)
      : source_(source), options_(options) {}

  Result<Imported> run();

 private:
  // Source layers.
  Result<Descriptor> read(const std::string& name, const std::string& type,
                          const std::string& compute_mode);
  Result<Quantizer> read_quantizer(const std::string& name, const std::string& compute_mode,
                                   int64_t channels);
  Codes add_image_input();
  Result<Codes> add_conv(const std::string& name, const std::string& compute_mode,
                         const std::string& quantizer, const std::string& quantizer_mode,
                         const Codes& x, const Skip* skip, uint32_t group);
  Result<Codes> add_max_pool(const Codes& x);
  Result<Codes> add_avg_pool(const Codes& x);
  Checked add_classifier(const Codes& x);
  Result<Codes> add_block(const std::string& name, bool first, bool last, const Codes& x);

  void prove(const std::string& name, const Quantizer& quantizer, const Codes& y,
             const std::vector<AccRange>& ranges, std::vector<float>* multiplier,
             std::vector<float>* bias);

  const Source& source_;
  const ImportOptions& options_;
  Imported out_;
  Builder build_{&out_.lowered};
  uint32_t groups_ = 0;
};

Result<Descriptor> Importer::read(const std::string& name, const std::string& type,
                                  const std::string& compute_mode) {
  MPQ_TRY(Descriptor descriptor, source_.read(name));
  if (descriptor.type != type)
    return corrupt(name + ": type " + descriptor.type + ", expected " + type);
  MPQ_TRY(const std::string mode, descriptor.text("compute_mode"));
  if (mode != compute_mode)
    return unsupported(name + ": compute_mode " + mode + ", only " + compute_mode +
                       " is known here");
  return descriptor;
}

Result<Quantizer> Importer::read_quantizer(const std::string& name, const std::string& compute_mode,
                                           int64_t channels) {
  MPQ_TRY(const Descriptor descriptor, read(name, "Quantize", compute_mode));
  MPQ_TRY(const int64_t shift, descriptor.integer("shift_bits"));
  MPQ_TRY(const int64_t bits, descriptor.integer("output_bits"));
  MPQ_TRY(const RawTensor* factor, descriptor.tensor("requant_factor", "u16", {1, channels, 1, 1}));
  if (shift < 0 || shift > 30 || bits < 1 || bits > 31)
    return corrupt(name + ": shift_bits " + std::to_string(shift) + ", output_bits " +
                   std::to_string(bits));
  return Quantizer{factor->integers(), static_cast<int>(shift), static_cast<int>(bits),
                   compute_mode == "s32u16s8"};
}

Codes Importer::add_image_input() {
  std::vector<uint8_t> table;
  for (size_t c = 0; c < kMean.size(); ++c) {
    for (int pixel = 0; pixel < 256; ++pixel) {
      const float x = (static_cast<float>(pixel) / 255.0F - kMean[c]) / kStddev[c];
      const float code = std::nearbyintf(x * static_cast<float>(kInputLimit) / kInputMax);
      const float limit = kInputLimit;
      table.push_back(static_cast<uint8_t>(static_cast<int>(std::clamp(code, -limit, limit)) +
                                           kSignedZeroPoint));
    }
  }
  format::Model& model = out_.lowered.model;
  const TensorId pixels = build_.add_tensor(
      {.name = "image", .dtype = DType::kU8, .shape = {1, kInputSide, kInputSide, 3}});
  model.inputs = {pixels};
  model.has_image_preprocess = true;
  model.image = {.resize = format::ImagePreprocess::Resize::kBilinearAntialias,
                 .resize_shorter = 256,
                 .crop_only_small = true,
                 .crop_h = kInputSide,
                 .crop_w = kInputSide,
                 .mean = kMean,
                 .stddev = kStddev};
  const TensorId table_id = build_.add_constant("input.table", DType::kU8, {3, 256}, table);
  Codes codes{kNoTensor, -kInputLimit, kInputLimit, kSignedZeroPoint};
  codes.id =
      build_.add_tensor({.name = "input",
                         .dtype = DType::kU8,
                         .shape = {1, 3, kInputSide, kInputSide},
                         .quant = {kInputMax / static_cast<float>(kInputLimit), kSignedZeroPoint}});
  build_.add_node("image_quantize", format::ImageQuantizeAttrs{}, {pixels, table_id}, codes.id);
  return codes;
}

// Chooses multiplier and bias of each channel and checks them against the integer rule.
void Importer::prove(const std::string& name, const Quantizer& quantizer, const Codes& y,
                     const std::vector<AccRange>& ranges, std::vector<float>* multiplier,
                     std::vector<float>* bias) {
  LayerProof proof{.layer = name, .channels = static_cast<uint32_t>(ranges.size())};
  for (size_t c = 0; c < ranges.size(); ++c) {
    const IntegerRule integer{quantizer.factor[c], quantizer.shift, y.min, y.max};
    FloatRule real{static_cast<float>(std::ldexp(quantizer.factor[c], -quantizer.shift)), 0.0F,
                   y.min + y.zero_point, y.max + y.zero_point, y.zero_point};
    // Ties go up for positive sums, down for negative ones; a signed staircase may have neither.
    const auto zero = static_cast<float>(y.zero_point);
    int thresholds = -1;
    for (const float candidate : {zero + kHalfUp, zero, zero - kHalfUp}) {
      real.bias = candidate;
      thresholds = compare_staircases(integer, real, ranges[c]);
      if (thresholds >= 0) break;
    }
    if (thresholds < 0) {
      real.bias = zero + kHalfUp;
      ++proof.differing_channels;
    } else {
      proof.thresholds += static_cast<uint64_t>(thresholds);
    }
    multiplier->push_back(real.multiplier);
    bias->push_back(real.bias);
  }
  out_.proofs.push_back(std::move(proof));
}

Result<Codes> Importer::add_conv(const std::string& name, const std::string& compute_mode,
                                 const std::string& quantizer_name,
                                 const std::string& quantizer_mode, const Codes& x,
                                 const Skip* skip, uint32_t group) {
  MPQ_TRY(const Descriptor conv, read(name, "Conv2d", compute_mode));
  MPQ_TRY(const int64_t in, conv.integer("in_channels"));
  MPQ_TRY(const int64_t out, conv.integer("out_channels"));
  MPQ_TRY(const int64_t groups, conv.integer("groups"));
  MPQ_TRY(const auto kernel, conv.integers("kernel_size"));
  MPQ_TRY(const auto stride, conv.integers("stride"));
  MPQ_TRY(const auto padding, conv.integers("padding"));
  MPQ_TRY(const auto dilation, conv.integers("dilation"));
  const Shape x_shape = build_.shape_of(x.id);
  const auto in_range = [](const std::vector<int64_t>& pair, int64_t low) {
    return pair.size() == 2 &&
           std::all_of(pair.begin(), pair.end(), [&](int64_t v) { return v >= low && v <= 64; });
  };
  if (groups != 1 || !in_range(dilation, 1) || dilation[0] != 1 || dilation[1] != 1)
    return unsupported(name + ": groups and dilation other than 1");
  if (!in_range(kernel, 1) || !in_range(stride, 1) || !in_range(padding, 0))
    return corrupt(name + ": kernel_size, stride or padding out of range");
  if (in != x_shape[1])
    return corrupt(name + ": in_channels " + std::to_string(in) + ", its input has " +
                   std::to_string(x_shape[1]));

  const std::string weight_type = compute_mode.substr(2, 2);  // "u4s4s32" -> "s4"
  const Shape weight_shape = {out, in, kernel[0], kernel[1]};
  MPQ_TRY(const RawTensor* weight, conv.tensor("weight", weight_type, weight_shape));
  MPQ_TRY(const RawTensor* bias, conv.tensor("bias", "s16", {out}));
  MPQ_TRY(const Quantizer quantizer, read_quantizer(quantizer_name, quantizer_mode, out));
  if (quantizer.shift != kRequantShift || quantizer.output_bits > 7)
    return unsupported(quantizer_name + ": shift_bits " + std::to_string(quantizer.shift) +
                       ", output_bits " + std::to_string(quantizer.output_bits) +
                       "; 16 and at most 7 are known here");

  const int32_t limit = (1 << quantizer.output_bits) - 1;
  Codes y{kNoTensor, quantizer.is_signed ? -limit : 0, limit,
          quantizer.is_signed ? kSignedZeroPoint : 0};

  // Integer constants, and the accumulators that this channel can reach.
  const std::vector<int32_t> codes = weight->integers();
  const std::vector<int32_t> biases = bias->integers();
  const size_t taps = codes.size() / static_cast<size_t>(out);
  std::vector<int32_t> acc_bias;
  std::vector<AccRange> ranges;
  for (size_t o = 0; o < static_cast<size_t>(out); ++o) {
    int64_t sum = 0;
    AccRange range{biases[o], biases[o]};
    for (size_t k = 0; k < taps; ++k) {
      const int64_t w = codes[o * taps + k];
      sum += w;
      range.min += std::min(w * x.min, w * x.max);
      range.max += std::max(w * x.min, w * x.max);
    }
    if (skip != nullptr) {
      constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
      const IntegerRule scaled{skip->factor[o], skip->shift, -kAny, kAny};
      range.min += scaled(skip->codes.min);
      range.max += scaled(skip->codes.max);
    }
    if (range.min < std::numeric_limits<int32_t>::min() ||
        range.max > std::numeric_limits<int32_t>::max())
      return unsupported(name + ": channel " + std::to_string(o) + " can leave 32 bits");
    acc_bias.push_back(static_cast<int32_t>(biases[o] - x.zero_point * sum));
    ranges.push_back(range);
  }
  std::vector<float> multiplier, float_bias;
  prove(name, quantizer, y, ranges, &multiplier, &float_bias);

  const int bits = weight_type == "s4" ? 4 : 8;
  std::vector<TensorId> inputs = {
      x.id, build_.add_constant(name + ".weight", signed_code(bits), weight_shape, weight->bytes),
      build_.add_constant(name + ".multiplier", DType::kF32, {out}, multiplier),
      build_.add_constant(name + ".bias", DType::kF32, {out}, float_bias),
      build_.add_constant(name + ".acc_bias", DType::kS32, {out}, acc_bias)};
  format::Conv2dAttrs attrs;
  attrs.stride_h = static_cast<uint32_t>(stride[0]);
  attrs.stride_w = static_cast<uint32_t>(stride[1]);
  attrs.pad_top = attrs.pad_bottom = static_cast<uint32_t>(padding[0]);
  attrs.pad_left = attrs.pad_right = static_cast<uint32_t>(padding[1]);
  attrs.requant.lo = y.min + y.zero_point;
  attrs.requant.hi = y.max + y.zero_point;
  if (skip != nullptr) {
    attrs.requant.residual_shift = skip->shift;
    inputs.push_back(skip->codes.id);
    inputs.push_back(
        build_.add_constant(name + ".residual_factor", DType::kS32, {out}, skip->factor));
  }
  const auto extent = [&](size_t axis) {
    return (x_shape[axis + 2] + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
  };
  const Shape y_shape = {1, out, extent(0), extent(1)};
  if (y_shape[2] < 1 || y_shape[3] < 1)
    return corrupt(name + ": the kernel exceeds its padded input");
  if (skip != nullptr && build_.shape_of(skip->codes.id) != y_shape)
    return corrupt(name + ": the skip has shape " + to_string(build_.shape_of(skip->codes.id)) +
                   ", the sum " + to_string(y_shape));
  y.id = build_.add_codes(name + ".out", y_shape, y);
  build_.add_map_layer(name, bits, bits, group);
  build_.add_node(name, attrs, std::move(inputs), y.id);
  return y;
}

Result<Codes> Importer::add_max_pool(const Codes& x) {
  MPQ_TRY(const Descriptor pool, read("maxpool", "MaxPool2d", "u4u4"));
  MPQ_TRY(const int64_t kernel, pool.integer("kernel_size"));
  MPQ_TRY(const int64_t stride, pool.integer("stride"));
  MPQ_TRY(const int64_t padding, pool.integer("padding"));
  MPQ_TRY(const std::string ceil_mode, pool.text("ceil_mode"));
  if (kernel < 1 || kernel > 64 || stride < 1 || stride > 64 || padding < 0 || padding >= kernel ||
      ceil_mode != "False")
    return unsupported("maxpool: kernel " + std::to_string(kernel) + ", stride " +
                       std::to_string(stride) + ", padding " + std::to_string(padding) +
                       ", ceil_mode " + ceil_mode);
  format::MaxPoolAttrs attrs;
  attrs.kernel_h = attrs.kernel_w = static_cast<uint32_t>(kernel);
  attrs.stride_h = attrs.stride_w = static_cast<uint32_t>(stride);
  attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right =
      static_cast<uint32_t>(padding);
  Shape shape = build_.shape_of(x.id);
  for (const size_t axis : {2U, 3U})
    shape[axis] = (shape[axis] + 2 * padding - kernel) / stride + 1;
  if (shape[2] < 1 || shape[3] < 1) return corrupt("maxpool: the window exceeds its padded input");
  Codes y = x;
  y.id = build_.add_codes("maxpool.out", shape, y);
  build_.add_node("maxpool", attrs, {x.id}, y.id);
  return y;
}

// sum / 49 rounded half up. An odd count has no ties, and the error of binary32 is far below 1
// / 98.
Result<Codes> Importer::add_avg_pool(const Codes& x) {
  MPQ_TRY(const Descriptor pool, read("avgpool", "AvgPool2d", "u7u7"));
  MPQ_TRY(const int64_t kernel, pool.integer("kernel_size"));
  const Shape shape = build_.shape_of(x.id);
  if (kernel != shape[2] || kernel != shape[3] || kernel % 2 == 0 || kernel > 15)
    return unsupported("avgpool: kernel " + std::to_string(kernel) + " over " + to_string(shape) +
                       "; one odd window over the whole plane is known here");
  format::AvgPoolAttrs attrs;
  attrs.multiplier = 1.0F / static_cast<float>(kernel * kernel);
  attrs.lo = x.min;
  attrs.hi = x.max;
  Codes y = x;
  y.id = build_.add_codes("avgpool.out", {1, shape[1], 1, 1}, y);
  build_.add_node("avgpool", attrs, {x.id}, y.id);
  return y;
}

Checked Importer::add_classifier(const Codes& x) {
  MPQ_TRY(const Descriptor fc, read("fc", "Linear", "u7s8s32"));
  MPQ_TRY(const int64_t in, fc.integer("in_features"));
  MPQ_TRY(const int64_t out, fc.integer("out_features"));
  MPQ_TRY(const RawTensor* weight, fc.tensor("weight", "s8", {out, in}));
  MPQ_TRY(const RawTensor* bias, fc.tensor("bias", "s32", {out}));
  MPQ_TRY(const Descriptor scale, read("scale", "Scale", "s32f32f32"));
  MPQ_TRY(const RawTensor* out_scale, scale.tensor("out_scale", "f32", {out}));
  if (in != build_.shape_of(x.id)[1])
    return corrupt("fc: in_features " + std::to_string(in) + ", its input has " +
                   std::to_string(build_.shape_of(x.id)[1]));

  std::vector<float> multiplier = out_scale->floats();
  for (float& value : multiplier) {
    if (!(value > 0.0F) || !std::isnormal(value))
      return corrupt("scale: out_scale must be positive");
    value = 1.0F / value;  // the source divides
  }
  const std::vector<float> zero(multiplier.size(), 0.0F);
  const std::vector<TensorId> inputs = {
      x.id, build_.add_constant("fc.weight", DType::kS8, {out, in}, weight->bytes),
      build_.add_constant("fc.multiplier", DType::kF32, {out}, multiplier),
      build_.add_constant("fc.bias", DType::kF32, {out}, zero),
      build_.add_constant("fc.acc_bias", DType::kS32, {out}, bias->integers())};
  const TensorId y = build_.add_tensor({.name = options_.accumulators ? "accumulators" : "logits",
                                        .dtype = options_.accumulators ? DType::kS32 : DType::kF32,
                                        .shape = {1, out}});
  build_.add_map_layer("fc", 8, 8, groups_++);
  build_.add_node("fc", format::LinearAttrs{}, inputs, y);
  out_.lowered.model.outputs = {y};
  if (!options_.labels.empty() && options_.labels.size() != static_cast<size_t>(out))
    return Error{Status::kInvalidArgument, std::to_string(options_.labels.size()) + " labels for " +
                                               std::to_string(out) + " classes"};
  return Ok{};
}

Result<Codes> Importer::add_block(const std::string& name, bool first, bool last, const Codes& x) {
  MPQ_TRY(const Descriptor block, source_.read(name));
  if (block.type != "BottleneckQuantized") return unsupported(name + ": block type " + block.type);
  const uint32_t shared = groups_++;  // conv1 and the downsample read the same tensor
  Skip skip{.codes = x};
  if (first) {
    const std::string down = name + "_downsample";
    MPQ_TRY(skip.codes,
            add_conv(down + "_0", "u4s4s32", down + "_1", "s32u16s8", x, nullptr, shared));
  }
  MPQ_TRY(Codes y, add_conv(name + "_conv1", "u4s4s32", name + "_quantize1", "u31u16u4", x, nullptr,
                            shared));
  MPQ_TRY(y, add_conv(name + "_conv2", "u4s4s32", name + "_quantize2", "u31u16u4", y, nullptr,
                      groups_++));
  MPQ_TRY(const Descriptor conv3, source_.read(name + "_conv3"));
  MPQ_TRY(const int64_t channels, conv3.integer("out_channels"));
  MPQ_TRY(Quantizer scaling, read_quantizer(name + (first ? "_downsample_2" : "_downsample"),
                                            first ? "s8u16s32" : "u4u16u31", channels));
  if (scaling.output_bits != 31)
    return unsupported(name + ": the skip is clipped to fewer than 31 bits");
  skip.factor = std::move(scaling.factor);
  skip.shift = scaling.shift;
  return add_conv(name + "_conv3", "u4s4s32", name + "_quantize3", last ? "u31u16u7" : "u31u16u4",
                  y, &skip, groups_++);
}

Result<Imported> Importer::run() {
  format::Model& model = out_.lowered.model;
  model.name = "resnet50_w4a4";
  model.labels = options_.labels;
  model.map.method = "imported";
  model.map.checkpoint = "trained";

  Codes x = add_image_input();
  MPQ_TRY(x, add_conv("conv1", "s8s8s32", "quantize1", "u31u16u4", x, nullptr, groups_++));
  MPQ_TRY(x, add_max_pool(x));
  constexpr int kStages = 4;
  for (int stage = 1; stage <= kStages; ++stage) {
    const std::string name = "layer" + std::to_string(stage);
    MPQ_TRY(const Descriptor sequence, source_.read(name));
    MPQ_TRY(const int64_t blocks, sequence.integer("children_count"));
    if (blocks < 1 || blocks > 256)
      return corrupt(name + ": children_count " + std::to_string(blocks));
    for (int64_t i = 0; i < blocks; ++i) {
      const bool last = stage == kStages && i == blocks - 1;
      MPQ_TRY(x, add_block(name + "_" + std::to_string(i), i == 0, last, x));
    }
  }
  MPQ_TRY(x, add_avg_pool(x));
  MPQ_CHECK(add_classifier(x));
  return std::move(out_);
}

}  // namespace

Result<Imported> import_release(const std::string& path, const ImportOptions& options) {
  MPQ_TRY(const Source source, Source::open(path));
  return Importer(source, options).run();
}

}  // namespace mpq::convert::nvidia
