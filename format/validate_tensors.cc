#include "format/bits.h"
#include "format/validate_internal.h"

namespace mpq::format {
namespace {

constexpr size_t kMaxRank = 6;
constexpr int64_t kMaxDim = std::numeric_limits<int32_t>::max();
constexpr uint64_t kMaxElements = std::numeric_limits<int32_t>::max();

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaxName && is_clean_text(text);
}

// All names are clean and no two are equal.
template <typename Items, typename Key>
Checked check_names(const char* what, const Items& items, Key key) {
  for (size_t i = 0; i < items.size(); ++i)
    MPQ_REQUIRE(kTextName, is_name(key(items[i])), what, " ", i, ": name of ", key(items[i]).size(),
                " bytes is not 1 to ", kMaxName, " bytes of clean UTF-8");
  const std::vector<uint32_t> order =
      sorted_positions(items, [&](const auto& item) { return std::string_view(key(item)); });
  for (size_t i = 1; i < order.size(); ++i)
    MPQ_REQUIRE(kTextUnique, key(items[order[i - 1]]) != key(items[order[i]]), what, "s ",
                std::min(order[i - 1], order[i]), " and ", std::max(order[i - 1], order[i]),
                " are both named '", key(items[order[i]]), "'");
  return Ok{};
}

Checked check_tensor(Validation& v, size_t i) {
  const Tensor& t = v.model.tensors[i];
  const TensorName who{v.model, static_cast<TensorId>(i)};
  MPQ_REQUIRE(kTensorRank, !t.shape.empty() && t.shape.size() <= kMaxRank, who, ": rank ",
              t.shape.size(), " not in 1..", kMaxRank);
  for (const int64_t dim : t.shape)
    MPQ_REQUIRE(kTensorDim, dim >= 1 && dim <= kMaxDim, who, ": dimension ", dim, " not in 1..",
                kMaxDim);
  uint64_t elements = 0;
  const bool countable = checked_elements(t.shape, &elements) && elements <= kMaxElements;
  MPQ_REQUIRE(kTensorElements, countable, who, ": shape ", to_string(t.shape), " has more than ",
              kMaxElements, " elements");

  const bool scaled = is_code(t.dtype) && is_scale(t.quant.scale);
  MPQ_REQUIRE(kTensorScale, t.quant.scale == 0.0F || scaled, who, ": scale ", t.quant.scale, " of ",
              to_string(t.dtype), " is not normal, positive and at most 2^40");
  const bool in_range = scaled && !is_signed_code(t.dtype) &&
                        t.quant.zero_point >= min_code(t.dtype) &&
                        t.quant.zero_point <= max_code(t.dtype);
  MPQ_REQUIRE(kTensorZeroPoint, t.quant.zero_point == 0 || in_range, who, ": zero point ",
              t.quant.zero_point, " of ", to_string(t.dtype), " with scale ", t.quant.scale);
  if (!t.is_constant()) return Ok{};

  const uint64_t bytes = packed_bytes(elements, bits_of(t.dtype));
  MPQ_REQUIRE(kTensorBytes, t.data.size() == bytes, who, ": ", t.data.size(), " bytes, ",
              to_string(t.dtype), " ", to_string(t.shape), " has ", bytes);
  MPQ_REQUIRE(kTensorPadding, padding_is_clear(t, elements), who,
              ": bits behind the last element are not 0");
  v.constants[i] = examine(t);
  return Ok{};
}

}  // namespace

Checked check_texts(const Model& model) {
  MPQ_CHECK(check_names("tensor", model.tensors,
                        [](const Tensor& t) -> const std::string& { return t.name; }));
  MPQ_CHECK(
      check_names("node", model.nodes, [](const Node& n) -> const std::string& { return n.name; }));
  MPQ_CHECK(check_names("key", model.metadata,
                        [](const auto& kv) -> const std::string& { return kv.first; }));
  for (size_t i = 0; i < model.labels.size(); ++i)
    MPQ_REQUIRE(kTextName, is_name(model.labels[i]), "label ", i, " of ", model.labels[i].size(),
                " bytes is not 1 to ", kMaxName, " bytes of clean UTF-8");
  for (const auto& [key, value] : model.metadata)
    MPQ_REQUIRE(kTextValue, value.size() <= kMaxValue && is_clean_text(value, true), "key '", key,
                "': value of ", value.size(), " bytes is not clean UTF-8 of at most ", kMaxValue);
  const PrecisionMap& map = model.map;
  const std::pair<const char*, const std::string*> others[] = {
      {"model name", &model.name},       {"producer", &model.producer},
      {"map method", &map.method},       {"map cost model", &map.cost_model},
      {"map solver", &map.solver},       {"map checkpoint", &map.checkpoint},
      {"map source", &map.source_sha256}};
  for (const auto& [what, text] : others)
    MPQ_REQUIRE(kTextValue, text->size() <= kMaxName && is_clean_text(*text), what, " of ",
                text->size(), " bytes is not clean UTF-8 of at most ", kMaxName);
  return Ok{};
}

Checked check_tensors(Validation& v) {
  const size_t count = v.model.tensors.size();
  v.constants.resize(count);
  v.ranges.resize(count);
  for (size_t i = 0; i < count; ++i) MPQ_CHECK(check_tensor(v, i));
  return Ok{};
}

}  // namespace mpq::format
