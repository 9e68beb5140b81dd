// The operators besides convolution and matrix product: a node's attributes as the parameters of
// its kernel.
#include <algorithm>

#include "runtime/cuda/planner.h"

namespace mpq::runtime {
namespace {

using format::kNoTensor;
using format::operand;
using format::TensorId;

const auto kFixed = [](auto&, const Live&) {};  // of operators that sequence models do not have

Checked plan_image_quantize(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const TensorId y = n.outputs[0];
  const Dims& d = planner.dims(y);
  const CudaTensor& placed = planner.placed(y);
  auto& p = planner.add_launch<cuda::ImageParams>(node, "quantize_image", kFixed);
  p.n = d.n;
  p.c = d.c;
  p.h = p.oh = d.h;
  p.w = p.ow = d.w;
  planner.read(n.inputs[0], &p.pixels);
  planner.constant(n.inputs[1], &p.table);
  if (placed.form == CudaForm::kFolded) {
    p.fold = 2;
    p.oh = placed.folded_h;
    p.ow = placed.folded_w;
    p.pad_top = static_cast<int32_t>(placed.pad_top);
    p.pad_left = static_cast<int32_t>(placed.pad_left);
    p.zero_point = planner.tensor(y).quant.zero_point;
  }
  planner.write(y, &p.y);
  return Ok{};
}

Checked plan_quantize(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const TensorId x = n.inputs[0], y = n.outputs[0];
  const format::Tensor& codes = planner.tensor(y);
  const Dims& d = planner.dims(y);
  auto& p = planner.add_launch<cuda::QuantizeParams>(
      node, "quantize_f32", [rows = planner.rows(y)](cuda::QuantizeParams& q, const Live& live) {
        q.n = live.rows(rows);
      });
  p.n = d.n;
  p.c = d.c;
  p.h = d.h;
  p.w = d.w;
  const int64_t pixels = int64_t{d.h} * d.w;
  p.image = pixels * d.c;
  if (planner.placed(x).form == CudaForm::kRaw) {
    p.channel = pixels;
    p.row = d.w;
    p.pixel = 1;
  } else {
    p.channel = 1;
    p.row = int64_t{d.w} * d.c;
    p.pixel = d.c;
  }
  planner.read(x, &p.x);
  planner.write(y, &p.y);
  p.scale = codes.quant.scale;
  p.zero_point = codes.quant.zero_point;
  p.hi = max_code(codes.dtype);
  return Ok{};
}

cuda::PoolParams& add_pool(CudaPlanner& planner, uint32_t node, const char* kernel) {
  const format::Node& n = planner.model().nodes[node];
  const Dims &x = planner.dims(n.inputs[0]), &y = planner.dims(n.outputs[0]);
  auto& p = planner.add_launch<cuda::PoolParams>(node, kernel, kFixed);
  p.n = x.n;
  p.c = x.c;
  p.h = x.h;
  p.w = x.w;
  p.oh = y.h;
  p.ow = y.w;
  planner.read(n.inputs[0], &p.x);
  return p;
}

Checked plan_max_pool(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::MaxPoolAttrs>(n.attrs);
  cuda::PoolParams& p = add_pool(planner, node, "max_pool");
  p.kernel_h = a.kernel_h;
  p.kernel_w = a.kernel_w;
  p.stride_h = a.stride_h;
  p.stride_w = a.stride_w;
  p.pad_top = static_cast<int32_t>(a.pad_top);
  p.pad_left = static_cast<int32_t>(a.pad_left);
  planner.write(n.outputs[0], &p.y);
  return Ok{};
}

Checked plan_avg_pool(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AvgPoolAttrs>(n.attrs);
  const TensorId y = n.outputs[0];
  cuda::PoolParams& p = add_pool(planner, node, "average_pool");
  p.kernel_h = a.kernel_h != 0 ? a.kernel_h : p.h;
  p.kernel_w = a.kernel_w != 0 ? a.kernel_w : p.w;
  p.stride_h = a.stride_h;
  p.stride_w = a.stride_w;
  p.zero_point = planner.tensor(n.inputs[0]).quant.zero_point;
  p.multiplier = a.multiplier;
  p.bias = a.bias;
  p.lo = a.lo;
  p.hi = a.hi;
  if (is_code(planner.tensor(y).dtype)) {
    planner.write(y, &p.y);
  } else {
    planner.make_raw(y);
    planner.write(y, &p.dense);
  }
  return Ok{};
}

Checked plan_add(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AddAttrs>(n.attrs);
  const TensorId x = n.inputs[0], other = n.inputs[1], y = n.outputs[0];
  const Dims& d = planner.dims(y);
  auto& p = planner.add_launch<cuda::AddParams>(
      node, "add_codes",
      [rows = planner.rows(y), each = d.h * d.w](cuda::AddParams& q, const Live& live) {
        q.pixels = live.rows(rows) * each;
      });
  p.pixels = d.n * d.h * d.w;
  p.c = d.c;
  planner.read(x, &p.a);
  planner.read(other, &p.b);
  planner.write(y, &p.y);
  p.a_zero_point = planner.tensor(x).quant.zero_point;
  p.b_zero_point = planner.tensor(other).quant.zero_point;
  p.a_scale = a.scale_a;
  p.b_scale = a.scale_b;
  p.bias = a.bias;
  p.lo = a.lo;
  p.hi = a.hi;
  write_second(planner, n, a, &p);
  return Ok{};
}

// The longest sequence of a run: how many blocks each of them gets.
uint32_t longest(const uint32_t* starts, uint32_t sequences) {
  uint32_t most = 1;
  for (uint32_t i = 0; i < sequences; ++i) most = std::max(most, starts[i + 1] - starts[i]);
  return most;
}

Checked plan_embedding(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  auto& p = planner.add_launch<cuda::EmbeddingParams>(
      node, "embed", [starts = planner.host_starts()](cuda::EmbeddingParams& q, const Live& live) {
        q.sequences = live.sequences;
        q.max_length = longest(starts, live.sequences);
      });
  planner.read(n.inputs[format::kIds], &p.ids);
  if (n.inputs[format::kTypes] != kNoTensor) {
    planner.read(n.inputs[format::kTypes], &p.types);
    planner.constant(n.inputs[format::kTypeRows], &p.type_rows);
  }
  if (is_code(planner.tensor(n.inputs[format::kWords]).dtype)) {
    planner.constant(n.inputs[format::kWords], &p.word_codes);
    planner.constant(n.inputs[format::kWordScale], &p.word_scale);
  } else {
    planner.constant(n.inputs[format::kWords], &p.words);
  }
  planner.constant(n.inputs[format::kPositions], &p.positions);
  planner.read_starts(&p.starts);
  p.position_offset = std::get<format::EmbeddingAttrs>(n.attrs).position_offset;
  p.width = planner.dims(n.outputs[0]).c;
  planner.write(n.outputs[0], &p.y);
  return Ok{};
}

Checked plan_layer_norm(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::LayerNormAttrs>(n.attrs);
  const TensorId x = n.inputs[0];
  auto& p = planner.add_launch<cuda::LayerNormParams>(
      node, "layer_norm", [rows = planner.rows(x)](cuda::LayerNormParams& q, const Live& live) {
        q.tokens = live.rows(rows);
      });
  p.tokens = planner.dims(x).n;
  p.width = planner.dims(x).c;
  planner.read(x, &p.x);
  if (const TensorId r = operand(n.inputs, format::kNormResidual); r != kNoTensor)
    planner.read(r, &p.residual);
  planner.constant(n.inputs[format::kGamma], &p.gamma);
  planner.constant(n.inputs[format::kBeta], &p.beta);
  p.epsilon = a.epsilon;
  planner.write(n.outputs[0], &p.y);
  write_second(planner, n, a, &p);
  if (operand(n.inputs, format::kSecondGamma) != kNoTensor) {
    planner.constant(n.inputs[format::kSecondGamma], &p.second_gamma);
    planner.constant(n.inputs[format::kSecondBeta], &p.second_beta);
  }
  return Ok{};
}

Checked plan_attention(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::AttentionAttrs>(n.attrs);
  const TensorId y = n.outputs[0];
  const uint32_t head_size = planner.dims(y).c / a.heads;
  if (head_size != 64 && head_size != 32)
    return cuda_unsupported(n,
                            "heads of " + std::to_string(head_size) + " channels, not 32 or 64,");
  const uint32_t* const starts = planner.host_starts();
  auto& p = planner.add_launch<cuda::AttentionParams>(
      node, head_size == 64 ? "attention_64" : "attention_32",
      [](cuda::AttentionParams& q, const Live& live) { q.sequences = live.sequences; },
      [starts](cuda::AttentionParams q) {  // max_length is also the size of a table
        q.max_length = longest(starts, q.sequences);
        return cuda::grid_of(q);
      });
  planner.read_starts(&p.starts);
  p.heads = a.heads;
  p.max_length = planner.model().sequence_length;
  planner.read(n.inputs[format::kQkv], &p.qkv);
  planner.constant(n.inputs[format::kScoreScale], &p.score_scale);
  planner.constant(n.inputs[format::kValueScale], &p.value_scale);
  if (operand(n.inputs, format::kRelativeBias) != kNoTensor)
    planner.constant(n.inputs[format::kRelativeBias], &p.relative_bias);
  p.out_bias = a.out_bias;
  p.lo = a.lo;
  p.hi = a.hi;
  planner.write(y, &p.y);
  return Ok{};
}

Checked plan_sequence_pool(CudaPlanner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::SequencePoolAttrs>(n.attrs);
  constexpr uint32_t kMaxWidth = 12000;  // kernels/cuda/params.h
  const uint32_t width = planner.dims(n.outputs[0]).c;
  if (width > kMaxWidth)
    return cuda_unsupported(n, "rows of " + std::to_string(width) + " channels, more than " +
                                   std::to_string(kMaxWidth) + ",");
  auto& p = planner.add_launch<cuda::SequencePoolParams>(
      node, "pool_sequences",
      [](cuda::SequencePoolParams& q, const Live& live) { q.sequences = live.sequences; });
  planner.read(n.inputs[0], &p.x);
  planner.read_starts(&p.starts);
  p.width = width;
  p.mean = a.mode == format::SequencePoolAttrs::Mode::kMean ? 1 : 0;
  p.normalise = a.normalise ? 1 : 0;
  planner.write(n.outputs[0], &p.y);
  return Ok{};
}

}  // namespace

Checked plan_cuda_node(CudaPlanner& planner, uint32_t node) {
  using PlanNode = Checked (*)(CudaPlanner&, uint32_t);
  constexpr PlanNode kOps[format::kOpCodeCount] = {
      plan_image_quantize, plan_quantize,  plan_cuda_dense,   plan_cuda_dense,
      plan_max_pool,       plan_avg_pool,  plan_add,          plan_embedding,
      plan_layer_norm,     plan_attention, plan_sequence_pool};
  return kOps[static_cast<size_t>(planner.model().nodes[node].op())](planner, node);
}

}  // namespace mpq::runtime
