// What comes with the graph: precision map, image preprocessing, labels, prepacked weights.
#include <cmath>
#include <utility>

#include "format/validate_internal.h"

namespace mpq::format {
namespace {

constexpr size_t kMaxLabels = 65536;

bool is_dense(const Node& node) {
  return node.op() == OpCode::kConv2d || node.op() == OpCode::kLinear;
}

Checked check_map(const Model& model) {
  const PrecisionMap& map = model.map;
  const auto name_of = [](const Node& node) { return std::string_view(node.name); };
  const std::vector<uint32_t> order = sorted_positions(model.nodes, name_of);
  enum : uint8_t { kUnseen, kWhole, kPart };  // a node, or layers that were merged into it
  std::vector<uint8_t> seen(model.nodes.size(), kUnseen);
  for (const MapLayer& layer : map.layers) {
    const auto found =
        std::ranges::lower_bound(order, std::string_view(layer.node), {},
                                 [&](uint32_t i) { return name_of(model.nodes[i]); });
    const bool exists = found != order.end() && model.nodes[*found].name == layer.node;
    MPQ_REQUIRE(kMapLayer, exists && is_dense(model.nodes[*found]), "precision map: '", layer.node,
                "' is no conv2d or linear node");
    MPQ_REQUIRE(kMapLayer, layer.part.empty() ? seen[*found] == kUnseen : seen[*found] != kWhole,
                "precision map: '", layer.node, "' is there twice");
    seen[*found] = layer.part.empty() ? kWhole : kPart;
    MPQ_REQUIRE(kMapLayer, layer.part.size() <= kMaxName && is_clean_text(layer.part),
                "precision map: '", layer.node, "': part of ", layer.part.size(), " bytes");
    const Node& node = model.nodes[*found];
    const int weights = bits_of(model.tensors[node.inputs[kWeights]].dtype);
    const int x = bits_of(model.tensors[node.inputs[kX]].dtype);
    MPQ_REQUIRE(kMapBits, layer.weight_bits == weights && layer.activation_bits == x,
                "precision map: '", layer.node, "' has weights of ", layer.weight_bits,
                " and activations of ", layer.activation_bits, " bits, the node ", weights, " and ",
                x);
    MPQ_REQUIRE(kMapGroup, map.groups.empty() || layer.group < map.groups.size(),
                "precision map: '", layer.node, "' is in group ", layer.group, " of ",
                map.groups.size());
  }
  const auto finite = [](std::initializer_list<double> numbers) {
    return std::ranges::all_of(numbers, [](double x) { return std::isfinite(x); });
  };
  for (size_t i = 0; i < map.groups.size(); ++i) {
    const MapGroup& g = map.groups[i];
    MPQ_REQUIRE(kMapNumber, finite({g.gain, g.gain_stderr, g.cost_high, g.cost_low}),
                "precision map: group ", i, ": gain ", g.gain, " +- ", g.gain_stderr, ", costs ",
                g.cost_high, " and ", g.cost_low, " are not all finite");
  }
  MPQ_REQUIRE(kMapNumber, finite({map.budget, map.value, map.bound}), "precision map: budget ",
              map.budget, ", value ", map.value, ", bound ", map.bound, " are not all finite");
  const std::string& hex = map.source_sha256;
  const bool is_digest =
      hex.size() == 64 && hex.find_first_not_of("0123456789abcdef") == std::string::npos;
  MPQ_REQUIRE(kMapNumber, hex.empty() || is_digest, "precision map: source digest of ", hex.size(),
              " bytes is not 64 hexadecimal digits");
  return Ok{};
}

Checked check_image(const Model& model) {
  if (!model.has_image_preprocess) return Ok{};
  const ImagePreprocess& image = model.image;
  const Tensor& x = model.tensors[model.inputs[0]];
  const bool pixels = x.dtype == DType::kU8;  // NHWC, otherwise NCHW
  const bool fits = x.shape.size() == 4 && x.shape[pixels ? 1 : 2] == image.crop_h &&
                    x.shape[pixels ? 2 : 3] == image.crop_w;
  MPQ_REQUIRE(kImageCrop, fits, "image: crop ", image.crop_h, "x", image.crop_w,
              " is not the size of graph input 0, ", to_string(x.shape));
  const bool resizes = image.resize_shorter != 0;
  MPQ_REQUIRE(kImageCrop, !resizes || image.resize_shorter >= std::max(image.crop_h, image.crop_w),
              "image: shorter side ", image.resize_shorter, " is less than the crop ", image.crop_h,
              "x", image.crop_w);
  for (size_t i = 0; i < 3; ++i)
    MPQ_REQUIRE(kImageNormalise, std::isfinite(image.mean[i]) && is_scale(image.stddev[i]),
                "image: mean ", image.mean[i], " and standard deviation ", image.stddev[i],
                " of colour ", i);
  return Ok{};
}

Checked check_labels(const Model& model) {
  if (model.labels.empty()) return Ok{};
  uint64_t classes = 0;
  checked_elements(model.tensors[model.outputs[0]].shape, &classes);
  MPQ_REQUIRE(kLabelCount, model.labels.size() == classes && classes <= kMaxLabels,
              model.labels.size(), " labels, graph output 0 has ", classes, " elements");
  return Ok{};
}

Checked check_prepacked(const Model& model) {
  for (size_t i = 0; i < model.prepacked.size(); ++i) {
    const Prepacked& p = model.prepacked[i];
    MPQ_REQUIRE(kPrepackedNode, p.node < model.nodes.size() && is_dense(model.nodes[p.node]),
                "prepacked ", i, ": node ", p.node, " is no conv2d or linear node");
    MPQ_REQUIRE(kPrepackedNode,
                !p.layout.empty() && p.layout.size() <= kMaxName && is_clean_text(p.layout) &&
                    !p.data.empty(),
                "prepacked ", i, ": layout of ", p.layout.size(), " bytes, data of ",
                p.data.size());
  }
  const std::vector<uint32_t> order = sorted_positions(model.prepacked, [](const Prepacked& p) {
    return std::pair(p.node, std::string_view(p.layout));
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const Prepacked &a = model.prepacked[order[i - 1]], &b = model.prepacked[order[i]];
    MPQ_REQUIRE(kPrepackedNode, a.node != b.node || a.layout != b.layout, "prepacked: node ",
                a.node, " has layout '", a.layout, "' twice");
  }
  return Ok{};
}

}  // namespace

Checked check_extras(const Model& model) {
  MPQ_CHECK(check_map(model));
  MPQ_CHECK(check_image(model));
  MPQ_CHECK(check_labels(model));
  return check_prepacked(model);
}

}  // namespace mpq::format
