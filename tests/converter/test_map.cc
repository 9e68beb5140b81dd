#include <doctest/doctest.h>

#include "converter/precision/map.h"
#include "resnet_graph.h"

using namespace mpq;
using namespace mpq::convert::precision;

namespace {

PrecisionMap sample() {
  PrecisionMap map;
  map.method = "eagl";
  map.cost_model = "bmac";
  map.solver = "pareto-dp";
  map.checkpoint = "trained";
  map.source_sha256 = "ab12";
  map.budget = 0.1 + 0.2;  // no short decimal: the text must carry every bit
  map.value = 3.25;
  map.bound = 3.5;
  map.seed = 42;
  map.layers = {
      {"conv1", 8, 8, 0}, {"block.conv1", 4, 4, 1}, {"block.down", 2, 4, 1}, {"fc", 8, 8, 2}};
  map.groups = {{0, 0, 1, 1, true}, {1.5, 0.25, 9, 4.5, false}, {0, 0, 2, 2, true}};
  return map;
}

std::string error_of(const std::string& json) {
  const auto map = parse_map(json);
  return map.ok() ? "accepted" : map.error().message;
}

}  // namespace

TEST_CASE("map: what is printed reads back the same, byte for byte") {
  const std::string text = print_map(sample());
  const auto map = parse_map(text);
  REQUIRE(map.ok());
  CHECK_EQ(map->budget, sample().budget);
  CHECK_EQ(map->seed, 42);
  CHECK_EQ(map->layers[2].weight_bits, 2);
  CHECK_EQ(map->groups[1].gain_stderr, 0.25);
  CHECK(map->groups[0].fixed);
  CHECK_EQ(print_map(*map), text);
}

TEST_CASE("map: two keys are enough") {
  const auto map = parse_map(
      R"({"schema_version": 1, "layers": [{"name": "a", "weight_bits": 4, "activation_bits": 8}]})");
  REQUIRE(map.ok());
  CHECK_EQ(map->layers[0].activation_bits, 8);
}

TEST_CASE("map: each mistake is named") {
  const auto has = [](const std::string& text, const char* part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  has(error_of("nonsense"), "is no JSON");
  has(error_of("[]"), "is no object");
  has(error_of("{}"), "'schema_version' is missing");
  has(error_of(R"({"schema_version": 2, "layers": []})"), "schema_version 2");
  has(error_of(R"({"schema_version": 1})"), "'layers' is no array");
  has(error_of(R"({"schema_version": 1, "layres": []})"),
      "unknown key 'layres', did you mean 'layers'?");
  const auto layer = [&](const std::string& row) {
    return error_of(R"({"schema_version": 1, "layers": [)" + row + "]}");
  };
  has(layer(R"({"weight_bits": 4, "activation_bits": 4})"), "'name' is missing");
  has(layer(R"({"name": "a", "weight_bits": 3, "activation_bits": 4})"),
      "a: 3 bits, expected 2, 4 or 8");
  has(layer(R"({"name": "a", "weight_bits": 4})"), "'activation_bits' is missing");
  has(layer(R"({"name": "a", "weight_bits": -4, "activation_bits": 4})"), "'weight_bits' is -4");
  has(layer(R"({"name": "a", "weight_bits": "4", "activation_bits": 4})"),
      "'weight_bits' is \"4\"");
  const std::string row = R"({"name": "a", "weight_bits": 4, "activation_bits": 4})";
  has(layer(row + "," + row), "a: appears twice");
}

TEST_CASE("map: linked layers must read one width") {
  PrecisionMap map = sample();
  map.layers[2].activation_bits = 2;
  const auto checked = validate_map(map);
  REQUIRE_FALSE(checked.ok());
  CHECK_EQ(checked.error().message,
           "precision map: block.down reads 2 bits, but block.conv1 reads the same tensor at 4");
}

TEST_CASE("map: layers are edited by name and by regular expression") {
  PrecisionMap map = sample();
  CHECK_EQ(*set_bits(&map, "fc", {4, 4}), 1);
  CHECK_EQ(*set_bits(&map, "re:block\\..*", {2, 8}), 2);
  CHECK_EQ(map.layers[1].weight_bits, 2);
  CHECK_EQ(map.layers[2].activation_bits, 8);
  CHECK_EQ(map.layers[0].weight_bits, 8);  // "conv1" is matched whole: block.conv1 is another name
  CHECK_EQ(map.method, "eagl+edited");
  const auto none = set_bits(&map, "block.donw", {4, 4});
  REQUIRE_FALSE(none.ok());
  CHECK(none.error().message.find("did you mean 'block.down'") != std::string::npos);
  CHECK_FALSE(set_bits(&map, "re:(", {4, 4}).ok());
}

TEST_CASE("map: the difference of two maps lists changed, missing and added layers") {
  PrecisionMap other = sample();
  other.layers[1].weight_bits = 2;
  other.layers[3].node = "head";
  const auto differences = diff_maps(sample(), other);
  REQUIRE_EQ(differences.size(), 3);
  CHECK_EQ(differences[0].layer + differences[0].left + differences[0].right, "block.conv142/4");
  CHECK_EQ(differences[1].layer + differences[1].left + differences[1].right, "fc8-");
  CHECK_EQ(differences[2].layer + differences[2].left + differences[2].right, "head-8");
  CHECK(diff_maps(sample(), sample()).empty());
}

TEST_CASE("map: a map fits the network completely or is refused") {
  const auto selection = Selection::of(mpq::testing::ResnetBuilder({}).build());
  REQUIRE(selection.ok());
  PrecisionMap map;
  for (const Layer& layer : selection->layers)
    map.layers.push_back({layer.name, 4, 4, layer.group});
  CHECK(validate_map(map, *selection).ok());
  PrecisionMap renamed = map;
  renamed.layers[5].node = "layer1.0.donwsample";
  CHECK(validate_map(renamed, *selection).error().message.find("did you mean") !=
        std::string::npos);
  PrecisionMap shorter = map;
  shorter.layers.pop_back();
  CHECK(validate_map(shorter, *selection).error().message.find("'fc' is missing") !=
        std::string::npos);
  PrecisionMap split = map;  // a map without groups still may not split a linked pair
  for (format::MapLayer& layer : split.layers)
    if (layer.node == "layer2.0.downsample") layer.activation_bits = 8;
  CHECK(validate_map(split, *selection).error().message.find("reads the same tensor") !=
        std::string::npos);
}
