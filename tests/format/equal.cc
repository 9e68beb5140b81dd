#include "tests/format/equal.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <type_traits>

namespace mpq::test {
namespace {

using namespace format;

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::ranges::equal(a, b);
}

// Attributes and preprocessing hold only 4-byte and 1-byte members; compared as values through
// tuples.
auto tie(const Requant& r) {
  return std::tie(r.lo, r.hi, r.residual_scale, r.residual_shift, r.second_scale, r.second_bias,
                  r.second_lo, r.second_hi, r.activation, r.activation_scale, r.activation_bias);
}
auto tie(const ImageQuantizeAttrs&) { return std::tuple<>(); }
auto tie(const QuantizeAttrs&) { return std::tuple<>(); }
auto tie(const Conv2dAttrs& a) {
  return std::tuple_cat(std::tie(a.stride_h, a.stride_w, a.pad_top, a.pad_left, a.pad_bottom,
                                 a.pad_right, a.dilation_h, a.dilation_w, a.groups),
                        tie(a.requant));
}
auto tie(const LinearAttrs& a) { return tie(a.requant); }
auto tie(const MaxPoolAttrs& a) {
  return std::tie(a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top, a.pad_left,
                  a.pad_bottom, a.pad_right);
}
auto tie(const AvgPoolAttrs& a) {
  return std::tie(a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.multiplier, a.bias, a.lo, a.hi);
}
auto tie(const AddAttrs& a) {
  return std::tie(a.scale_a, a.scale_b, a.bias, a.lo, a.hi, a.second_scale, a.second_bias,
                  a.second_lo, a.second_hi);
}
auto tie(const EmbeddingAttrs& a) { return std::tie(a.position_offset); }
auto tie(const LayerNormAttrs& a) {
  return std::tie(a.epsilon, a.second_scale, a.second_bias, a.second_lo, a.second_hi);
}
auto tie(const AttentionAttrs& a) { return std::tie(a.heads, a.out_bias, a.lo, a.hi); }
auto tie(const SequencePoolAttrs& a) { return std::tie(a.mode, a.normalise); }
auto tie(const TextPreprocess& t) {
  return std::tie(t.clean_text, t.split_chinese, t.strip_accents, t.lowercase, t.unknown, t.begin,
                  t.separator, t.padding, t.mask, t.pair_separators);
}
auto tie(const PrecisionMap& m) {
  return std::tie(m.method, m.cost_model, m.solver, m.checkpoint, m.source_sha256, m.budget,
                  m.value, m.bound, m.seed);
}
auto tie(const MapLayer& l) {
  return std::tie(l.node, l.weight_bits, l.activation_bits, l.group, l.part);
}
auto tie(const MapGroup& g) {
  return std::tie(g.gain, g.gain_stderr, g.cost_high, g.cost_low, g.fixed);
}
auto tie(const ImagePreprocess& i) {
  return std::tie(i.resize, i.resize_shorter, i.crop_only_small, i.crop_h, i.crop_w, i.mean,
                  i.stddev);
}
template <typename T>
bool all_equal(const std::vector<T>& a, const std::vector<T>& b) {
  return std::ranges::equal(a, b, [](const T& x, const T& y) { return tie(x) == tie(y); });
}

bool same_attrs(const Attrs& a, const Attrs& b) {
  return a.index() == b.index() &&
         std::visit(
             [&](const auto& x) {
               return tie(x) == tie(*std::get_if<std::decay_t<decltype(x)>>(&b));
             },
             a);
}

}  // namespace

std::string difference(const Model& a, const Model& b) {
  if (a.name != b.name) return "name";
  if (a.producer != b.producer) return "producer";
  if (a.tensors.size() != b.tensors.size()) return "number of tensors";
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const Tensor &x = a.tensors[i], &y = b.tensors[i];
    if (x.name != y.name || x.dtype != y.dtype || x.shape != y.shape ||
        x.quant.scale != y.quant.scale || x.quant.zero_point != y.quant.zero_point ||
        !same(x.data, y.data))
      return "tensor " + x.name;
  }
  if (a.nodes.size() != b.nodes.size()) return "number of nodes";
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    const Node &x = a.nodes[i], &y = b.nodes[i];
    if (x.name != y.name || x.inputs != y.inputs || x.outputs != y.outputs ||
        !same_attrs(x.attrs, y.attrs))
      return "node " + x.name;
  }
  if (a.inputs != b.inputs) return "inputs";
  if (a.outputs != b.outputs) return "outputs";
  if (tie(a.map) != tie(b.map)) return "map";
  if (!all_equal(a.map.layers, b.map.layers)) return "map layers";
  if (!all_equal(a.map.groups, b.map.groups)) return "map groups";
  if (a.has_image_preprocess != b.has_image_preprocess || tie(a.image) != tie(b.image))
    return "image";
  if (a.sequence_length != b.sequence_length) return "sequence length";
  if (a.has_text_preprocess != b.has_text_preprocess || tie(a.text) != tie(b.text)) return "text";
  if (!same(a.vocabulary, b.vocabulary)) return "vocabulary";
  if (a.labels != b.labels) return "labels";
  if (a.metadata != b.metadata) return "metadata";
  if (a.prepacked.size() != b.prepacked.size()) return "number of prepacked";
  for (size_t i = 0; i < a.prepacked.size(); ++i) {
    const Prepacked &x = a.prepacked[i], &y = b.prepacked[i];
    if (x.node != y.node || x.layout != y.layout || !same(x.data, y.data))
      return "prepacked " + x.layout;
  }
  return "";
}

}  // namespace mpq::test
