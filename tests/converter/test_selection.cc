// Linked groups, cost totals and whole searches on the ResNets of the literature, groups of
// encoders.
#include <doctest/doctest.h>

#include <numeric>
#include <random>
#include <set>

#include "converter/precision/cost.h"
#include "converter/precision/search.h"
#include "converter/precision/selector.h"
#include "converter/precision/spec.h"
#include "encoder_graph.h"
#include "resnet_graph.h"

using namespace mpq;
using namespace mpq::convert;
using namespace mpq::convert::precision;
using mpq::testing::ResnetBuilder;
using mpq::testing::ResnetSpec;

namespace {

constexpr std::array<int, 4> kR101 = {3, 4, 23, 3};

Selection selection_of(const ResnetSpec& spec) {
  auto selection = Selection::of(ResnetBuilder(spec).build());
  REQUIRE(selection.ok());
  return *std::move(selection);
}

// All layers at `bits`, the ends at `ends`.
double total(const Selection& selection, CostModel model, int bits, int ends) {
  double sum = 0.0;
  for (const Layer& layer : selection.layers) {
    const int b = selection.groups[layer.group].fixed ? ends : bits;
    const auto cost = layer_cost(layer, {b, b}, model);
    REQUIRE(cost.ok());
    sum += *cost;
  }
  return sum;
}

Graph with_random_weights(Graph graph) {
  std::mt19937 rng(3);
  for (Value& value : graph.values) {
    uint64_t count = 0;
    if (!value.is_constant || !checked_elements(value.shape, &count)) continue;
    // Tails differ from layer to layer, so entropies do.
    std::normal_distribution<float> normal;
    const auto power = 1 + rng() % 3;
    for (uint64_t i = 0; i < count; ++i) {
      const float n = normal(rng);
      value.data.push_back(power == 1 ? n : power == 2 ? n * std::fabs(n) : n * n * n);
    }
  }
  return graph;
}

}  // namespace

TEST_CASE("groups: ResNet-50 has 48 choices among 52 convolutions, ResNet-101 99 among 103") {
  const Selection r50 = selection_of({});
  CHECK_EQ(r50.layers.size(), 54);
  CHECK_EQ(r50.selectable_layers(), 52);
  CHECK_EQ(r50.selectable_groups(), 48);
  const Selection r101 = selection_of({.blocks = kR101});
  CHECK_EQ(r101.layers.size(), 105);
  CHECK_EQ(r101.selectable_layers(), 103);
  CHECK_EQ(r101.selectable_groups(), 99);
}

TEST_CASE("groups: the links of a ResNet are conv1 and the downsample of each stage") {
  const Selection selection = selection_of({});
  int linked = 0;
  for (const Group& group : selection.groups) {
    if (group.layers.size() == 1) continue;
    REQUIRE_EQ(group.layers.size(), 2);
    ++linked;
    CHECK(selection.layers[group.layers[0]].name.ends_with(".0.conv1"));
    CHECK(selection.layers[group.layers[1]].name.ends_with(".0.downsample"));
  }
  CHECK_EQ(linked, 4);
}

TEST_CASE("groups: readers of one tensor are linked through fake quantisation and reshapes") {
  Graph graph;
  const ValueId x = graph.add_value({.name = "x", .shape = {1, 8}});
  graph.inputs = {x};
  const auto add = [&](const std::string& name, Op op, std::vector<ValueId> inputs) {
    const ValueId y = graph.add_value({.name = name + ".y", .shape = {1, 8}});
    graph.nodes.push_back(
        {.name = name, .op = std::move(op), .inputs = std::move(inputs), .output = y});
    return y;
  };
  const ValueId w = graph.add_value({.name = "w", .shape = {8, 8}, .is_constant = true});
  const ValueId q = add("q", Linear{}, {add("fq0", FakeQuant{}, {x}), w});
  add("k", Linear{}, {add("fq1", FakeQuant{}, {add("flat", Flatten{}, {x})}), w});
  add("v", Linear{}, {x, w});
  add("o", Linear{}, {add("relu", Relu{}, {q}), w});
  add("p", Linear{}, {q, w});
  const auto selection = Selection::of(graph);
  REQUIRE(selection.ok());
  std::vector<uint32_t> groups;
  for (const Layer& layer : selection->layers) groups.push_back(layer.group);
  CHECK_EQ(groups, std::vector<uint32_t>{0, 0, 0, 1, 2});  // relu makes another tensor
}

TEST_CASE("groups: of an encoder only the head, behind the last normalisation, is fixed") {
  using Head = EncoderShape::Head;
  const std::pair<Head, std::vector<std::string>> kFixed[] = {
      {Head::kHidden, {}},
      {Head::kMean, {}},
      {Head::kAnswers, {"answers"}},
      {Head::kClassifier, {"pooler", "classifier"}}};
  for (const auto& [head, names] : kFixed) {
    const auto selection = Selection::of(encoder_graph({.layers = 3, .head = head}, 1));
    REQUIRE(selection.ok());
    std::vector<std::string> fixed;
    for (const Group& group : selection->groups)
      for (const uint32_t layer : group.layers)
        if (group.fixed) fixed.push_back(selection->layers[layer].name);
    CHECK_EQ(fixed, names);
    CHECK_EQ(selection->selectable_groups(), 3 * 4);  // qkv, projection, up, down
    CHECK_EQ(selection->selectable_layers(), 3 * 6);
  }
}

TEST_CASE("groups: a layer whose shapes are unknown is named") {
  Graph graph = ResnetBuilder({}).build();
  graph.values[graph.nodes[3].output].shape.clear();
  const auto selection = Selection::of(graph);
  REQUIRE_FALSE(selection.ok());
  CHECK(selection.error().message.find(graph.nodes[3].name) != std::string::npos);
}

TEST_CASE("cost: totals of ResNets equal the published ones") {
  struct Row {
    ResnetSpec spec;
    double gmac, params, bmac4, bmac2, bops4, bops2, mb4, mb2;
  };
  const Row rows[] = {
      {{}, 4.0892, 25.503, 16.837, 8.899, 71.19, 23.56, 13.78, 7.92},
      {{.stride_in_3x3 = false}, 3.8580, 25.503, 15.912, 8.436, 67.49, 22.64, 13.78, 7.92},
      {{.blocks = kR101}, 7.8014, 44.443, 31.686, 16.323, 130.59, 38.41, 23.25, 12.65},
      {{.blocks = kR101, .stride_in_3x3 = false},
       7.5702,
       44.443,
       30.761,
       15.861,
       126.89,
       37.48,
       23.25,
       12.65},
  };
  for (const Row& row : rows) {
    const Selection selection = selection_of(row.spec);
    double macs = 0.0, weights = 0.0;
    for (const Layer& layer : selection.layers) {
      macs += static_cast<double>(layer.macs);
      weights += static_cast<double>(layer.weights);
    }
    const auto near = [](double value, double expected, double half_digit) {
      CHECK_LE(std::fabs(value - expected), half_digit * 1.02);
    };
    near(macs / 1e9, row.gmac, 5e-5);
    near(weights / 1e6, row.params, 5e-4);
    near(total(selection, CostModel::kBmac, 4, 8) / 1e9, row.bmac4, 5e-4);
    near(total(selection, CostModel::kBmac, 2, 8) / 1e9, row.bmac2, 5e-4);
    near(total(selection, CostModel::kBops, 4, 8) / 1e9, row.bops4, 5e-3);
    near(total(selection, CostModel::kBops, 2, 8) / 1e9, row.bops2, 5e-3);
    near(total(selection, CostModel::kBytes, 4, 8) / 1e6, row.mb4, 5e-3);
    near(total(selection, CostModel::kBytes, 2, 8) / 1e6, row.mb2, 5e-3);
  }
}

TEST_CASE("cost: HAWQ-V3's ResNet-50 is 3950.6, 246.9 and 67.5 GBOPs, 13.1 MiB at 4 bit") {
  const Selection v1 = selection_of({.stride_in_3x3 = false});
  CHECK_LE(std::fabs(total(v1, CostModel::kBops, 32, 32) / 1e9 - 3950.6), 0.05);
  CHECK_LE(std::fabs(total(v1, CostModel::kBops, 8, 8) / 1e9 - 246.9), 0.05);
  CHECK_LE(std::fabs(total(v1, CostModel::kBops, 4, 8) / 1e9 - 67.5), 0.05);
  CHECK_LE(std::fabs(total(v1, CostModel::kBytes, 4, 8) / 1048576 - 13.14), 0.005);
}

TEST_CASE("cost: selectable groups of a ResNet are small multiples of one unit of MACs") {
  constexpr uint64_t kUnit = 12845056;
  struct Row {
    ResnetSpec spec;
    uint64_t units;
    std::set<uint64_t> sizes;
  };
  const Row rows[] = {{{}, 309, {4, 5, 9, 16}},
                      {{.stride_in_3x3 = false}, 291, {4, 5, 9, 10}},
                      {{.blocks = kR101}, 598, {4, 5, 9, 16}},
                      {{.blocks = kR101, .stride_in_3x3 = false}, 580, {4, 5, 9, 10}}};
  for (const Row& row : rows) {
    const Selection selection = selection_of(row.spec);
    std::set<uint64_t> sizes;
    uint64_t sum = 0;
    for (const Group& group : selection.groups) {
      if (group.fixed) continue;
      uint64_t macs = 0;
      for (const uint32_t layer : group.layers) macs += selection.layers[layer].macs;
      REQUIRE_EQ(macs % kUnit, 0);
      sizes.insert(macs / kUnit);
      sum += macs / kUnit;
    }
    CHECK_EQ(sum, row.units);
    CHECK_EQ(sizes, row.sizes);
  }
}

TEST_CASE("cost: a table that lacks a layer or a precision is refused by name") {
  const auto table =
      parse_cost_table(R"({"schema_version": 1, "layers": {"a": {"4": 10, "2/4": 7}}})");
  REQUIRE(table.ok());
  const Layer a{.name = "a", .macs = 5}, b{.name = "b", .macs = 5};
  CHECK_EQ(*layer_cost(a, {4, 4}, CostModel::kLatency, *table), 10.0);
  CHECK_EQ(*layer_cost(a, {2, 4}, CostModel::kLatency, *table), 7.0);
  const auto missing = layer_cost(a, {2, 2}, CostModel::kLatency, *table);
  REQUIRE_FALSE(missing.ok());
  CHECK_EQ(missing.error().message, "a: the latency table has no entry at 2 bit");
  CHECK_FALSE(layer_cost(b, {4, 4}, CostModel::kLatency, *table).ok());
  for (const char* bad :
       {"", "[]", R"({"layers": {}})", R"({"schema_version": 1, "layers": {"a": {"3": 1}}})",
        R"({"schema_version": 1, "layers": {"a": {"4": -1}}})"})
    CHECK_FALSE(parse_cost_table(bad).ok());
}

TEST_CASE("cost: an energy per MAC serves every layer") {
  const auto table = parse_cost_table(
      R"({"schema_version": 1, "layers": {"*": {"8": 0.2, "4": 0.07, "2": 0.03}}})");
  REQUIRE(table.ok());
  CHECK_EQ(*layer_cost({.name = "x", .macs = 1000}, {4, 4}, CostModel::kEnergy, *table),
           doctest::Approx(70));
}

TEST_CASE(
    "search: EAGL at 75 % keeps within the budget, fixes the ends, links groups, and nothing fits "
    "better") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 8, .side = 64, .classes = 10}).build());
  SearchOptions options;
  options.budget = 0.75;
  const auto result = search(graph, options);
  REQUIRE(result.ok());
  const format::PrecisionMap& map = result->map;
  CHECK_EQ(map.layers.size(), 54);
  CHECK_EQ(map.layers.front().weight_bits, 8);
  CHECK_EQ(map.layers.back().activation_bits, 8);
  CHECK_EQ(map.checkpoint, "ptq");
  CHECK_EQ(map.method, "eagl");
  double cost = 0.0, all_high = 0.0;
  std::vector<int> group_bits(result->selection.groups.size(), 0);
  for (size_t i = 0; i < map.layers.size(); ++i) {
    const Layer& layer = result->selection.layers[i];
    if (result->selection.groups[layer.group].fixed) continue;
    cost += static_cast<double>(layer.macs) * map.layers[i].weight_bits;
    all_high += static_cast<double>(layer.macs) * 4;
    int& bits = group_bits[layer.group];
    CHECK((bits == 0 || bits == map.layers[i].weight_bits));
    bits = map.layers[i].weight_bits;
  }
  CHECK_LE(cost, 0.75 * all_high);
  CHECK_GT(cost, 0.70 * all_high);
  CHECK_EQ(result->cost, cost);
  CHECK_GE(map.bound, map.value);
  CHECK_EQ(result->frontier.front().budget, doctest::Approx(0.5));
  CHECK_EQ(result->frontier.back().budget, doctest::Approx(1.0));
  for (const auto& point : result->frontier)
    if (point.budget <= 0.75) CHECK_LE(point.gain, map.value);
  // No other 4-bit group fits: the solution is maximal.
  for (size_t g = 0; g < group_bits.size(); ++g)
    if (group_bits[g] == 2 && map.groups[g].gain > 0)
      CHECK_GT(cost + map.groups[g].cost_high - map.groups[g].cost_low, 0.75 * all_high);
}

TEST_CASE("search: three precisions, pins, budget forms and baselines") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 4, .side = 32, .classes = 10}).build());
  SearchOptions options;
  options.bits = {8, 4, 2};
  options.form = BudgetForm::kInterpolate;
  options.budget = 0.5;
  options.pins = {{"re:layer4\\..*", 4}, {"layer1.0.conv2", 8}};
  for (const Selector& selector : selectors()) {
    if (selector.needs != Needs::kNothing) continue;  // test_selectors.cc
    CAPTURE(selector.name);
    options.method = selector.name;
    const auto result = search(graph, options);
    REQUIRE(result.ok());
    CHECK_LE(result->cost, result->cost_low + 0.5 * (result->cost_high - result->cost_low) + 1e-6);
    for (const format::MapLayer& layer : result->map.layers) {
      if (layer.node.starts_with("layer4.")) CHECK_EQ(layer.weight_bits, 4);
      if (layer.node == "layer1.0.conv2") CHECK_EQ(layer.weight_bits, 8);
    }
    const auto again = search(graph, options);
    REQUIRE(again.ok());
    for (size_t i = 0; i < result->map.layers.size(); ++i)
      CHECK_EQ(result->map.layers[i].weight_bits, again->map.layers[i].weight_bits);
  }
}

TEST_CASE("search: first-to-last lowers the first groups, last-to-first the last ones") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 4, .side = 32, .classes = 10}).build());
  SearchOptions options;
  options.budget = 0.8;
  options.method = "first-to-last";
  const auto first = search(graph, options);
  options.method = "last-to-first";
  const auto last = search(graph, options);
  REQUIRE((first.ok() && last.ok()));
  CHECK_EQ(first->map.layers[1].weight_bits, 2);
  CHECK_EQ(first->map.layers[52].weight_bits, 4);
  CHECK_EQ(last->map.layers[1].weight_bits, 4);
  CHECK_EQ(last->map.layers[52].weight_bits, 2);
}

TEST_CASE("search: a latency budget counts measured times") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 4, .side = 32, .classes = 10}).build());
  const auto selection = Selection::of(graph);
  REQUIRE(selection.ok());
  SearchOptions options;
  options.cost = CostModel::kLatency;
  options.budget = 0.9;
  // A layer that is slower at 2 bit is never lowered: that costs time and gains nothing.
  for (const Layer& layer : selection->layers) {
    options.table[layer.name][{4, 4}] = 1000.0;
    options.table[layer.name][{2, 2}] =
        layer.name.find("conv2") != std::string::npos ? 1200.0 : 500.0;
  }
  const auto result = search(graph, options);
  REQUIRE(result.ok());
  CHECK_LE(result->cost, 0.9 * result->cost_high);
  for (const format::MapLayer& layer : result->map.layers)
    if (layer.node.find("conv2") != std::string::npos) CHECK_EQ(layer.weight_bits, 4);
  options.table.erase("layer3.0.conv3");
  const auto missing = search(graph, options);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message.find("layer3.0.conv3") != std::string::npos);
}

TEST_CASE("search: a budget below the lowest precision and an unknown method are explained") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 4, .side = 32, .classes = 10}).build());
  SearchOptions options;
  options.budget = 0.4;
  const auto low = search(graph, options);
  REQUIRE_FALSE(low.ok());
  CHECK(low.error().message.find("no selection fits") != std::string::npos);
  options.budget = 0.75;
  options.method = "eagle";
  const auto unknown = search(graph, options);
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.error().message.find("did you mean 'eagl'") != std::string::npos);
}

TEST_CASE("search: activations may have a width of their own, which bmac does not price") {
  const Graph graph =
      with_random_weights(ResnetBuilder({.width = 8, .side = 64, .classes = 10}).build());
  auto options = parse_search("eagl:budget=0.6,bits=8/4/2,cost=bytes,activations=8");
  REQUIRE(options.ok());
  const auto result = search(graph, *options);
  REQUIRE(result.ok());
  bool mixed = false;
  for (const format::MapLayer& layer : result->map.layers) {
    CHECK_EQ(layer.activation_bits, 8);
    mixed = mixed || layer.weight_bits < 8;
  }
  CHECK(mixed);
  options->cost = CostModel::kBmac;
  const auto refused = search(graph, *options);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("activations of 8 bits") != std::string::npos);
  CHECK_EQ(parse_search("eagl:activations=same")->activation_bits, 0);
  CHECK_FALSE(parse_search("eagl:activations=3").ok());
}

TEST_CASE("spec: a word states a method and its options") {
  const auto options = parse_search(
      "eagl:budget=0.6,bits=8/4/"
      "2,cost=bops,gain=difference,group=max,step=lsq,pin=re:a.*:8,seed=9");
  REQUIRE(options.ok());
  CHECK_EQ(options->method, "eagl");
  CHECK_EQ(options->budget, 0.6);
  CHECK_EQ(options->bits, std::vector<int>{8, 4, 2});
  CHECK(options->cost == CostModel::kBops);
  CHECK(options->eagl.gain == EntropyGain::kDifference);
  CHECK(options->eagl.group == GroupGain::kMax);
  CHECK(options->eagl.step == precision::StepRule::kLsq);
  CHECK_EQ(options->pins[0].first, "re:a.*");
  CHECK_EQ(options->pins[0].second, 8);
  CHECK_EQ(options->seed, 9);
  CHECK(parse_search("eagl:budget-r=0.5")->form == BudgetForm::kInterpolate);
  for (const char* bad :
       {"eagl:budget", "eagl:budget=", "eagl:budget=-1", "eagl:budget=nan", "eagl:bits=2/4",
        "eagl:bits=3", "eagl:cost=watts", "eagl:pin=a", "eagl:seed=-1", "eagl:colour=red"})
    CHECK_FALSE(parse_search(bad).ok());
}

TEST_CASE("spec: uniform maps set the ends apart and split weights from activations") {
  const Graph graph = ResnetBuilder({}).build();
  const auto result = make_map(graph, "uniform:4/8");
  REQUIRE(result.ok());
  CHECK_EQ(result->map.layers.front().weight_bits, 8);
  CHECK_EQ(result->map.layers[20].weight_bits, 4);
  CHECK_EQ(result->map.layers[20].activation_bits, 8);
  CHECK_FALSE(make_map(graph, "uniform").ok());
  CHECK_FALSE(make_map(graph, "uniform:5").ok());
}

TEST_CASE("cost: profiles of uniform models make a latency table") {
  CostTable table;
  REQUIRE(add_profile(R"({"layers": [{"name": "input", "bits": "a8>8", "time_ns": 5},
                                     {"name": "a", "bits": "w4a4>4", "time_ns": 30},
                                     {"name": "a", "bits": "w4a4>8", "time_ns": 12}]})",
                      &table)
              .ok());
  REQUIRE(
      add_profile(R"({"layers": [{"name": "a", "bits": "w2a2>2", "time_ns": 20}]})", &table).ok());
  CHECK_EQ(table.size(), 1);
  CHECK_EQ((table["a"][{4, 4}]), 42.0);  // two steps of one layer
  CHECK_EQ((table["a"][{2, 2}]), 20.0);
  CHECK_FALSE(add_profile("{}", &table).ok());
  CHECK_FALSE(add_profile(R"({"layers": [{"name": "a"}]})", &table).ok());
  CHECK_FALSE(add_profile(R"({"layers": []})", &table).ok());
}
