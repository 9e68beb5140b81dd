#include "sequence_agreement.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/support/naive_model.h"

namespace mpq::convert {
namespace {

using Rows = std::vector<float>;

// Where the codes of a tensor lie in rows of one of the model, and what is added to them.
struct Codes {
  const std::vector<int64_t>* of = nullptr;
  size_t row = 0, first = 0;
  int32_t shift = 0;
  int64_t at(size_t token, size_t column) const {
    return (*of)[token * row + first + column] - shift;
  }
};

class Comparison {
 public:
  Comparison(const Graph& graph, const format::Model& model, const SequenceData& data)
      : graph_(graph), model_(model), data_(data) {
    std::vector<uint32_t> lengths;
    for (size_t s = 0; s < data.count(); ++s)
      lengths.push_back(data.starts[s + 1] - data.starts[s]);
    run_ = test::naive_run(model, data.ids, data.types, lengths);
    for (uint32_t id = 0; id < model.tensors.size(); ++id) ids_[model.tensors[id].name] = id;
    for (const Node& node : graph.nodes)
      if (std::holds_alternative<Attention>(node.op))
        for (size_t i = 0; i < 3; ++i) thirds_[node.inputs[i]] = {node.name + ".qkv", i};
  }

  SequenceAgreement run() {
    for (const Node& node : graph_.nodes) visit(node);
    for (const format::Node& node : model_.nodes)
      for (const format::TensorId id : node.outputs)
        if (found_.count(id) == 0) result_.missed.push_back(model_.tensors[id].name);
    result_.output = run_[model_.outputs[0]].reals;
    return std::move(result_);
  }

 private:
  void visit(const Node& node) {
    std::vector<std::span<const float>> inputs;
    if (!std::holds_alternative<Embedding>(node.op))
      for (const ValueId id : activations(node)) inputs.emplace_back(rows_.at(id));
    Rows own = *evaluate_rows(graph_, node, inputs, data_);
    const auto* const quant = std::get_if<FakeQuant>(&node.op);
    const auto third = thirds_.find(node.output);
    const std::string& name = graph_.values[node.output].name;
    const auto tensor = ids_.find(third == thirds_.end() ? name : third->second.first);
    if (tensor != ids_.end()) {
      found_.insert(tensor->second);
      if (quant != nullptr)
        own = compare_codes(node, quant->spec, tensor->second,
                            third == thirds_.end() ? 0 : third->second.second);
      else
        own = compare_reals(run_[tensor->second].reals, own);
    }
    rows_[node.output] = std::move(own);
  }

  Rows compare_reals(const Rows& model, const Rows& own) {
    double error = model.size() == own.size() ? 0.0 : INFINITY, largest = 1e-6;
    for (size_t i = 0; i < std::min(model.size(), own.size()); ++i) {
      error = std::max(error, std::abs(double{model[i]} - double{own[i]}));
      largest = std::max(largest, std::abs(double{own[i]}));
    }
    result_.real_error = std::max(result_.real_error, error / largest);
    return model;
  }

  // The model's codes as real numbers. third: which part of query, key and value.
  Rows compare_codes(const Node& node, const QuantSpec& spec, uint32_t tensor, size_t third) {
    const Rows& x = rows_.at(node.inputs[0]);
    const auto width = static_cast<size_t>(graph_.values[node.output].shape[1]);
    const format::Tensor& t = model_.tensors[tensor];
    const Codes codes{&run_[tensor].ints, static_cast<size_t>(t.shape[1]), third * width,
                      spec.is_signed ? 1 << (spec.bits - 1) : 0};
    Rows y(x.size());
    for (size_t s = 0, token = 0; token < x.size() / width; ++token) {
      while (data_.starts[s + 1] <= token && s + 1 < data_.count()) ++s;
      const size_t length = data_.starts[s + 1] - data_.starts[s];
      for (size_t c = 0; c < width; ++c) {
        const size_t i = token * width + c;
        const double scale = spec.scale[c * spec.scale.size() / width];
        const double position = std::clamp(x[i] / scale, double(spec.lo) - spec.zero_point,
                                           double(spec.hi) - spec.zero_point);
        const double code = static_cast<double>(codes.at(token, c) - spec.zero_point);
        ++result_.codes;
        result_.different += code == std::nearbyint(position) ? 0 : 1;
        if (!(std::abs(code - position) <= 0.5 + 1e-3 + slack(node, length, c) / scale))
          ++result_.unexplained;
        y[i] = static_cast<float>(code * scale);
      }
    }
    return y;
  }

  // What attention's own steps may change at a column.
  double slack(const Node& quant, size_t length, size_t column) const {
    const int from = producer(graph_, quant.inputs[0]);
    if (from < 0) return 0.0;
    const Node& node = graph_.nodes[static_cast<size_t>(from)];
    if (!std::holds_alternative<Attention>(node.op)) return 0.0;
    const Node& values = graph_.nodes[static_cast<size_t>(producer(graph_, node.inputs[2]))];
    const std::vector<float>& scale = std::get<FakeQuant>(values.op).spec.scale;
    const auto width = static_cast<size_t>(graph_.values[node.output].shape[1]);
    return 0.5 * static_cast<double>(length) * double{scale[column * scale.size() / width]};
  }

  const Graph& graph_;
  const format::Model& model_;
  const SequenceData& data_;
  std::vector<test::NaiveTensor> run_;
  std::map<std::string, uint32_t> ids_;
  std::map<ValueId, std::pair<std::string, size_t>> thirds_;  // of attention's merged input
  std::map<ValueId, Rows> rows_;
  std::set<uint32_t> found_;
  SequenceAgreement result_;
};

}  // namespace

SequenceAgreement compare_lowered(const Graph& graph, const format::Model& model,
                                  const SequenceData& data) {
  return Comparison(graph, model, data).run();
}

}  // namespace mpq::convert
