#include "converter/train/resnet.h"

#include <charconv>
#include <cmath>

#include "converter/normal_numbers.h"

namespace mpq::convert::train {
namespace {

class Builder {
 public:
  Builder(const ResnetSpec& spec, uint64_t seed) : spec_(spec), state_(seed) {}

  Graph build() {
    graph_.name = "resnet" + std::to_string(6 * spec_.blocks + 2);
    ValueId x = graph_.add_value({"image", {1, 3, spec_.side, spec_.side}, {}, false});
    graph_.inputs = {x};
    x = relu("relu", conv_bn("conv1", "bn1", x, spec_.width, 1));
    for (uint32_t stage = 0; stage < 3; ++stage)
      for (uint32_t block = 0; block < spec_.blocks; ++block)
        x = basic_block("layer" + std::to_string(stage + 1) + "." + std::to_string(block), x,
                        int64_t{spec_.width} << stage, stage > 0 && block == 0 ? 2 : 1);
    const int64_t channels = shape(x)[1];
    x = node("flatten", Flatten{}, {node("pool", AvgPool{}, {x})});
    const double deviation = std::sqrt(1.0 / static_cast<double>(channels));
    x = node("linear", Linear{},
             {x, random("linear.weight", {spec_.classes, channels}, deviation),
              constant("linear.bias", {spec_.classes}, 0.0F)});
    graph_.outputs = {x};
    return std::move(graph_);
  }

 private:
  const Shape& shape(ValueId v) const { return graph_.values[v].shape; }
  ValueId node(const std::string& name, Op op, std::vector<ValueId> inputs) {
    Node node{name, std::move(op), std::move(inputs), kNoValue, {}};
    const Result<Shape> out = infer_shape(graph_, node);
    node.output = graph_.add_value({name + ".out", out.ok() ? *out : Shape{}, {}, false});
    graph_.nodes.push_back(std::move(node));
    return graph_.nodes.back().output;
  }
  ValueId add(const std::string& name, const Shape& shape, std::vector<float> data) {
    return graph_.add_value({name, shape, std::move(data), true});
  }
  ValueId constant(const std::string& name, const Shape& shape, float value) {
    return add(name, shape, std::vector<float>(static_cast<size_t>(shape[0]), value));
  }
  ValueId random(const std::string& name, const Shape& shape, double deviation) {
    uint64_t elements = 0;
    (void)checked_elements(shape, &elements);
    return add(name, shape, normal_numbers(elements, deviation, &state_));
  }
  ValueId relu(const std::string& name, ValueId x) { return node(name, Relu{}, {x}); }
  ValueId conv_bn(const std::string& conv, const std::string& bn, ValueId x, int64_t out,
                  uint32_t stride) {
    const int64_t in = shape(x)[1];
    const double deviation = std::sqrt(2.0 / static_cast<double>(9 * out));
    const ValueId y = node(conv, Conv{stride, stride, 1, 1, 1, 1},
                           {x, random(conv + ".weight", {out, in, 3, 3}, deviation)});
    return node(
        bn, BatchNorm{},
        {y, constant(bn + ".weight", {out}, 1.0F), constant(bn + ".bias", {out}, 0.0F),
         constant(bn + ".running_mean", {out}, 0.0F), constant(bn + ".running_var", {out}, 1.0F)});
  }
  ValueId basic_block(const std::string& name, ValueId x, int64_t out, uint32_t stride) {
    ValueId y = relu(name + ".relu1", conv_bn(name + ".conv1", name + ".bn1", x, out, stride));
    y = conv_bn(name + ".conv2", name + ".bn2", y, out, 1);
    if (stride != 1) {
      const int64_t in = shape(x)[1];
      std::vector<float> pick(static_cast<size_t>(out * in));
      for (int64_t c = 0; c < in; ++c) pick[static_cast<size_t>((c + (out - in) / 2) * in + c)] = 1;
      x = node(name + ".shortcut", Conv{stride, stride},
               {x, add(name + ".shortcut.weight", {out, in, 1, 1}, std::move(pick))});
    }
    return relu(name + ".relu2", node(name + ".add", Add{}, {y, x}));
  }

  ResnetSpec spec_;
  uint64_t state_;
  Graph graph_;
};

}  // namespace

Result<ResnetSpec> resnet_by_name(const std::string& name) {
  constexpr std::string_view kPrefix = "resnet";
  uint32_t layers = 0;
  const char *const first = name.data() + std::min(kPrefix.size(), name.size()), *const last =
                                                                                     name.data() +
                                                                                     name.size();
  const auto [end, error] = std::from_chars(first, last, layers);
  if (!name.starts_with(kPrefix) || error != std::errc() || end != last || layers < 8 ||
      layers > 1202 || layers % 6 != 2)
    return Error{Status::kInvalidArgument, "'" + name +
                                               "' is no residual network for small images: "
                                               "resnet8, resnet14, resnet20, ... (6 n + 2 layers)"};
  ResnetSpec spec;
  spec.blocks = (layers - 2) / 6;
  return spec;
}

Graph make_resnet(const ResnetSpec& spec, uint64_t seed) { return Builder(spec, seed).build(); }

Checked load_weights(const Checkpoint& checkpoint, Graph* graph) {
  for (Value& value : graph->values) {
    if (!value.is_constant) continue;
    std::vector<std::string> names = {value.name, "module." + value.name};
    if (value.name.starts_with("linear."))
      for (const char* prefix : {"fc.", "module.fc."})
        names.push_back(prefix + value.name.substr(7));
    const CheckpointTensor* found = nullptr;
    for (const std::string& name : names)
      if (const auto tensor = checkpoint.find(name); tensor != checkpoint.end())
        found = &tensor->second;
    if (found == nullptr) {
      if (value.name.find(".shortcut.") != std::string::npos) continue;  // of no parameters there
      return Error{Status::kNotFound, "the checkpoint has no '" + value.name + "'"};
    }
    if (found->shape != value.shape)
      return Error{Status::kInvalidArgument, "'" + value.name + "' has shape " +
                                                 to_string(found->shape) + ", expected " +
                                                 to_string(value.shape)};
    value.data = found->data;
  }
  return Ok{};
}

}  // namespace mpq::convert::train
