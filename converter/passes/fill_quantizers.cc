#include "converter/passes/fill_quantizers.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "converter/eval.h"
#include "converter/passes/calibrate.h"
#include "converter/passes/insert_quantizers.h"
#include "converter/passes/weights.h"
#include "converter/random.h"

namespace mpq::convert {
namespace {

constexpr int kBits = 8;

template <typename... Ops>
bool is_any(const Node& node) {
  return (std::holds_alternative<Ops>(node.op) || ...);
}

size_t elements(const Shape& shape) {
  uint64_t n = 0;
  return checked_elements(shape, &n) ? static_cast<size_t>(n) : 0;
}

// What lower() asks of each node's inputs (lower_internal.h): layers, pools and Adds read codes,
// but one operand of an Add may be the sum of a layer that nobody else reads; what lies between a
// sum and its quantisers has one reader.
class Plan {
 public:
  explicit Plan(const Graph& graph) : graph_(graph), producer_(graph.values.size(), -1) {
    readers_.resize(graph.values.size());
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      producer_[graph.nodes[i].output] = static_cast<int>(i);
      for (const ValueId value : graph.nodes[i].inputs)
        if (value != kNoValue) readers_[value].insert(static_cast<uint32_t>(i));
    }
    for (uint32_t i = 0; i < graph.nodes.size(); ++i) visit(i);
  }
  std::vector<MissingQuantizer> take() { return std::move(missing_); }

 private:
  const Node* producer(ValueId value) const {
    const int p = producer_[value];
    return p < 0 ? nullptr : &graph_.nodes[static_cast<size_t>(p)];
  }
  bool is_output(ValueId value) const {
    return std::find(graph_.outputs.begin(), graph_.outputs.end(), value) != graph_.outputs.end();
  }

  // Codes, as they are or once the Relu of codes that are never negative is gone.
  bool is_codes(ValueId value) const {
    const Node* node = producer(value);
    if (node == nullptr) return false;
    if (is_any<FakeQuant>(*node)) return true;
    if (is_any<MaxPool, Flatten>(*node))
      return filled_.count({producer_[value], 0}) > 0 || is_codes(node->inputs[0]);
    if (!is_any<Relu>(*node)) return false;
    const Node* before = producer(node->inputs[0]);
    const auto* quant = before == nullptr ? nullptr : std::get_if<FakeQuant>(&before->op);
    return quant != nullptr && quant->spec.lo >= quant->spec.zero_point;
  }

  void need(uint32_t node, uint32_t input) {
    if (is_codes(graph_.nodes[node].inputs[input])) return;
    missing_.push_back({node, input, false});
    filled_.insert({static_cast<int>(node), input});
  }

  // The position of the layer's input when an Add may take the layer's sum as it is, else -1.
  int fusable(ValueId value) const {
    const Node* node = producer(value);
    if (node == nullptr || !is_any<Conv, Linear>(*node)) return -1;
    if (readers_[value].size() != 1 || is_output(value)) return -1;
    return std::max(producer_[node->inputs[0]], 0);
  }

  // Of two sums the one whose layer comes last in its branch stays, as in quantize().
  void add(uint32_t i) {
    const Node& node = graph_.nodes[i];
    int kept = -1;
    if (node.inputs[0] != node.inputs[1]) {
      const int a = fusable(node.inputs[0]), b = fusable(node.inputs[1]);
      if (a >= 0 || b >= 0) kept = a >= b ? 0 : 1;
    }
    for (uint32_t side = 0; side < 2; ++side)
      if (static_cast<int>(side) != kept) need(i, side);
  }

  void visit(uint32_t i) {
    const Node& node = graph_.nodes[i];
    if (is_any<Conv, Linear>(node)) {
      need(i, 0);
      if (!node.weight_quant) missing_.push_back({i, 1, true});
    } else if (is_any<AvgPool>(node)) {
      need(i, 0);
    } else if (is_any<Add>(node)) {
      add(i);
    } else if (is_any<MaxPool>(node)) {
      // Quantisers behind it move in front of it; every other reader of sums would be in their way.
      bool moves = !is_output(node.output) && !readers_[node.output].empty();
      for (const uint32_t reader : readers_[node.output])
        moves = moves && !is_any<Relu, Clip, Flatten>(graph_.nodes[reader]);
      if (!moves) need(i, 0);
    } else if (is_any<Relu, Clip, Flatten>(node)) {
      const ValueId x = node.inputs[0];
      if (readers_[x].size() > 1 || (is_output(x) && producer(x) != nullptr)) need(i, 0);
    }
  }

  const Graph& graph_;
  std::vector<int> producer_;
  std::vector<std::set<uint32_t>> readers_;
  std::set<std::pair<int, uint32_t>> filled_;  // node, input
  std::vector<MissingQuantizer> missing_;
};

// What the values hold on the samples: a fixed choice of elements of every batch, or the ends only.
class Collector {
 public:
  Collector(const std::set<ValueId>& values, uint32_t count, StepRule rule) : rule_(rule) {
    constexpr size_t kSample = size_t{1} << 17;  // what choose_grid looks at
    per_image_ = std::max<size_t>(kSample / count, 1);
    for (const ValueId value : values) kept_[value];
  }

  void add(ValueId value, std::span<const float> data, uint32_t images) {
    const auto entry = kept_.find(value);
    if (entry == kept_.end() || data.empty()) return;
    std::vector<float>& kept = entry->second;
    const size_t quota = std::min(per_image_ * images, data.size());
    if (rule_ == StepRule::kMinMax) {
      const auto [least, most] = std::minmax_element(data.begin(), data.end());
      kept.insert(kept.end(), {*least, *most});
    } else if (quota == data.size()) {
      kept.insert(kept.end(), data.begin(), data.end());
    } else {
      uint64_t state = kept.size();
      for (size_t i = 0; i < quota; ++i) kept.push_back(data[next_random(&state) % data.size()]);
    }
  }
  const std::vector<float>& of(ValueId value) const { return kept_.at(value); }

 private:
  StepRule rule_;
  size_t per_image_ = 1;
  std::map<ValueId, std::vector<float>> kept_;
};

Checked collect(const Graph& graph, const CalibrationData& data, uint32_t batch_limit,
                Collector* seen) {
  const ValueId input = graph.inputs[0];
  const size_t size = elements(graph.values[input].shape);
  for (uint32_t done = 0; done < data.count;) {  // whole batches, then the rest
    const uint32_t batch = std::min(batch_limit, data.count - done);
    MPQ_TRY(Evaluator evaluator, Evaluator::create(graph, batch));
    for (; data.count - done >= batch; done += batch) {
      const auto images = data.samples.subspan(done * size, batch * size);
      seen->add(input, images, batch);
      const auto output = evaluator.run(images, [&](const Node& node, std::span<const float> y) {
        seen->add(node.output, y, batch);
        return true;
      });
      if (!output.ok()) return output.error();
    }
  }
  return Ok{};
}

void quantise_weights_of(Graph* graph, uint32_t i) {
  Node& node = graph->nodes[i];
  if (consumers(*graph, node.inputs[1]).size() > 1) {  // others may want them as they are
    Value copy = graph->values[node.inputs[1]];
    copy.name += "." + node.name;
    node.inputs[1] = graph->add_value(std::move(copy));
  }
  Value& weights = graph->values[node.inputs[1]];
  const auto channels = static_cast<size_t>(weights.shape[0]);
  QuantisedWeights quantised = quantise_weights(weights.data, channels, kBits);
  const size_t k = weights.data.size() / channels;
  for (size_t n = 0; n < weights.data.size(); ++n)
    weights.data[n] = static_cast<float>(quantised.codes[n]) * quantised.scale[n / k];
  constexpr int32_t kHalf = 1 << (kBits - 1);
  node.weight_quant = {{kBits, true, std::move(quantised.scale), 0, -kHalf, kHalf - 1},
                       std::move(quantised.codes)};
}

}  // namespace

bool has_quantizers(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return is_any<FakeQuant>(node) || node.weight_quant.has_value();
  });
}

std::vector<MissingQuantizer> missing_quantizers(const Graph& graph) { return Plan(graph).take(); }

std::string describe(const Graph& graph, const MissingQuantizer& missing) {
  const Node& node = graph.nodes[missing.node];
  const std::string who = node.name + " (" + op_name(node.op) + "): its ";
  if (missing.is_weights) return who + "weights are not quantised";
  return who + "input " + std::to_string(missing.input) + " '" +
         graph.values[node.inputs[missing.input]].name + "' is not quantised";
}

Result<std::vector<FilledTensor>> fill_quantizers(Graph* graph, const CalibrationData& calibration,
                                                  const PtqOptions& options) {
  MPQ_CHECK(check(*graph));
  const std::vector<MissingQuantizer> missing = missing_quantizers(*graph);
  std::vector<FilledTensor> filled;
  std::map<ValueId, size_t> known;  // activation -> its entry in `filled`
  std::set<ValueId> values;
  for (const MissingQuantizer& edge : missing) {
    const Node& node = graph->nodes[edge.node];
    const ValueId value = node.inputs[edge.input];
    if (edge.is_weights) {
      filled.push_back({node.name, {node.name}, true});
      continue;
    }
    if (known.emplace(value, filled.size()).second)
      filled.push_back({graph->values[value].name, {}, false});
    filled[known.at(value)].readers.push_back(node.name);
    values.insert(value);
  }
  std::map<GridKey, QuantSpec> grids;
  if (!values.empty()) {
    if (graph->inputs.size() != 1)
      return Error{Status::kUnsupported, "calibration needs one graph input"};
    const Shape& shape = graph->values[graph->inputs[0]].shape;
    if (calibration.count == 0 || calibration.samples.size() != calibration.count * elements(shape))
      return Error{Status::kInvalidArgument,
                   "calibration: " + std::to_string(calibration.samples.size()) + " numbers for " +
                       std::to_string(calibration.count) + " samples of " + to_string(shape)};
    constexpr uint32_t kBatch = 8;  // all values of a batch are in memory together
    Collector seen(values, calibration.count, options.step);
    MPQ_CHECK(collect(*graph, calibration, std::clamp(options.batch, 1U, kBatch), &seen));
    for (const ValueId value : values) {
      const std::vector<float>& x = seen.of(value);
      const QuantSpec& spec = grids[{value, kBits}] = choose_grid(x, x, kBits, options);
      FilledTensor& entry = filled[known.at(value)];
      entry.scale = spec.scale[0];
      entry.zero_point = spec.zero_point;
    }
  }
  std::vector<CodeReader> readers;
  for (const MissingQuantizer& edge : missing) {
    if (edge.is_weights)
      quantise_weights_of(graph, edge.node);
    else
      readers.push_back(
          {edge.node, edge.input, {graph->nodes[edge.node].inputs[edge.input], kBits}});
  }
  insert_quantizers(graph, grids, readers);
  return filled;
}

}  // namespace mpq::convert
