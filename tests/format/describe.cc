#include "tests/format/describe.h"

#include <type_traits>

#include "format/sha256.h"
#include "format/text.h"

namespace mpq::test {
namespace {

using namespace format;

std::string text(const Requant& r) {
  return concat(" codes ", r.lo, "..", r.hi, " residual_scale ", r.residual_scale,
                " residual_shift ", r.residual_shift, " second ", r.second_scale, " ",
                r.second_bias, " ", r.second_lo, "..", r.second_hi) +
         (r.activation == Activation::kNone
              ? ""
              : concat(" activation ", static_cast<int>(r.activation), " ", r.activation_scale, " ",
                       r.activation_bias));
}
std::string text(const ImageQuantizeAttrs&) { return ""; }
std::string text(const QuantizeAttrs&) { return ""; }
std::string text(const Conv2dAttrs& a) {
  return concat(" stride ", a.stride_h, " ", a.stride_w, " pad ", a.pad_top, " ", a.pad_left, " ",
                a.pad_bottom, " ", a.pad_right, " dilation ", a.dilation_h, " ", a.dilation_w,
                " groups ", a.groups, text(a.requant));
}
std::string text(const LinearAttrs& a) { return text(a.requant); }
std::string text(const MaxPoolAttrs& a) {
  return concat(" kernel ", a.kernel_h, " ", a.kernel_w, " stride ", a.stride_h, " ", a.stride_w,
                " pad ", a.pad_top, " ", a.pad_left, " ", a.pad_bottom, " ", a.pad_right);
}
std::string text(const AvgPoolAttrs& a) {
  return concat(" kernel ", a.kernel_h, " ", a.kernel_w, " stride ", a.stride_h, " ", a.stride_w,
                " multiplier ", a.multiplier, " bias ", a.bias, " codes ", a.lo, "..", a.hi);
}
std::string text(const AddAttrs& a) {
  return concat(" scales ", a.scale_a, " ", a.scale_b, " bias ", a.bias, " codes ", a.lo, "..",
                a.hi, " second ", a.second_scale, " ", a.second_bias, " ", a.second_lo, "..",
                a.second_hi);
}
std::string text(const EmbeddingAttrs& a) { return concat(" offset ", a.position_offset); }
std::string text(const LayerNormAttrs& a) {
  return concat(" epsilon ", a.epsilon, " second ", a.second_scale, " ", a.second_bias, " ",
                a.second_lo, "..", a.second_hi);
}
std::string text(const AttentionAttrs& a) {
  return concat(" heads ", a.heads, " bias ", a.out_bias, " codes ", a.lo, "..", a.hi);
}
std::string text(const SequencePoolAttrs& a) {
  return concat(" mode ", static_cast<int>(a.mode), " normalise ", static_cast<int>(a.normalise));
}
std::string ids(const std::vector<TensorId>& list) {
  std::string all;
  for (const TensorId id : list) all += id == kNoTensor ? " -" : concat(" ", id);
  return all;
}

}  // namespace

std::string describe(const Model& m) {
  std::string out = concat("model '", m.name, "' by '", m.producer, "'\n");
  for (const Tensor& t : m.tensors)
    out += concat("tensor '", t.name, "' ", to_string(t.dtype), " ", to_string(t.shape), " scale ",
                  t.quant.scale, " zero ", t.quant.zero_point,
                  t.is_constant() ? " sha256 " + to_hex(sha256(t.data)) : std::string(), "\n");
  for (const Node& n : m.nodes)
    out += concat("node '", n.name, "' ", to_string(n.op()), " in", ids(n.inputs), " out",
                  ids(n.outputs), std::visit([](const auto& a) { return text(a); }, n.attrs), "\n");
  out += concat("inputs", ids(m.inputs), "\noutputs", ids(m.outputs), "\n");
  const PrecisionMap& map = m.map;
  out += concat("map '", map.method, "' '", map.cost_model, "' '", map.solver, "' '",
                map.checkpoint, "' '", map.source_sha256, "' budget ", map.budget, " value ",
                map.value, " bound ", map.bound, " seed ", map.seed, "\n");
  for (const MapLayer& l : map.layers)
    out += concat("layer '", l.node, "' bits ", l.weight_bits, " ", l.activation_bits, " group ",
                  l.group, l.part.empty() ? "" : " part '" + l.part + "'", "\n");
  for (const MapGroup& g : map.groups)
    out += concat("group gain ", g.gain, " +- ", g.gain_stderr, " cost ", g.cost_high, " ",
                  g.cost_low, " fixed ", static_cast<int>(g.fixed), "\n");
  if (m.has_image_preprocess) {
    const ImagePreprocess& i = m.image;
    out += concat("image resize ", static_cast<int>(i.resize), " shorter ", i.resize_shorter,
                  " only_small ", static_cast<int>(i.crop_only_small), " crop ", i.crop_h, " ",
                  i.crop_w, " mean ", i.mean[0], " ", i.mean[1], " ", i.mean[2], " stddev ",
                  i.stddev[0], " ", i.stddev[1], " ", i.stddev[2], "\n");
  }
  if (m.sequence_length != 0) out += concat("sequence length ", m.sequence_length, "\n");
  if (m.has_text_preprocess) {
    const TextPreprocess& t = m.text;
    out += concat("text clean ", static_cast<int>(t.clean_text), " chinese ",
                  static_cast<int>(t.split_chinese), " accents ", static_cast<int>(t.strip_accents),
                  " lower ", static_cast<int>(t.lowercase), " ids ", t.unknown, " ", t.begin, " ",
                  t.separator, " ", t.padding, " ", t.mask, " separators ", t.pair_separators,
                  " vocabulary sha256 ", to_hex(sha256(m.vocabulary)), "\n");
  }
  for (const std::string& label : m.labels) out += "label '" + label + "'\n";
  for (const auto& [key, value] : m.metadata) out += "key '" + key + "' = '" + value + "'\n";
  for (const Prepacked& p : m.prepacked)
    out += concat("prepacked ", p.node, " '", p.layout, "' sha256 ", to_hex(sha256(p.data)), "\n");
  return out;
}

}  // namespace mpq::test
