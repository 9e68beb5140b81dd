// Turns a product-quantised ResNet checkpoint (weight = codebook[codes], batch norm reduced to a
// scale and an offset) into a float ONNX model of the shape that torchvision's exporter gives.
//
//   pqf_to_onnx checkpoint.pth model.onnx [--keep-bn] [--grow=STAGE:BLOCKS ...] [--last-scale=S]

#include <onnx/onnx_pb.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <vector>

#include "converter/tools/grow.h"
#include "converter/torch/checkpoint.h"

namespace mpq::convert {
namespace {

constexpr float kEpsilon = 1e-5F;  // of the network's batch norms

class ResNetWriter {
 public:
  ResNetWriter(const Checkpoint& checkpoint, bool keep_bn)
      : checkpoint_(checkpoint), keep_bn_(keep_bn) {}
  Result<onnx::ModelProto> write();

 private:
  struct Window {
    int64_t kernel, stride, pad;
  };

  bool has(const std::string& name) const { return checkpoint_.count(name) != 0; }
  Result<const CheckpointTensor*> tensor(const std::string& name) const;
  Result<std::vector<float>> weights(const std::string& layer, const Shape& shape) const;
  Result<int64_t> channels(const std::string& norm) const;
  void initializer(const std::string& name, const Shape& shape, const std::vector<float>& data);
  onnx::NodeProto* node(const char* op, std::vector<std::string> inputs, const std::string& name);
  std::string relu(const std::string& x, const std::string& name) {
    return node("Relu", {x}, name)->output(0);
  }
  Result<std::string> conv(const std::string& x, const std::string& layer, const std::string& norm,
                           Window window, int64_t in, const std::string& scope);
  Result<std::string> block(const std::string& x, const std::string& layer,
                            const std::string& scope, int64_t stride);

  const Checkpoint& checkpoint_;
  const bool keep_bn_;
  onnx::ModelProto model_;
  onnx::GraphProto* graph_ = model_.mutable_graph();
  int64_t width_ = 64;  // channels of the current activation
};

void ints(onnx::NodeProto* node, const char* name, std::vector<int64_t> values) {
  onnx::AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::INTS);
  for (const int64_t value : values) attribute->add_ints(value);
}

Result<const CheckpointTensor*> ResNetWriter::tensor(const std::string& name) const {
  const auto found = checkpoint_.find(name);
  if (found == checkpoint_.end())
    return Error{Status::kNotFound, "the checkpoint has no tensor '" + name + "'"};
  return &found->second;
}

// Row o of the codes names the sub-vectors that, one after the other, are row o of the weights.
Result<std::vector<float>> ResNetWriter::weights(const std::string& layer,
                                                 const Shape& shape) const {
  uint64_t elements = 0;
  if (!checked_elements(shape, &elements))
    return Error{Status::kCorrupt, layer + ": bad shape " + to_string(shape)};
  if (has(layer + ".weight")) {
    MPQ_TRY(const CheckpointTensor* plain, tensor(layer + ".weight"));
    if (plain->shape != shape)
      return Error{Status::kCorrupt, layer + ": weights " + to_string(plain->shape) +
                                         ", expected " + to_string(shape)};
    return plain->data;
  }
  MPQ_TRY(const CheckpointTensor* codes, tensor(layer + ".codes_matrix"));
  MPQ_TRY(const CheckpointTensor* codebook, tensor(layer + ".codebook"));
  if (codes->shape.size() != 2 || codebook->shape.size() != 2 || codes->shape[0] != shape[0] ||
      codes->data.size() * static_cast<size_t>(codebook->shape[1]) != elements)
    return Error{Status::kCorrupt, layer + ": codes " + to_string(codes->shape) + " and codebook " +
                                       to_string(codebook->shape) + " do not make " +
                                       to_string(shape)};
  const auto length = static_cast<size_t>(codebook->shape[1]);
  std::vector<float> data;
  data.reserve(elements);
  for (const float code : codes->data) {
    if (code < 0 || code >= static_cast<float>(codebook->shape[0]))
      return Error{Status::kCorrupt,
                   layer + ": code " + std::to_string(code) + " is outside the codebook"};
    const auto first =
        codebook->data.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(code) * length);
    data.insert(data.end(), first, first + static_cast<ptrdiff_t>(length));
  }
  return data;
}

Result<int64_t> ResNetWriter::channels(const std::string& norm) const {
  MPQ_TRY(const CheckpointTensor* scale, tensor(norm + ".weight"));
  return static_cast<int64_t>(scale->data.size());
}

void ResNetWriter::initializer(const std::string& name, const Shape& shape,
                               const std::vector<float>& data) {
  onnx::TensorProto* tensor = graph_->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (const int64_t dim : shape) tensor->add_dims(dim);
  tensor->set_raw_data(data.data(), data.size() * sizeof(float));
}

onnx::NodeProto* ResNetWriter::node(const char* op, std::vector<std::string> inputs,
                                    const std::string& name) {
  onnx::NodeProto* node = graph_->add_node();
  node->set_op_type(op);
  node->set_name(name);
  for (const std::string& input : inputs) node->add_input(input);
  node->add_output(name + "_output_0");
  return node;
}

Result<std::string> ResNetWriter::conv(const std::string& x, const std::string& layer,
                                       const std::string& norm, Window window, int64_t in,
                                       const std::string& scope) {
  MPQ_TRY(const int64_t out, channels(norm));
  const Shape shape{out, in, window.kernel, window.kernel};
  MPQ_TRY(std::vector<float> data, weights(layer, shape));
  MPQ_TRY(const CheckpointTensor* scale, tensor(norm + ".weight"));
  MPQ_TRY(const CheckpointTensor* offset, tensor(norm + ".bias"));
  if (offset->data.size() != scale->data.size())
    return Error{Status::kCorrupt, norm + ": scale and offset differ in length"};
  std::vector<std::string> inputs = {x, layer + ".weight"};
  if (!keep_bn_) {
    const size_t row = data.size() / static_cast<size_t>(out);
    const double factor = 1.0 / std::sqrt(1.0 + double{kEpsilon});  // the variance is 1
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<float>(data[i] * scale->data[i / row] * factor);
    initializer(layer + ".bias", {out}, offset->data);
    inputs.push_back(layer + ".bias");
  }
  initializer(layer + ".weight", shape, data);
  onnx::NodeProto* conv = node("Conv", inputs, scope + "/Conv");
  ints(conv, "dilations", {1, 1});
  ints(conv, "kernel_shape", {window.kernel, window.kernel});
  ints(conv, "pads", std::vector<int64_t>(4, window.pad));
  ints(conv, "strides", {window.stride, window.stride});
  if (!keep_bn_) return conv->output(0);
  const auto count = static_cast<size_t>(out);
  initializer(norm + ".weight", {out}, scale->data);
  initializer(norm + ".bias", {out}, offset->data);
  initializer(norm + ".running_mean", {out}, std::vector<float>(count, 0.0F));
  initializer(norm + ".running_var", {out}, std::vector<float>(count, 1.0F));
  onnx::NodeProto* bn = node("BatchNormalization",
                             {conv->output(0), norm + ".weight", norm + ".bias",
                              norm + ".running_mean", norm + ".running_var"},
                             scope + "/BatchNormalization");
  onnx::AttributeProto* epsilon = bn->add_attribute();
  epsilon->set_name("epsilon");
  epsilon->set_type(onnx::AttributeProto::FLOAT);
  epsilon->set_f(kEpsilon);
  return bn->output(0);
}

// Bottleneck when there is a third convolution; the 3x3 carries the stride (version 1.5).
Result<std::string> ResNetWriter::block(const std::string& x, const std::string& layer,
                                        const std::string& scope, int64_t stride) {
  const bool bottleneck = has(layer + ".bn3.weight");
  MPQ_TRY(const int64_t inner, channels(layer + ".bn1"));
  const int64_t in = width_;
  const Window one{1, 1, 0}, three{3, 1, 1}, strided{3, stride, 1};
  MPQ_TRY(std::string y, conv(x, layer + ".conv1", layer + ".bn1", bottleneck ? one : strided, in,
                              scope + "/conv1"));
  y = relu(y, scope + "/relu/Relu");
  MPQ_TRY(y, conv(y, layer + ".conv2", layer + ".bn2", bottleneck ? strided : three, inner,
                  scope + "/conv2"));
  MPQ_TRY(width_, channels(layer + (bottleneck ? ".bn3" : ".bn2")));
  if (bottleneck) {
    y = relu(y, scope + "/relu_1/Relu");
    MPQ_TRY(y, conv(y, layer + ".conv3", layer + ".bn3", one, inner, scope + "/conv3"));
  }
  std::string shortcut = x;
  if (has(layer + ".downsample.1.weight")) {
    MPQ_TRY(shortcut, conv(x, layer + ".downsample.0", layer + ".downsample.1", {1, stride, 0}, in,
                           scope + "/downsample/downsample.0"));
  }
  const std::string sum = node("Add", {y, shortcut}, scope + "/Add")->output(0);
  return relu(sum, scope + (bottleneck ? "/relu_2/Relu" : "/relu_1/Relu"));
}

onnx::TypeProto::Tensor* describe(onnx::ValueInfoProto* info, const std::string& name,
                                  const Shape& shape) {
  info->set_name(name);
  onnx::TypeProto::Tensor* type = info->mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  type->mutable_shape()->add_dim()->set_dim_param("batch");
  for (const int64_t dim : shape) type->mutable_shape()->add_dim()->set_dim_value(dim);
  return type;
}

Result<onnx::ModelProto> ResNetWriter::write() {
  model_.set_ir_version(7);
  model_.set_producer_name("pqf_to_onnx");
  model_.add_opset_import()->set_version(13);
  graph_->set_name("resnet");
  describe(graph_->add_input(), "input", {3, 224, 224});
  MPQ_TRY(std::string x, conv("input", "conv1", "bn1", {7, 2, 3}, 3, "/conv1"));
  x = relu(x, "/relu/Relu");
  onnx::NodeProto* pool = node("MaxPool", {x}, "/maxpool/MaxPool");
  ints(pool, "kernel_shape", {3, 3});
  ints(pool, "pads", {1, 1, 1, 1});
  ints(pool, "strides", {2, 2});
  x = pool->output(0);
  for (int stage = 1; has("layer" + std::to_string(stage) + ".0.bn1.weight"); ++stage)
    for (int i = 0;; ++i) {
      const std::string outer = "layer" + std::to_string(stage),
                        layer = outer + "." + std::to_string(i);
      if (!has(layer + ".bn1.weight")) break;
      MPQ_TRY(x, block(x, layer, "/" + outer + "/" + layer, stage > 1 && i == 0 ? 2 : 1));
    }
  x = node("GlobalAveragePool", {x}, "/avgpool/GlobalAveragePool")->output(0);
  x = node("Flatten", {x}, "/Flatten")->output(0);
  MPQ_TRY(const CheckpointTensor* bias, tensor("fc.bias"));
  const auto classes = static_cast<int64_t>(bias->data.size());
  MPQ_TRY(const std::vector<float> fc, weights("fc", {classes, width_}));
  initializer("fc.weight", {classes, width_}, fc);
  initializer("fc.bias", {classes}, bias->data);
  onnx::NodeProto* gemm = node("Gemm", {x, "fc.weight", "fc.bias"}, "/fc/Gemm");
  onnx::AttributeProto* transposed = gemm->add_attribute();
  transposed->set_name("transB");
  transposed->set_type(onnx::AttributeProto::INT);
  transposed->set_i(1);
  gemm->set_output(0, "output");
  describe(graph_->add_output(), "output", {classes});
  return std::move(model_);
}

struct Options {
  bool keep_bn = false;
  std::vector<Growth> growth;
};

Result<Options> parse(std::span<char*> arguments) {
  Options options;
  float last_scale = 0.0F;
  for (const std::string argument : arguments) {
    if (argument == "--keep-bn") {
      options.keep_bn = true;
    } else if (argument.starts_with("--grow=")) {
      MPQ_TRY(const Growth growth, parse_growth(argument.substr(7)));
      options.growth.push_back(growth);
    } else if (argument.starts_with("--last-scale=")) {
      last_scale = std::strtof(argument.c_str() + 13, nullptr);
    } else {
      return Error{Status::kInvalidArgument, "unknown option '" + argument + "'"};
    }
  }
  for (Growth& growth : options.growth) growth.last_scale = last_scale;
  return options;
}

Checked convert(const std::string& from, const std::string& to, const Options& options) {
  std::ifstream in(from, std::ios::binary);
  if (!in) return Error{Status::kIo, from + ": cannot be opened"};
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  MPQ_TRY(Checkpoint checkpoint, read_checkpoint(std::as_bytes(std::span(bytes))));
  for (const Growth& growth : options.growth) MPQ_CHECK(grow(&checkpoint, growth));
  ResNetWriter writer(checkpoint, options.keep_bn);
  MPQ_TRY(const onnx::ModelProto model, writer.write());
  std::ofstream out(to, std::ios::binary);
  if (!out || !model.SerializeToOstream(&out) || !out.flush())
    return Error{Status::kIo, to + ": cannot be written"};
  return Ok{};
}

}  // namespace
}  // namespace mpq::convert

int main(int argc, char** argv) {
  if (argc < 3 || argv[1][0] == '-') {
    std::fprintf(
        stderr,
        "usage: pqf_to_onnx checkpoint.pth model.onnx [--keep-bn] [--grow=STAGE:BLOCKS ...] "
        "[--last-scale=S]\n"
        "  --keep-bn            keep batch norms as nodes\n"
        "  --grow=STAGE:BLOCKS  add residual blocks that change nothing until the stage has\n"
        "                       BLOCKS; ResNet-50 with 3:23 has the shape of ResNet-101\n"
        "  --last-scale=S       of the last norm of the added blocks (0)\n");
    return 2;
  }
  const auto options = mpq::convert::parse({argv + 3, argv + argc});
  if (!options.ok()) {
    std::fprintf(stderr, "pqf_to_onnx: %s\n", options.error().message.c_str());
    return 2;
  }
  const mpq::Checked done = mpq::convert::convert(argv[1], argv[2], *options);
  if (done.ok()) return 0;
  std::fprintf(stderr, "pqf_to_onnx: %s\n", done.error().message.c_str());
  return 1;
}
