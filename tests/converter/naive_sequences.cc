#include "naive_sequences.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace mpq::convert {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

struct NaiveRows {
  const Graph& graph;
  const Node& node;
  std::map<ValueId, Rows>& values;
  std::span<const int32_t> ids, types;

  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != kNoValue; }
  const Rows& in(size_t i) const { return values.at(node.inputs[i]); }
  // A constant as rows; a vector is one row.
  Rows table(size_t i) const {
    const Value& value = graph.values[node.inputs[i]];
    const size_t columns = static_cast<size_t>(value.shape.back());
    Rows rows;
    for (size_t k = 0; k < value.data.size(); ++k) {
      if (k % columns == 0) rows.emplace_back();
      double v = value.data[k];
      if (node.weight_quant && i == weights_input(node)) {
        const std::vector<float>& scale = node.weight_quant->spec.scale;
        v = node.weight_quant->codes[k] * double{scale[scale.size() == 1 ? 0 : k / columns]};
      }
      rows.back().push_back(v);
    }
    return rows;
  }
  template <typename F>
  Rows map(F f) const {
    Rows rows = in(0);
    for (Row& row : rows)
      for (double& v : row) v = f(v);
    return rows;
  }

  Rows operator()(const Embedding& op) const {
    const Rows words = table(2), positions = table(3), kinds = has(4) ? table(4) : Rows();
    Rows y;
    for (size_t t = 0; t < ids.size(); ++t) {
      Row row = words[static_cast<size_t>(ids[t])];
      for (size_t c = 0; c < row.size(); ++c) {
        row[c] += positions[op.first_position + t][c];
        if (has(4)) row[c] += kinds[types.empty() ? 0 : static_cast<size_t>(types[t])][c];
      }
      y.push_back(row);
    }
    return y;
  }
  Rows operator()(const Linear&) const {
    const Rows weights = table(1);
    Rows y;
    for (const Row& x : in(0)) {
      y.emplace_back();
      for (size_t o = 0; o < weights.size(); ++o) {
        double sum = has(2) ? table(2)[0][o] : 0.0;
        for (size_t k = 0; k < x.size(); ++k) sum += x[k] * weights[o][k];
        y.back().push_back(sum);
      }
    }
    return y;
  }
  Rows operator()(const LayerNorm& op) const {
    const Row gamma = table(1)[0], beta = table(2)[0];
    Rows rows = in(0);
    for (Row& row : rows) {
      const auto size = static_cast<double>(row.size());
      double sum = 0.0, squares = 0.0;
      for (const double v : row) sum += v;
      for (const double v : row) squares += (v - sum / size) * (v - sum / size);
      for (size_t c = 0; c < row.size(); ++c)
        row[c] = (row[c] - sum / size) / std::sqrt(squares / size + double{op.epsilon}) * gamma[c] +
                 beta[c];
    }
    return rows;
  }
  Rows operator()(const Gelu& op) const {
    return map([&](double v) {
      if (!op.tanh) return v * std::erfc(-v / std::numbers::sqrt2) / 2.0;
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (v + 0.044715 * v * v * v);
      return v / (1.0 + std::exp(-2.0 * inner));
    });
  }
  Rows operator()(const Tanh&) const {
    return map([](double v) { return std::tanh(v); });
  }
  Rows operator()(const Relu&) const {
    return map([](double v) { return v > 0.0 ? v : 0.0; });
  }
  Rows operator()(const Clip& op) const {
    return map([&](double v) { return std::clamp<double>(v, op.lo, op.hi); });
  }
  Rows operator()(const Flatten&) const { return in(0); }
  Rows operator()(const Add&) const {
    Rows rows = in(0);
    for (size_t t = 0; t < rows.size(); ++t)
      for (size_t c = 0; c < rows[t].size(); ++c) rows[t][c] += in(1)[t][c];
    return rows;
  }
  Rows operator()(const Attention& op) const {
    const Rows &q = in(0), &k = in(1), &v = in(2);
    const Rows bias = has(3) ? table(3) : Rows();
    const size_t width = q[0].size(), size = width / op.heads;
    Rows y(q.size(), Row(width, 0.0));
    for (size_t i = 0; i < q.size(); ++i)
      for (size_t c = 0; c < width;
           ++c) {  // each column by itself: slow, and no offsets to mistake
        const size_t head = c / size;
        double sum = 0.0, total = 0.0;
        for (size_t j = 0; j < k.size(); ++j) {
          double score = 0.0;
          for (size_t d = head * size; d < (head + 1) * size; ++d) score += q[i][d] * k[j][d];
          score /= std::sqrt(static_cast<double>(size));
          if (has(3)) score += bias[head][graph.sequence_length - 1 + j - i];
          sum += std::exp(score) * v[j][c];
          total += std::exp(score);
        }
        y[i][c] = sum / total;
      }
    return y;
  }
  Rows operator()(const SequencePool& op) const {
    Row pooled = in(0)[0];
    for (size_t t = 1; op.mean && t < in(0).size(); ++t)
      for (size_t c = 0; c < pooled.size(); ++c) pooled[c] += in(0)[t][c];
    double squares = 0.0;
    for (double& v : pooled) {
      if (op.mean) v /= static_cast<double>(in(0).size());
      squares += v * v;
    }
    for (double& v : pooled) v /= op.normalise ? std::sqrt(squares) : 1.0;
    return {pooled};
  }
  Rows operator()(const FakeQuant& op) const {
    Rows rows = in(0);
    const std::vector<float>& scales = op.spec.scale;
    for (Row& row : rows)
      for (size_t c = 0; c < row.size(); ++c) {
        const float scale = scales[c * scales.size() / row.size()];
        const double position = std::nearbyint(static_cast<float>(row[c]) / scale);
        const double code =
            std::clamp<double>(position + op.spec.zero_point, op.spec.lo, op.spec.hi);
        row[c] = (code - op.spec.zero_point) * double{scale};
      }
    return rows;
  }
  template <typename Other>
  Rows operator()(const Other&) const {
    throw std::logic_error(node.name + ": no operator on rows");
  }
};

}  // namespace

std::map<ValueId, std::vector<double>> naive_sequence(const Graph& graph,
                                                      std::span<const int32_t> ids,
                                                      std::span<const int32_t> types) {
  std::map<ValueId, Rows> values;
  for (const Node& node : graph.nodes)
    values[node.output] = std::visit(NaiveRows{graph, node, values, ids, types}, node.op);
  std::map<ValueId, Row> flat;
  for (const auto& [id, rows] : values)
    for (const Row& row : rows) flat[id].insert(flat[id].end(), row.begin(), row.end());
  return flat;
}

}  // namespace mpq::convert
