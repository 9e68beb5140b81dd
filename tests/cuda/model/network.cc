#include "tests/cuda/model/network.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/weights.h"

namespace mpq::test {
namespace {

using format::Model;
using format::Node;
using format::OpCode;
using format::Tensor;
using format::TensorId;

uint32_t u32(int64_t v) { return static_cast<uint32_t>(v); }

class Builder {
 public:
  Builder(const Model& model, const Node& node, const Load& load, bool arrays)
      : model_(model), node_(node), load_(load), pooled_(format::pooled_tensors(model)) {
    if (arrays) step.device = std::make_shared<Device>();
    step.rows = rows(node.outputs[0]);
  }

  Step step;

  template <typename T = uint8_t>
  T* array(size_t bytes) {
    if (step.device == nullptr) return reinterpret_cast<T*>(uintptr_t{256});
    uint8_t* p = step.device->allocate(bytes);
    std::memset(p, 0, bytes);
    return reinterpret_cast<T*>(p);
  }
  float* floats(size_t count) { return array<float>(count * sizeof(float)); }

  const Tensor& tensor(TensorId id) const { return model_.tensors[id]; }
  bool has_input(size_t i) const {
    return i < node_.inputs.size() && node_.inputs[i] != format::kNoTensor;
  }
  const Tensor& input(size_t i) const { return tensor(node_.inputs[i]); }
  bool is_sequence() const { return model_.sequence_length != 0; }

  // Pixels or rows of an activation in the load, and its channels.
  uint64_t rows(TensorId id) const {
    const Shape& s = tensor(id).shape;
    if (is_sequence()) return uint64_t{load_.batch} * (pooled_[id] ? 1 : load_.tokens);
    return uint64_t{load_.batch} * (s.size() == 4 ? u32(s[2] * s[3]) : 1);
  }
  uint32_t channels(TensorId id) const { return u32(tensor(id).shape[1]); }
  uint32_t bits(TensorId id) const { return u32(bits_of(tensor(id).dtype)); }
  uint64_t bytes(TensorId id) const {
    if (!is_code(tensor(id).dtype)) return rows(id) * channels(id) * 4;
    return rows(id) * code_pitch(channels(id), bits(id));
  }
  void touch(TensorId id, uint64_t bytes) { step.touches.push_back({id, bytes}); }
  uint64_t touch(TensorId id) {
    touch(id, bytes(id));
    return bytes(id);
  }
  cuda::Codes codes(TensorId id) {
    return {array(touch(id)), code_pitch(channels(id), bits(id)), bits(id)};
  }

  template <typename Params>
  void finish_other(const char* name, const Params& p) {
    step.layer = node_.name;
    step.kernel = name;
    step.grid = cuda::grid_of(p);
    for (const cuda::OtherKernel& k : cuda::kOtherKernels)
      if (std::string_view(name) == k.name) {
        step.threads = k.threads;
        step.shared_bytes = step.shared_bytes_sm75 = k.shared_bytes;
      }
    keep(p);
  }
  template <typename Params>
  void keep(const Params& p) {
    step.params.resize(sizeof p);
    std::memcpy(step.params.data(), &p, sizeof p);
  }

  void conv(const cuda::Gpu& gpu, const cuda::ConvChoice* choice);
  bool reads_folded_image() const;
  void image_quantize(bool fold, uint32_t pad);
  void pool();
  void add();
  void quantize();
  void embedding();
  void layer_norm();
  void attention();
  void sequence_pool();
  void activate();

 private:
  const Model& model_;
  const Node& node_;
  const Load load_;
  const std::vector<bool> pooled_;
};

// kernels.h: a first layer of stride 2 over few channels reads a folded image.
bool folds(const Model& model, const Node& conv) {
  if (conv.op() != OpCode::kConv2d) return false;
  const auto& a = std::get<format::Conv2dAttrs>(conv.attrs);
  return a.stride_h == 2 && a.stride_w == 2 && a.dilation_h == 1 && a.dilation_w == 1 &&
         model.tensors[conv.inputs[format::kX]].shape[1] <= 4;
}
const Node* reader_of(const Model& model, TensorId id) {
  for (const Node& n : model.nodes)
    if (!n.inputs.empty() && n.inputs[0] == id) return &n;
  return nullptr;
}

void Builder::conv(const cuda::Gpu& gpu, const cuda::ConvChoice* choice) {
  const TensorId x = node_.inputs[format::kX], y = node_.outputs[0];
  const Shape& w = input(format::kWeights).shape;
  cuda::ConvParams p;
  const uint32_t a_bits = bits(x);
  const uint32_t w_bits = u32(bits_of(input(format::kWeights).dtype));
  uint32_t c = channels(x);
  p.o = u32(w[0]);
  if (node_.op() == OpCode::kConv2d) {
    const auto& a = std::get<format::Conv2dAttrs>(node_.attrs);
    if (a.groups != 1) throw std::runtime_error(node_.name + ": groups are not supported");
    p.n = load_.batch;
    p.h = u32(input(0).shape[2]);
    p.w = u32(input(0).shape[3]);
    p.oh = u32(tensor(y).shape[2]);
    p.ow = u32(tensor(y).shape[3]);
    p.r = u32(w[2]);
    p.s = u32(w[3]);
    p.stride_h = a.stride_h;
    p.stride_w = a.stride_w;
    p.dilation_h = a.dilation_h;
    p.dilation_w = a.dilation_w;
    p.pad_top = static_cast<int32_t>(a.pad_top);
    p.pad_left = static_cast<int32_t>(a.pad_left);
    if (folds(model_, node_)) {
      c = 16;
      p.r = (p.r + 1) / 2;
      p.s = (p.s + 1) / 2;
      p.h = p.oh + p.r - 1;
      p.w = p.ow + p.s - 1;
      p.stride_h = p.stride_w = 1;
      p.pad_top = p.pad_left = 0;
    }
  } else {
    p.w = p.ow = u32(static_cast<int64_t>(rows(x)));
  }
  p.x_pitch = code_pitch(c, a_bits);
  const uint64_t x_bytes = uint64_t{p.n} * p.h * p.w * p.x_pitch;
  touch(x, x_bytes);
  p.x = array(x_bytes);
  p.padding = array(16);
  const cuda::WeightsShape shape = {p.o, c, p.r, p.s, p.x_pitch, a_bits, w_bits};
  p.k_steps = cuda::k_steps(shape);
  p.weights = array(cuda::weight_bytes(shape));
  touch(node_.inputs[format::kWeights], cuda::weight_bytes(shape));

  const size_t padded = (size_t{p.o} + 31) / 32 * 32;
  const format::Requant& q = *format::requant_of(node_.attrs);
  cuda::Epilogue& e = p.epilogue;
  if (has_input(format::kAccBias)) e.acc_bias = array<int32_t>(padded * 4);
  e.multiplier = floats(padded);
  e.bias = floats(padded);
  e.lo = q.lo;
  e.hi = q.hi;
  const DType out = tensor(y).dtype;
  e.out = is_code(out)         ? cuda::Output::kCodes
          : out == DType::kF32 ? cuda::Output::kFloat
                               : cuda::Output::kSums;
  if (is_code(out))
    e.y = codes(y);
  else
    e.dense = array(touch(y));
  if (has_input(format::kResidual)) e.residual = codes(node_.inputs[format::kResidual]);
  e.residual_scale = q.residual_scale;
  e.residual_shift = q.residual_shift;
  if (has_input(format::kResidualFactor)) e.residual_factor = array<int32_t>(padded * 4);
  if (node_.outputs.size() > 1) e.second = codes(node_.outputs[1]);
  e.second_hi = q.second_hi;
  if (q.activation == format::Activation::kGelu) e.activation = cuda::Activation::kGelu;
  if (q.activation == format::Activation::kGeluTanh) e.activation = cuda::Activation::kGeluTanh;

  const cuda::ConvChoice chosen =
      choice != nullptr ? *choice : cuda::choose_conv(gpu, a_bits, w_bits, p);
  if (chosen.kernel == nullptr) throw std::runtime_error(node_.name + ": no kernel");
  p.splits = chosen.splits;
  step.layer = node_.name;
  step.kernel = chosen.kernel->name;
  step.grid = cuda::grid_of(*chosen.kernel, p);
  step.threads = chosen.kernel->threads;
  step.shared_bytes = chosen.kernel->shared_bytes;
  step.shared_bytes_sm75 = chosen.kernel->shared_bytes_sm75;
  step.splits = p.splits;
  uint64_t taps = 1;
  for (size_t i = 1; i < w.size(); ++i) taps *= static_cast<uint64_t>(w[i]);
  step.macs = uint64_t{p.n} * p.oh * p.ow * p.o * taps;
  if (p.splits > 1) {
    const size_t tiles = size_t{step.grid.x} * step.grid.y;
    p.partial = array<int32_t>(tiles * chosen.kernel->tile_sums * 4);
    p.tickets = array<uint32_t>(tiles * 4);
  }
  keep(p);
}

void Builder::image_quantize(bool fold, uint32_t pad) {
  const TensorId x = node_.inputs[0], y = node_.outputs[0];
  const Shape& s = tensor(y).shape;
  cuda::ImageParams p;
  p.n = load_.batch;
  p.c = u32(s[1]);
  p.h = u32(s[2]);
  p.w = u32(s[3]);
  p.fold = fold ? 2 : 1;
  p.oh = fold ? (p.h + 2 * pad + 1) / 2 : p.h;
  p.ow = fold ? (p.w + 2 * pad + 1) / 2 : p.w;
  p.pad_top = p.pad_left = static_cast<int32_t>(fold ? pad : 0);
  const uint64_t in = uint64_t{p.n} * p.h * p.w * p.c;
  p.pixels = array(in);
  touch(x, in);
  p.table = array(size_t{p.c} * 256);
  const uint32_t pitch = code_pitch(fold ? 16 : p.c, bits(y));
  const uint64_t out = uint64_t{p.n} * p.oh * p.ow * pitch;
  touch(y, out);
  p.y = {array(out), pitch, bits(y)};
  finish_other("quantize_image", p);
}

void Builder::pool() {
  const TensorId x = node_.inputs[0], y = node_.outputs[0];
  cuda::PoolParams p;
  p.n = load_.batch;
  p.c = channels(x);
  p.h = u32(tensor(x).shape[2]);
  p.w = u32(tensor(x).shape[3]);
  p.oh = u32(tensor(y).shape[2]);
  p.ow = u32(tensor(y).shape[3]);
  const auto window = [&](const auto& a) {
    p.kernel_h = a.kernel_h != 0 ? a.kernel_h : p.h;
    p.kernel_w = a.kernel_w != 0 ? a.kernel_w : p.w;
    p.stride_h = a.stride_h;
    p.stride_w = a.stride_w;
  };
  p.x = codes(x);
  if (is_code(tensor(y).dtype))
    p.y = codes(y);
  else
    p.dense = array<float>(touch(y));
  if (node_.op() == OpCode::kMaxPool) {
    const auto& a = std::get<format::MaxPoolAttrs>(node_.attrs);
    window(a);
    p.pad_top = static_cast<int32_t>(a.pad_top);
    p.pad_left = static_cast<int32_t>(a.pad_left);
    finish_other("max_pool", p);
  } else {
    window(std::get<format::AvgPoolAttrs>(node_.attrs));
    finish_other("average_pool", p);
  }
}

void Builder::add() {
  cuda::AddParams p;
  p.pixels = u32(static_cast<int64_t>(rows(node_.outputs[0])));
  p.c = channels(node_.outputs[0]);
  p.a = codes(node_.inputs[0]);
  p.b = codes(node_.inputs[1]);
  p.y = codes(node_.outputs[0]);
  if (node_.outputs.size() > 1) p.second = codes(node_.outputs[1]);
  finish_other("add_codes", p);
}

void Builder::quantize() {
  const TensorId x = node_.inputs[0];
  cuda::QuantizeParams p;
  p.c = channels(x);
  p.w = u32(static_cast<int64_t>(rows(x)));
  p.x = array<float>(touch(x));
  p.channel = 1;
  p.pixel = p.c;
  p.y = codes(node_.outputs[0]);
  finish_other("quantize_f32", p);
}

void Builder::embedding() {
  const TensorId y = node_.outputs[0];
  const Tensor& words = input(format::kWords);
  const uint32_t tokens = load_.batch * load_.tokens;
  cuda::EmbeddingParams p;
  p.width = channels(y);
  p.sequences = load_.batch;
  p.max_length = load_.tokens;
  // A row of the table a token; how many rows a table has does not matter.
  const bool is_coded = words.dtype == DType::kS8;
  touch(node_.inputs[format::kWords], uint64_t{p.width} * (is_coded ? 1 : 4) * tokens);
  if (is_coded) {
    p.word_codes = array<int8_t>(p.width);
    p.word_scale = floats(1);
  } else {
    p.words = floats(p.width);
  }
  p.ids = array<int32_t>(size_t{tokens} * 4);
  p.positions = floats(size_t{p.max_length} * p.width);
  if (has_input(format::kTypes)) {
    p.types = array<int32_t>(size_t{tokens} * 4);
    p.type_rows = floats(p.width);
  }
  auto* starts = array<uint32_t>((load_.batch + 1) * 4);
  if (step.device != nullptr)
    for (uint32_t i = 0; i <= load_.batch; ++i) starts[i] = i * load_.tokens;
  p.starts = starts;
  p.y = array<float>(touch(y));
  finish_other("embed", p);
}

void Builder::layer_norm() {
  const TensorId x = node_.inputs[0];
  cuda::LayerNormParams p;
  p.tokens = u32(static_cast<int64_t>(rows(x)));
  p.width = channels(x);
  p.x = array<float>(touch(x));
  if (has_input(format::kNormResidual))
    p.residual = array<float>(touch(node_.inputs[format::kNormResidual]));
  p.gamma = floats(p.width);
  p.beta = floats(p.width);
  p.y = array<float>(touch(node_.outputs[0]));
  if (node_.outputs.size() > 1) p.second = codes(node_.outputs[1]);
  if (has_input(format::kSecondGamma)) {
    p.second_gamma = floats(p.width);
    p.second_beta = floats(p.width);
  }
  finish_other("layer_norm", p);
}

void Builder::attention() {
  const auto& a = std::get<format::AttentionAttrs>(node_.attrs);
  const uint32_t head = channels(node_.outputs[0]) / a.heads;
  if (head != 64 && head != 32) throw std::runtime_error(node_.name + ": no kernel");
  cuda::AttentionParams p;
  auto* starts = array<uint32_t>((load_.batch + 1) * 4);
  if (step.device != nullptr)
    for (uint32_t i = 0; i <= load_.batch; ++i) starts[i] = i * load_.tokens;
  p.starts = starts;
  p.sequences = load_.batch;
  p.heads = a.heads;
  p.max_length = load_.tokens;
  p.qkv = codes(node_.inputs[format::kQkv]);
  p.score_scale = floats(a.heads);
  p.value_scale = floats(a.heads);
  if (has_input(format::kRelativeBias))
    p.relative_bias = floats(size_t{a.heads} * (2 * load_.tokens - 1));
  p.y = codes(node_.outputs[0]);
  step.macs = 2 * uint64_t{load_.batch} * load_.tokens * load_.tokens * channels(node_.outputs[0]);
  finish_other(head == 64 ? "attention_64" : "attention_32", p);
}

void Builder::sequence_pool() {
  const auto& a = std::get<format::SequencePoolAttrs>(node_.attrs);
  cuda::SequencePoolParams p;
  auto* starts = array<uint32_t>((load_.batch + 1) * 4);
  if (step.device != nullptr)
    for (uint32_t i = 0; i <= load_.batch; ++i) starts[i] = i * load_.tokens;
  p.starts = starts;
  p.sequences = load_.batch;
  p.width = channels(node_.inputs[0]);
  p.x = array<float>(touch(node_.inputs[0]));
  p.y = array<float>(touch(node_.outputs[0]));
  p.mean = a.mode == format::SequencePoolAttrs::Mode::kMean ? 1 : 0;
  p.normalise = a.normalise ? 1 : 0;
  finish_other("pool_sequences", p);
}

// What the epilogue cannot do: a tanh behind a matrix product.
void Builder::activate() {
  const TensorId y = node_.outputs[0];
  cuda::ActivateParams p;
  p.rows = u32(static_cast<int64_t>(rows(y)));
  p.width = channels(y);
  p.x = floats(size_t{p.rows} * p.width);
  p.activation = cuda::Activation::kTanh;
  if (is_code(tensor(y).dtype))
    p.y = codes(y);
  else
    p.dense = array<float>(touch(y));
  finish_other("activate_f32", p);
}

}  // namespace

std::vector<Step> steps_of(const Model& model, const Node& node, const Load& load,
                           const cuda::Gpu& gpu, const cuda::ConvChoice* choice, bool arrays) {
  Builder b(model, node, load, arrays);
  std::vector<Step> steps;
  switch (node.op()) {
    case OpCode::kConv2d:
    case OpCode::kLinear: {
      b.conv(gpu, choice);
      if (format::requant_of(node.attrs)->activation == format::Activation::kTanh) {
        Builder after(model, node, load, arrays);
        after.activate();
        steps.push_back(std::move(after.step));
      }
      break;
    }
    case OpCode::kImageQuantize: {
      const Node* reader = reader_of(model, node.outputs[0]);
      const bool fold = reader != nullptr && folds(model, *reader);
      b.image_quantize(fold, fold ? std::get<format::Conv2dAttrs>(reader->attrs).pad_top : 0);
      break;
    }
    case OpCode::kMaxPool:
    case OpCode::kAvgPool:
      b.pool();
      break;
    case OpCode::kAdd:
      b.add();
      break;
    case OpCode::kQuantize:
      b.quantize();
      break;
    case OpCode::kEmbedding:
      b.embedding();
      break;
    case OpCode::kLayerNorm:
      b.layer_norm();
      break;
    case OpCode::kAttention:
      b.attention();
      break;
    case OpCode::kSequencePool:
      b.sequence_pool();
      break;
  }
  steps.insert(steps.begin(), std::move(b.step));
  return steps;
}

Model widened(const Model& model) {
  Model wide = model;
  for (Tensor& t : wide.tensors)
    if (is_code(t.dtype)) t.dtype = is_signed_code(t.dtype) ? DType::kS8 : DType::kU8;
  return wide;
}

}  // namespace mpq::test
