// Convolution, matrix products, pooling, normalisation, activations.

#include <algorithm>
#include <limits>

#include "converter/onnx/fold.h"
#include "converter/onnx/operands.h"

namespace mpq::convert {
namespace {

using Kind = Operand::Kind;

// A sliding window as the attributes describe it.
struct Window {
  uint32_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  Padding pad;
};

bool to_u32(int64_t value, uint32_t* result) {
  if (value < 0 || value > 32768) return false;
  *result = static_cast<uint32_t>(value);
  return true;
}

// SAME: the output is ceil(input / stride); the odd pixel goes to the end (UPPER) or the start.
void same_padding(int64_t in, uint32_t kernel, uint32_t stride, uint32_t dilation, bool upper,
                  uint32_t* before, uint32_t* after) {
  const int64_t out = (in + stride - 1) / stride;
  const int64_t total =
      std::max<int64_t>((out - 1) * stride + int64_t{kernel - 1} * dilation + 1 - in, 0);
  *before = static_cast<uint32_t>(upper ? total / 2 : total - total / 2);
  *after = static_cast<uint32_t>(total) - *before;
}

Outcome read_window(const NodeView& node, const Shape& x, const std::vector<int64_t>& kernel,
                    Window* window) {
  const std::vector<int64_t> strides = node.integers("strides", {1, 1}),
                             dilations = node.integers("dilations", {1, 1});
  const std::vector<int64_t> pads = node.integers("pads", {0, 0, 0, 0});
  if (kernel.size() != 2 || strides.size() != 2 || dilations.size() != 2 || pads.size() != 4)
    return Problem{"kernel, strides, dilations or pads are not two-dimensional",
                   "only 2-D convolution and pooling are supported"};
  bool fits = to_u32(kernel[0], &window->kernel_h) && to_u32(kernel[1], &window->kernel_w) &&
              to_u32(strides[0], &window->stride_h) && to_u32(strides[1], &window->stride_w) &&
              to_u32(dilations[0], &window->dilation_h) &&
              to_u32(dilations[1], &window->dilation_w) && to_u32(pads[0], &window->pad.top) &&
              to_u32(pads[1], &window->pad.left) && to_u32(pads[2], &window->pad.bottom) &&
              to_u32(pads[3], &window->pad.right);
  for (const uint32_t v : {window->kernel_h, window->kernel_w, window->stride_h, window->stride_w,
                           window->dilation_h, window->dilation_w})
    fits = fits && v > 0;
  if (!fits)
    return Problem{"kernel, strides, dilations or pads are out of range (0 or 1 to 32768)",
                   "export the model again"};
  const std::string mode = node.text("auto_pad", "NOTSET");
  if (mode == "VALID") window->pad = {};
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    const bool upper = mode == "SAME_UPPER";
    same_padding(x[2], window->kernel_h, window->stride_h, window->dilation_h, upper,
                 &window->pad.top, &window->pad.bottom);
    same_padding(x[3], window->kernel_w, window->stride_w, window->dilation_w, upper,
                 &window->pad.left, &window->pad.right);
  } else if (mode != "NOTSET" && mode != "VALID") {
    return Problem{"auto_pad '" + mode + "' is unknown", "export explicit pads"};
  }
  return {};
}

// Weights as a graph constant of `shape`, with their codes when the model gives them. Per-channel
// scales must belong to the output channels, axis 0.
Outcome read_weights(const NodeView& node, const TensorPtr& tensor, ValueId* value,
                     std::optional<WeightQuant>* quant) {
  if (tensor->is_integer())
    return Problem{"the weights are integers without a DequantizeLinear",
                   "export the quantised model with Q/DQ nodes"};
  *value = node.importer->constant(tensor, tensor->shape);
  if (!tensor->grid) return {};
  const Grid& grid = *tensor->grid;
  if (grid.scale.size() > 1 && grid.axis != 0)
    return Problem{"the weight scales lie along axis " + std::to_string(grid.axis) +
                       ", not along the output channels",
                   "quantise weights per tensor or per output channel"};
  *quant = weight_quant_of(grid);
  return {};
}

// A bias for `channels` outputs: one value each, or a broadcast scalar, times beta.
Outcome read_bias(const NodeView& node, size_t i, int64_t channels, float beta,
                  std::vector<ValueId>* inputs) {
  if (node.in(i).kind == Kind::kAbsent) return {};
  if (Outcome problem = expect_constant(node, i)) return problem;
  const Tensor& tensor = *node.in(i).tensor;
  if (tensor.is_integer())
    return Problem{"the bias is integer without a DequantizeLinear",
                   "export the quantised model with Q/DQ nodes"};
  const bool vector = tensor.shape == Shape{channels} || tensor.shape == Shape{1, channels};
  if (!vector && (tensor.reals.size() != 1 || node.proto->op_type() == "Conv"))
    return Problem{"the bias has shape " + to_string(tensor.shape) + " for " +
                       std::to_string(channels) + " outputs",
                   "the exporter wrote a wrong bias: export the model again with another version"};
  std::vector<float> bias =
      vector ? tensor.reals : std::vector<float>(static_cast<size_t>(channels), tensor.reals[0]);
  for (float& v : bias) v *= beta;
  inputs->push_back(node.importer->constant(node.name + "_bias", {channels}, std::move(bias)));
  return {};
}

Outcome emit_layer(const NodeView& node, Op op, std::vector<ValueId> inputs,
                   std::optional<WeightQuant> quant) {
  if (Outcome problem = node.importer->emit(node, std::move(op), std::move(inputs))) return problem;
  node.importer->graph().nodes.back().weight_quant = std::move(quant);
  return {};
}

Outcome import_conv(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  const TensorPtr weights = node.in(1).tensor;
  if (weights->shape.size() != 4)
    return Problem{"the weights have shape " + to_string(weights->shape),
                   "only 2-D convolution is supported"};
  Window window;
  const std::vector<int64_t> kernel(weights->shape.begin() + 2, weights->shape.end());
  if (node.integers("kernel_shape", kernel) != kernel)
    return Problem{"kernel_shape differs from the weights " + to_string(weights->shape),
                   "the file contradicts itself: export the model again"};
  const Operand& x = node.in(0);
  if (x.padding.any() && node.text("auto_pad", "NOTSET").rfind("SAME", 0) == 0)
    return Problem{"a Pad node before automatic padding cannot be merged", "export explicit pads"};
  if (Outcome problem = read_window(node, node.shape(0), kernel, &window)) return problem;
  Conv op{.stride_h = window.stride_h,
          .stride_w = window.stride_w,
          .pad_top = window.pad.top + x.padding.top,
          .pad_left = window.pad.left + x.padding.left,
          .pad_bottom = window.pad.bottom + x.padding.bottom,
          .pad_right = window.pad.right + x.padding.right,
          .dilation_h = window.dilation_h,
          .dilation_w = window.dilation_w};
  if (!to_u32(node.integer("group", 1), &op.groups))
    return Problem{"group is out of range", "export the model again"};
  std::vector<ValueId> inputs{x.value, kNoValue};
  std::optional<WeightQuant> quant;
  if (Outcome problem = read_weights(node, weights, &inputs[1], &quant)) return problem;
  if (Outcome problem = read_bias(node, 2, weights->shape[0], 1.0F, &inputs)) return problem;
  return emit_layer(node, op, std::move(inputs), std::move(quant));
}

TensorPtr scaled(const TensorPtr& tensor, float factor) {
  if (factor == 1.0F) return tensor;
  auto result = std::make_shared<Tensor>(*tensor);
  for (float& v : result->reals) v *= factor;
  if (tensor->grid) {
    auto grid = std::make_shared<Grid>(*tensor->grid);
    for (float& s : grid->scale) s *= factor;
    result->grid = std::move(grid);
  }
  return result;
}

// y = x * weights with weights [K, N], or [N, K] when already transposed.
Outcome emit_linear(const NodeView& node, bool transposed, float alpha, float beta) {
  if (Outcome problem = expect_activation(node, 0, 2)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  if (Outcome problem = expect_constant(node, 1)) return problem;
  TensorPtr weights = node.in(1).tensor;
  if (weights->shape.size() != 2)
    return Problem{"the weights have shape " + to_string(weights->shape) + ", expected a matrix",
                   "export the layer as Gemm or as a 2-D MatMul"};
  if (!(alpha > 0.0F))
    return Problem{"alpha " + std::to_string(alpha) + " is not positive",
                   "fold alpha into the weights"};
  if (!transposed) weights = std::make_shared<const Tensor>(transpose(*weights, {1, 0}));
  weights = scaled(weights, alpha);
  std::vector<ValueId> inputs{node.in(0).value, kNoValue};
  std::optional<WeightQuant> quant;
  if (Outcome problem = read_weights(node, weights, &inputs[1], &quant)) return problem;
  if (Outcome problem = read_bias(node, 2, weights->shape[0], beta, &inputs)) return problem;
  return emit_layer(node, Linear{}, std::move(inputs), std::move(quant));
}

Outcome import_gemm(const NodeView& node) {
  if (node.integer("transA", 0) != 0)
    return Problem{"transA is set", "export the layer with untransposed activations"};
  return emit_linear(node, node.integer("transB", 0) != 0, node.real("alpha", 1.0F),
                     node.real("beta", 1.0F));
}

Outcome import_matmul(const NodeView& node) { return emit_linear(node, false, 1.0F, 1.0F); }

Outcome import_batch_norm(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  if (node.integer("training_mode", 0) != 0 || (node.opset < 14 && node.proto->output_size() > 1))
    return Problem{"it is in training mode", "call model.eval() before the export"};
  if (node.opset < 9 && node.integer("spatial", 1) != 1)
    return Problem{"spatial = 0 is not supported", "export with a newer opset"};
  std::vector<ValueId> inputs{node.in(0).value};
  for (size_t i = 1; i < 5; ++i) {
    if (Outcome problem = expect_constant(node, i)) return problem;
    if (node.in(i).tensor->is_integer())
      return Problem{"a parameter is an integer tensor", "export the model again"};
    inputs.push_back(node.importer->constant(node.in(i).tensor, node.in(i).tensor->shape));
  }
  return node.importer->emit(node, BatchNorm{.epsilon = node.real("epsilon", 1e-5F)},
                             std::move(inputs));
}

// Padding with zeros that cannot win against values that are never negative.
bool is_non_negative(const Graph& graph, ValueId value) {
  for (int i = producer(graph, value); i >= 0; i = producer(graph, value)) {
    const Node& node = graph.nodes[static_cast<size_t>(i)];
    if (std::holds_alternative<Relu>(node.op)) return true;
    if (const auto* clip = std::get_if<Clip>(&node.op)) return clip->lo >= 0.0F;
    if (const auto* quant = std::get_if<FakeQuant>(&node.op);
        quant != nullptr && quant->spec.lo >= quant->spec.zero_point)
      return true;
    if (!std::holds_alternative<MaxPool>(node.op) && !std::holds_alternative<AvgPool>(node.op) &&
        !std::holds_alternative<FakeQuant>(node.op))
      return false;
    value = node.inputs[0];
  }
  return false;
}

// ceil_mode adds a last window when one is begun inside the input (or its leading padding); padding
// at the end makes room for it.
void apply_ceil(int64_t in, uint32_t kernel, uint32_t stride, uint32_t before, uint32_t* after) {
  const int64_t padded = in + before + *after;
  const int64_t rest = (padded - kernel) % stride;
  if (padded < kernel || rest == 0) return;
  const int64_t extra = stride - rest;
  const int64_t start = (padded - kernel) / stride * stride + stride;  // of the added window
  if (start < in + before) *after += static_cast<uint32_t>(extra);
}

Outcome read_pool(const NodeView& node, Window* window) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  const Shape& x = node.shape(0);
  if (Outcome problem = read_window(node, x, node.integers("kernel_shape"), window)) return problem;
  if (window->dilation_h != 1 || window->dilation_w != 1)
    return Problem{"dilated pooling is not supported", "use dilation 1"};
  if (node.integer("ceil_mode", 0) != 0) {
    apply_ceil(x[2], window->kernel_h, window->stride_h, window->pad.top, &window->pad.bottom);
    apply_ceil(x[3], window->kernel_w, window->stride_w, window->pad.left, &window->pad.right);
  }
  return {};
}

Outcome import_max_pool(const NodeView& node) {
  Window window;
  if (Outcome problem = read_pool(node, &window)) return problem;
  const Operand& x = node.in(0);
  if (x.padding.any() &&
      (!is_non_negative(node.importer->graph(), x.value) || node.integer("ceil_mode", 0) != 0))
    return Problem{
        "a Pad with zeros before max pooling of values that may be negative cannot be merged",
        "pad in the pooling itself"};
  const MaxPool op{.kernel_h = window.kernel_h,
                   .kernel_w = window.kernel_w,
                   .stride_h = window.stride_h,
                   .stride_w = window.stride_w,
                   .pad_top = window.pad.top + x.padding.top,
                   .pad_left = window.pad.left + x.padding.left,
                   .pad_bottom = window.pad.bottom + x.padding.bottom,
                   .pad_right = window.pad.right + x.padding.right};
  return node.importer->emit(node, op, {x.value});
}

Outcome import_average_pool(const NodeView& node) {
  Window window;
  if (Outcome problem = read_pool(node, &window)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  if (window.pad.any())
    return Problem{"average pooling with padding is not supported", "use unpadded average pooling"};
  const AvgPool op{.kernel_h = window.kernel_h,
                   .kernel_w = window.kernel_w,
                   .stride_h = window.stride_h,
                   .stride_w = window.stride_w};
  return node.importer->emit(node, op, {node.in(0).value});
}

Outcome import_global_average(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  return node.importer->emit(node, AvgPool{}, {node.in(0).value});
}

Outcome import_global_max(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  const Shape& x = node.shape(0);
  return node.importer->emit(
      node,
      MaxPool{.kernel_h = static_cast<uint32_t>(x[2]), .kernel_w = static_cast<uint32_t>(x[3])},
      {node.in(0).value});
}

// The mean over both spatial axes is a global pool.
Outcome import_reduce_mean(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0, 4)) return problem;
  if (Outcome problem = expect_no_padding(node, 0)) return problem;
  std::vector<int64_t> axes = node.integers("axes");
  if (Outcome problem = constant_integers(node, 1, &axes)) return problem;
  for (int64_t& axis : axes) axis += axis < 0 ? 4 : 0;
  std::sort(axes.begin(), axes.end());
  if (axes != std::vector<int64_t>{2, 3})
    return Problem{"only the mean over height and width is supported", "use a global average pool"};
  if (Outcome problem = node.importer->emit(node, AvgPool{}, {node.in(0).value})) return problem;
  if (node.integer("keepdims", 1) != 0) return {};
  return node.importer->emit(node, Flatten{}, {node.importer->graph().nodes.back().output});
}

Outcome import_relu(const NodeView& node) {
  const Operand& x = node.in(0);
  if (x.kind == Kind::kQuantised) return narrow_codes(node, x, 0.0, {});
  if (Outcome problem = expect_activation(node, 0)) return problem;
  return node.importer->emit(node, Relu{}, {x.value}, x.padding);
}

// A softmax that ends the network does not change the order of the classes; logits are the output.
Outcome import_softmax(const NodeView& node) {
  if (Outcome problem = expect_activation(node, 0)) return problem;
  if (!node.importer->is_graph_output(node.proto->output(0)) ||
      node.importer->uses(node.proto->output(0)) != 1)
    return Problem{"softmax is only supported as the last node, where it is dropped",
                   "remove it from the model"};
  node.importer->note("node '" + node.name + "' (" + node.proto->op_type() +
                      "): dropped; the output is the logits");
  node.importer->define(node, node.in(0));
  return {};
}

constexpr OpRow kRows[] = {
    {"Conv", import_conv},
    {"Gemm", import_gemm},
    {"MatMul", import_matmul},
    {"BatchNormalization", import_batch_norm},
    {"MaxPool", import_max_pool},
    {"AveragePool", import_average_pool},
    {"GlobalAveragePool", import_global_average},
    {"GlobalMaxPool", import_global_max},
    {"ReduceMean", import_reduce_mean},
    {"Relu", import_relu},
    {"Softmax", import_softmax},
    {"LogSoftmax", import_softmax},
};

}  // namespace

std::span<const OpRow> layer_ops() { return kRows; }

}  // namespace mpq::convert
