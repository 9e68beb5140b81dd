#include "converter/eval_sequences.h"

#include <algorithm>
#include <cmath>
#include <dnnl.hpp>
#include <numbers>

#include "converter/parallel.h"

namespace mpq::convert {
namespace {

constexpr size_t kGrain = size_t{1} << 14;  // elements a thread should have to be worth its start

using Inputs = std::span<const std::span<const float>>;

Error bad_data(const std::string& what) { return {Status::kInvalidArgument, "sequences: " + what}; }

// y = x on the grid, each of the spec's equal parts of a row on its own scale.
void fake_quant(const QuantSpec& spec, size_t width, std::span<const float> x, float* y) {
  const size_t part = width / spec.scale.size();
  const auto zero = static_cast<float>(spec.zero_point);
  const float lo = static_cast<float>(spec.lo) - zero, hi = static_cast<float>(spec.hi) - zero;
  parallel_for(x.size() / part, kGrain / part + 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const float scale = spec.scale[p % spec.scale.size()];
      for (size_t i = p * part; i < (p + 1) * part; ++i)
        y[i] = std::nearbyint(std::min(std::max(x[i] / scale, lo), hi)) * scale;
    }
  });
}

// In lanes, so that the compiler can use vectors.
float dot(const float* a, const float* b, size_t count) {
  constexpr size_t kLanes = 8;
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (; i < count; ++i) lanes[0] += a[i] * b[i];
  float sum = 0.0F;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Rows of one node.
struct RowsOf {
  const Graph& graph;
  const Node& node;
  Inputs in;
  const SequenceData& data;
  const RowsOptions& options;

  using Rows = Result<std::vector<float>>;

  const Value& value(size_t i) const { return graph.values[node.inputs[i]]; }
  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != kNoValue; }
  size_t width() const { return static_cast<size_t>(graph.values[node.output].shape[1]); }

  template <typename Function>
  Rows map(Function function) const {
    std::vector<float> y(in[0].size());
    parallel_for(y.size(), kGrain, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) y[i] = function(in[0][i]);
    });
    return y;
  }

  Rows operator()(const Embedding& op) const {
    const size_t h = width();
    const std::vector<float> quantised =
        node.weight_quant ? real_weights(graph, node) : std::vector<float>();
    const float* const words = node.weight_quant ? quantised.data() : value(2).data.data();
    std::vector<float> y(data.tokens() * h);
    parallel_for(data.count(), kGrain / h + 1, [&](size_t begin, size_t end) {
      for (size_t s = begin; s < end; ++s)
        for (size_t t = data.starts[s]; t < data.starts[s + 1]; ++t) {
          const float* const word = words + static_cast<size_t>(data.ids[t]) * h;
          const float* const position =
              value(3).data.data() + (op.first_position + t - data.starts[s]) * h;
          const size_t type = data.types.empty() ? 0 : static_cast<size_t>(data.types[t]);
          const float* const type_row = has(4) ? value(4).data.data() + type * h : nullptr;
          for (size_t i = 0; i < h; ++i)
            y[t * h + i] = word[i] + position[i] + (type_row == nullptr ? 0.0F : type_row[i]);
        }
    });
    return y;
  }

  Rows operator()(const Linear&) const {
    const auto k = static_cast<size_t>(value(1).shape[1]), n = width(), rows = in[0].size() / k;
    const std::vector<float> own =
        options.weights ? std::vector<float>() : real_weights(graph, node);
    const std::vector<float>& weights = options.weights ? *options.weights : own;
    std::vector<float> y(rows * n);
    const auto extent = [](size_t size) { return static_cast<dnnl_dim_t>(size); };
    if (rows != 0 &&
        dnnl_sgemm('N', 'T', extent(rows), extent(n), extent(k), 1.0F, in[0].data(), extent(k),
                   weights.data(), extent(k), 0.0F, y.data(), extent(n)) != dnnl_success)
      return Error{Status::kInternal, node.name + ": oneDNN refuses the product"};
    const std::vector<float>* const bias = options.bias ? options.bias
                                           : has(2)     ? &value(2).data
                                                        : nullptr;
    if (bias != nullptr)
      parallel_for(rows, kGrain / n + 1, [&](size_t begin, size_t end) {
        for (size_t r = begin; r < end; ++r)
          for (size_t i = 0; i < n; ++i) y[r * n + i] += (*bias)[i];
      });
    return y;
  }

  Rows operator()(const Relu&) const {
    return map([](float v) { return std::max(v, 0.0F); });
  }
  Rows operator()(const Clip& op) const {
    return map([&](float v) { return std::min(std::max(v, op.lo), op.hi); });
  }
  Rows operator()(const Gelu& op) const {
    constexpr float kRootHalf = 0.70710678F;
    if (!op.tanh) return map([](float v) { return 0.5F * v * (1.0F + std::erf(v * kRootHalf)); });
    constexpr float kFactor = 0.79788456F;  // sqrt(2 / pi)
    return map([](float v) {
      return 0.5F * v * (1.0F + std::tanh(kFactor * (v + 0.044715F * v * v * v)));
    });
  }
  Rows operator()(const Tanh&) const {
    return map([](float v) { return std::tanh(v); });
  }
  Rows operator()(const Flatten&) const { return std::vector<float>(in[0].begin(), in[0].end()); }
  Rows operator()(const Add&) const {
    if (in[0].size() != in[1].size())
      return Error{Status::kUnsupported, node.name + ": adds tokens and sequences"};
    std::vector<float> y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = in[0][i] + in[1][i];
    return y;
  }
  Rows operator()(const FakeQuant& op) const {
    std::vector<float> y(in[0].size());
    fake_quant(op.spec, width(), in[0], y.data());
    return y;
  }

  Rows operator()(const LayerNorm& op) const {
    const size_t h = width();
    std::vector<float> y(in[0].size());
    parallel_for(y.size() / h, kGrain / h + 1, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) {
        const float* const x = in[0].data() + r * h;
        double mean = 0.0, square = 0.0;
        for (size_t i = 0; i < h; ++i) mean += x[i];
        mean /= static_cast<double>(h);
        for (size_t i = 0; i < h; ++i) square += (x[i] - mean) * (x[i] - mean);
        const double factor = 1.0 / std::sqrt(square / static_cast<double>(h) + op.epsilon);
        for (size_t i = 0; i < h; ++i)
          y[r * h + i] =
              static_cast<float>((x[i] - mean) * factor * value(1).data[i] + value(2).data[i]);
      }
    });
    return y;
  }

  // One head of one sequence at a time; scores are kept for one query.
  Rows operator()(const Attention& op) const {
    const size_t h = width(), d = h / op.heads;
    const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
    std::vector<float> y(in[0].size());
    parallel_for(data.count() * op.heads, 1, [&](size_t begin, size_t end) {
      std::vector<float> p;
      for (size_t unit = begin; unit < end; ++unit) {
        const size_t s = unit / op.heads, head = unit % op.heads, at = head * d;
        const size_t first = data.starts[s], n = data.starts[s + 1] - first;
        const float* bias = nullptr;  // of key - query = 0
        if (has(3)) {
          const auto row = static_cast<size_t>(value(3).shape[1]);
          bias = value(3).data.data() + head * row + (graph.sequence_length - 1);
        }
        p.resize(n);
        for (size_t i = 0; i < n; ++i) {
          const float* const q = in[0].data() + (first + i) * h + at;
          for (size_t j = 0; j < n; ++j) {
            const float* const k = in[1].data() + (first + j) * h + at;
            p[j] = dot(q, k, d) * factor;
            if (bias != nullptr)
              p[j] += bias[static_cast<ptrdiff_t>(j) - static_cast<ptrdiff_t>(i)];
          }
          const float top = *std::max_element(p.begin(), p.end());
          float total = 0.0F;
          for (float& v : p) total += v = std::exp(v - top);
          float* const out = y.data() + (first + i) * h + at;
          for (size_t j = 0; j < n; ++j) {
            const float* const v = in[2].data() + (first + j) * h + at;
            const float share = p[j] / total;
            for (size_t c = 0; c < d; ++c) out[c] += share * v[c];
          }
        }
      }
    });
    return y;
  }

  Rows operator()(const SequencePool& op) const {
    const size_t h = width();
    std::vector<float> y(data.count() * h);
    for (size_t s = 0; s < data.count(); ++s) {
      const size_t first = data.starts[s], n = op.mean ? data.starts[s + 1] - first : 1;
      float* const row = y.data() + s * h;
      double square = 0.0;
      for (size_t i = 0; i < h; ++i) {
        double sum = 0.0;
        for (size_t t = first; t < first + n; ++t) sum += in[0][t * h + i];
        row[i] = static_cast<float>(sum / static_cast<double>(n));
        square += double{row[i]} * double{row[i]};
      }
      if (!op.normalise) continue;
      const auto length = static_cast<float>(std::max(std::sqrt(square), 1e-12));
      for (size_t i = 0; i < h; ++i) row[i] /= length;
    }
    return y;
  }

  template <typename Other>
  Rows operator()(const Other&) const {
    return Error{Status::kUnsupported,
                 std::string(op_name(node.op)) + " '" + node.name + "' in a sequence graph"};
  }
};

Checked check_indices(std::span<const int32_t> indices, const Value& table, const char* what) {
  for (size_t t = 0; t < indices.size(); ++t)
    if (indices[t] < 0 || indices[t] >= table.shape[0])
      return bad_data(std::string(what) + " " + std::to_string(indices[t]) + " of token " +
                      std::to_string(t) + ", the table '" + table.name + "' has " +
                      std::to_string(table.shape[0]) + " rows");
  return Ok{};
}

}  // namespace

void SequenceData::add(std::span<const int32_t> sequence_ids,
                       std::span<const int32_t> sequence_types) {
  ids.insert(ids.end(), sequence_ids.begin(), sequence_ids.end());
  types.insert(types.end(), sequence_types.begin(), sequence_types.end());
  starts.push_back(static_cast<uint32_t>(ids.size()));
}

Checked check_sequences(const Graph& graph, const SequenceData& data) {
  if (data.ids.size() != data.tokens() ||
      (!data.types.empty() && data.types.size() != data.tokens()))
    return bad_data(std::to_string(data.ids.size()) + " ids and " +
                    std::to_string(data.types.size()) + " types for " +
                    std::to_string(data.tokens()) + " tokens");
  if (data.count() == 0) return bad_data("there are none");
  for (size_t s = 0; s < data.count(); ++s) {
    const int64_t length = int64_t{data.starts[s + 1]} - data.starts[s];
    if (length < 1 || length > graph.sequence_length)
      return bad_data("number " + std::to_string(s) + " has " + std::to_string(length) +
                      " tokens, the network takes 1 to " + std::to_string(graph.sequence_length));
  }
  for (const Node& node : graph.nodes) {
    if (!std::holds_alternative<Embedding>(node.op)) continue;
    MPQ_CHECK(check_indices(data.ids, graph.values[node.inputs[2]], "id"));
    if (node.inputs.size() > 4 && node.inputs[4] != kNoValue)
      MPQ_CHECK(check_indices(data.types, graph.values[node.inputs[4]], "type"));
  }
  return Ok{};
}

Result<std::vector<float>> evaluate_rows(const Graph& graph, const Node& node, Inputs inputs,
                                         const SequenceData& data, const RowsOptions& options) {
  return std::visit(RowsOf{graph, node, inputs, data, options}, node.op);
}

Result<std::vector<float>> evaluate_sequences(
    const Graph& graph, const SequenceData& data,
    const std::function<void(const Node& node, std::span<const float> output)>& observer) {
  MPQ_CHECK(check(graph));
  MPQ_CHECK(check_sequences(graph, data));
  std::map<ValueId, size_t> last_use;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    for (const ValueId id : activations(graph.nodes[i])) last_use[id] = i;
  last_use[graph.outputs[0]] = graph.nodes.size();
  std::map<ValueId, std::vector<float>> live;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    std::vector<std::span<const float>> inputs;
    if (!std::holds_alternative<Embedding>(node.op))
      for (const ValueId id : activations(node)) {
        const auto rows = live.find(id);
        if (rows == live.end())
          return Error{Status::kUnsupported, node.name + ": reads '" + graph.values[id].name +
                                                 "', which is no row of tokens"};
        inputs.emplace_back(rows->second);
      }
    MPQ_TRY(std::vector<float> rows, evaluate_rows(graph, node, inputs, data));
    if (observer) observer(node, rows);
    live[node.output] = std::move(rows);
    for (const ValueId id : activations(node))
      if (last_use[id] == i) live.erase(id);
  }
  return std::move(live.at(graph.outputs[0]));
}

}  // namespace mpq::convert
