#include "converter/passes/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "converter/eval.h"
#include "converter/parallel.h"
#include "converter/passes/calibrate.h"
#include "converter/passes/insert_quantizers.h"
#include "converter/passes/linear_algebra.h"
#include "converter/passes/patches.h"
#include "converter/passes/weights.h"
#include "format/bits.h"

namespace mpq::convert {
namespace {

bool is_weighted(const Node& node) {
  return std::holds_alternative<Conv>(node.op) || std::holds_alternative<Linear>(node.op);
}

size_t elements(const Shape& shape) {
  uint64_t n = 0;
  return checked_elements(shape, &n) ? static_cast<size_t>(n) : 0;
}

// One value of all samples, in the float network and in the network quantised so far.
struct Pair {
  std::vector<float> real, quantised;
};

class Walk {
 public:
  Walk(const Graph& graph, const BitsMap& bits, const CalibrationData& data,
       const PtqOptions& options)
      : graph_(graph), bits_(bits), data_(data), options_(options) {}

  Checked run() {
    MPQ_CHECK(prepare());
    for (size_t i = 0; i < graph_.nodes.size(); ++i)  // grows: see layer_norm
      MPQ_CHECK(is_sequence() ? visit_sequence(i) : visit(i));
    finish_report();
    insert_quantizers(&graph_, grids_, readers_);
    return Ok{};
  }
  Graph take_graph() { return std::move(graph_); }
  PtqReport take_report() { return std::move(report_); }

 private:
  Error error(const Node& node, const std::string& why) const {
    return {Status::kUnsupported, node.name + " (" + op_name(node.op) + "): " + why};
  }

  Checked prepare() {
    MPQ_CHECK(check(graph_));
    MPQ_CHECK(is_sequence() ? prepare_sequences() : prepare_samples());
    for (const Node& node : graph_.nodes) {
      if (std::holds_alternative<FakeQuant>(node.op) || node.weight_quant)
        return error(node, "the graph is already quantised; lower it as it is");
      if (std::holds_alternative<BatchNorm>(node.op))
        return error(node, "not folded; run fold_bn before quantising");
      MPQ_CHECK(check_numbers(node));
      for (const ValueId value : node.inputs)
        if (value != kNoValue) ++uses_[value];
      total_ += is_weighted(node) ? 1 : 0;
    }
    for (const ValueId value : graph_.outputs) ++uses_[value];
    for (const auto& [name, bits] : bits_) {
      const auto node = std::find_if(graph_.nodes.begin(), graph_.nodes.end(),
                                     [&name = name](const Node& n) { return n.name == name; });
      if (node == graph_.nodes.end() || !is_weighted(*node))
        return Error{Status::kNotFound, "precision map: no conv or linear node '" + name + "'"};
      for (const int b : {bits.weight, bits.activation})
        if (b != 8 && b != 4 && b != 2)
          return Error{Status::kInvalidArgument, "precision map: " + name + ": " +
                                                     std::to_string(b) + " bits not in {2,4,8}"};
    }
    return check_attention_bits();
  }

  // What is no number has no code.
  Checked check_numbers(const Node& node) const {
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) continue;
      const Value& value = graph_.values[id];
      const auto bad = std::find_if_not(value.data.begin(), value.data.end(),
                                        [](float v) { return std::isfinite(v); });
      if (bad != value.data.end())
        return Error{Status::kCorrupt, node.name + " (" + op_name(node.op) + "): '" + value.name +
                                           "' is " + std::to_string(*bad) + " at " +
                                           std::to_string(bad - value.data.begin())};
    }
    return Ok{};
  }

  // Query, key and value are one layer of the model; weights of other bits there save nothing.
  Checked check_attention_bits() const {
    const auto text = [](const LayerBits& bits) {
      return std::to_string(bits.weight) + "/" + std::to_string(bits.activation);
    };
    for (const Node& node : graph_.nodes) {
      if (!std::holds_alternative<Attention>(node.op)) continue;
      const Node* first = nullptr;
      for (size_t i = 0; i < 3; ++i) {
        const int p = producer(graph_, node.inputs[i]);
        if (p < 0 || !is_weighted(graph_.nodes[static_cast<size_t>(p)])) continue;
        const Node& layer = graph_.nodes[static_cast<size_t>(p)];
        if (first == nullptr) first = &layer;
        const std::string a = text(bits_of(*first)), b = text(bits_of(layer));
        if (a != b)
          return Error{Status::kInvalidArgument, "precision map: " + layer.name + " has " + b +
                                                     " bits, but " + first->name + " " + a +
                                                     "; query, key and value need the same"};
      }
    }
    return Ok{};
  }

  bool is_sequence() const { return graph_.sequence_length != 0; }

  Checked prepare_samples() {
    if (graph_.inputs.size() != 1 || graph_.outputs.empty())
      return Error{Status::kUnsupported, "quantisation needs one graph input and an output"};
    const ValueId input = graph_.inputs[0];
    const size_t want = data_.count * elements(graph_.values[input].shape);
    if (data_.count == 0 || data_.samples.size() != want)
      return Error{Status::kInvalidArgument,
                   "calibration: " + std::to_string(data_.samples.size()) + " numbers for " +
                       std::to_string(data_.count) + " samples of " +
                       to_string(graph_.values[input].shape)};
    if (options_.batch == 0) return Error{Status::kInvalidArgument, "calibration batch is 0"};
    live_[input].real.assign(data_.samples.begin(), data_.samples.end());
    live_[input].quantised = live_[input].real;
    return Ok{};
  }

  Checked prepare_sequences() const {
    if (data_.sequences == nullptr)
      return Error{Status::kInvalidArgument, "calibration: no sequences for a network of them"};
    return check_sequences(graph_, *data_.sequences);
  }

  LayerBits bits_of(const Node& node) const {
    const auto entry = bits_.find(node.name);
    return entry == bits_.end() ? LayerBits{} : entry->second;
  }

  // The value as the node's own: moved out when nobody reads it afterwards.
  Pair consume(ValueId value) {
    if (--uses_[value] > 0) return live_.at(value);
    Pair pair = std::move(live_.at(value));
    live_.erase(value);
    return pair;
  }
  void produce(ValueId value, Pair pair) {
    if (uses_[value] > 0) live_[value] = std::move(pair);
  }

  // The grid of a value at a width: one for all its readers.
  const QuantSpec& grid(const GridKey& key, std::span<const float> row_weights = {}) {
    const auto known = grids_.find(key);
    if (known != grids_.end()) return known->second;
    const Pair& pair = live_.at(key.first);
    return grids_[key] = choose_grid(pair.quantised, pair.real, key.second, options_, row_weights);
  }

  // Of a layer whose output is added to a stream that is normalised: what an error in a token
  // counts there is its size beside the token's. A few tokens (separators) are a hundred times as
  // large as all others, and would decide alone. Empty: all rows count alike.
  std::vector<float> row_weights(const Node& node, const std::vector<float>& y) const {
    if (!is_sequence()) return {};
    const std::vector<uint32_t> add = consumers(graph_, node.output);
    if (add.size() != 1 || !std::holds_alternative<Add>(graph_.nodes[add[0]].op)) return {};
    const Node& sum = graph_.nodes[add[0]];
    const std::vector<uint32_t> next = consumers(graph_, sum.output);
    const ValueId other = sum.inputs[sum.inputs[0] == node.output ? 1 : 0];
    const auto stream = live_.find(other);
    if (next.empty() || !std::holds_alternative<LayerNorm>(graph_.nodes[next[0]].op) ||
        stream == live_.end() || stream->second.real.size() != y.size())
      return {};
    const size_t width = elements(graph_.values[node.output].shape), rows = y.size() / width;
    std::vector<float> weights(rows);
    double total = 0.0;
    for (size_t r = 0; r < rows; ++r) {
      double mean = 0.0, square = 0.0;
      for (size_t i = r * width; i < (r + 1) * width; ++i) {
        const double v = double{y[i]} + double{stream->second.real[i]};
        mean += v;
        square += v * v;
      }
      mean /= static_cast<double>(width);
      weights[r] = static_cast<float>(
          1.0 / std::max(square / static_cast<double>(width) - mean * mean, 1e-12));
      total += weights[r];
    }
    for (float& w : weights) w *= static_cast<float>(static_cast<double>(rows) / total);
    return weights;
  }

  // One node on all samples. Weights and bias, when given, replace the graph's.
  Result<std::vector<float>> evaluate(const Node& node, std::span<const float> x,
                                      const std::vector<float>* weights,
                                      const std::vector<float>* bias) {
    if (is_sequence())
      return evaluate_rows(graph_, node, {&x, 1}, *data_.sequences, {weights, bias});
    Graph single;
    single.name = node.name;
    Node copy = node;
    copy.inputs.clear();
    copy.weight_quant.reset();
    Value in = graph_.values[node.inputs[0]];
    in.data.clear();
    copy.inputs.push_back(single.add_value(in));
    single.inputs = copy.inputs;
    if (weights != nullptr) {
      Value w = graph_.values[node.inputs[1]];
      w.data = *weights;
      copy.inputs.push_back(single.add_value(std::move(w)));
    }
    if (bias != nullptr) {
      const Shape shape{static_cast<int64_t>(bias->size())};
      copy.inputs.push_back(single.add_value({node.name + ".bias", shape, *bias, true}));
    }
    copy.output = single.add_value(graph_.values[node.output]);
    single.outputs = {copy.output};
    single.nodes.push_back(std::move(copy));

    const size_t in_size = elements(in.shape),
                 out_size = elements(graph_.values[node.output].shape);
    std::vector<float> y(data_.count * out_size);
    uint32_t done = 0;
    while (done < data_.count) {  // whole batches, then the rest
      const uint32_t batch = std::min(options_.batch, data_.count - done);
      MPQ_TRY(Evaluator evaluator, Evaluator::create(single, batch));
      for (; data_.count - done >= batch; done += batch) {
        MPQ_TRY(const std::vector<float> part,
                evaluator.run(x.subspan(done * in_size, batch * in_size)));
        std::copy(part.begin(), part.end(), y.begin() + static_cast<ptrdiff_t>(done * out_size));
      }
    }
    return y;
  }

  Checked visit(size_t i) {
    Node& node = graph_.nodes[i];
    if (is_weighted(node)) return layer(i);
    if (std::holds_alternative<Add>(node.op)) return add(i);
    if (std::holds_alternative<Relu>(node.op))
      return elementwise(node, 0.0F, std::numeric_limits<float>::infinity());
    if (const auto* clip = std::get_if<Clip>(&node.op))
      return elementwise(node, clip->lo, clip->hi);
    if (std::holds_alternative<Flatten>(node.op)) {
      produce(node.output, consume(node.inputs[0]));  // NCHW: the same bytes
      return Ok{};
    }
    if (std::holds_alternative<AvgPool>(node.op)) {
      const GridKey key{node.inputs[0], options_.residual_bits};
      const QuantSpec spec = grid(key);
      readers_.push_back({i, 0, key});
      Pair x = consume(node.inputs[0]);
      apply_grid(spec, x.quantised);
      return unary(node, x);
    }
    return unary(node, consume(node.inputs[0]));  // max pool
  }

  Checked visit_sequence(size_t i) {
    const Node& node = graph_.nodes[i];
    if (node.output == smooth_) return Ok{};  // came with the node before it
    if (is_weighted(node)) return layer(i);
    if (std::holds_alternative<Embedding>(node.op)) return embedding(i);
    if (std::holds_alternative<Attention>(node.op)) return attention(i);
    if (std::holds_alternative<LayerNorm>(node.op)) return layer_norm(i);
    if (std::holds_alternative<Add>(node.op)) {
      Pair a = consume(node.inputs[0]);
      add_to(&a, consume(node.inputs[1]));
      produce(node.output, std::move(a));
      return Ok{};
    }
    return unary(node, consume(node.inputs[0]));
  }

  Checked embedding(size_t i) {
    const Node node = graph_.nodes[i];
    Pair y;
    MPQ_TRY(y.real, evaluate_rows(graph_, node, {}, *data_.sequences));
    if (options_.quantise_words) {
      constexpr int kBits = 8;
      const Value& words = graph_.values[node.inputs[2]];
      QuantisedWeights quantised =
          quantise_weights(words.data, static_cast<size_t>(words.shape[0]), kBits);
      graph_.nodes[i].weight_quant = {{kBits, true, std::move(quantised.scale), 0, -128, 127},
                                      std::move(quantised.codes)};
      own_constant(i, 2).data = real_weights(graph_, graph_.nodes[i]);
    }
    MPQ_TRY(y.quantised, evaluate_rows(graph_, graph_.nodes[i], {}, *data_.sequences));
    produce(node.output, std::move(y));
    return Ok{};
  }

  // Channels with large values would take the steps of all others. The linear layers that read a
  // normalisation get one of their own, with channel c divided by s[c], and weights for it
  // multiplied; the residual stream keeps the first. One step of the runtime computes both.
  Checked layer_norm(size_t i) {
    const Node node = graph_.nodes[i];
    Pair x = consume(node.inputs[0]);
    MPQ_CHECK(unary(node, x));
    std::vector<uint32_t> readers;
    for (const uint32_t r : consumers(graph_, node.output))
      if (std::holds_alternative<Linear>(graph_.nodes[r].op)) readers.push_back(r);
    if (readers.empty() || options_.equalise <= 0.0) return Ok{};

    const std::vector<float>& y = live_.at(node.output).real;
    const auto width = static_cast<size_t>(graph_.values[node.output].shape[1]);
    std::vector<float> peak = column_peaks(y, width), weight(width, 0.0F);
    for (const uint32_t r : readers) {
      const std::vector<float>& w = graph_.values[graph_.nodes[r].inputs[1]].data;
      for (size_t k = 0; k < w.size(); ++k)
        weight[k % width] = std::max(weight[k % width], std::abs(w[k]));
    }
    const std::vector<float> factor = balance(std::move(peak), weight);

    Value smooth = graph_.values[node.output];
    smooth.name += ".smooth";
    Node second = node;
    second.name += ".smooth";
    for (const size_t k : {1, 2}) {
      Value scaled = graph_.values[node.inputs[k]];
      scaled.name += ".smooth";
      for (size_t c = 0; c < width; ++c) scaled.data[c] /= factor[c];
      second.inputs[k] = graph_.add_value(std::move(scaled));
    }
    second.output = graph_.add_value(std::move(smooth));
    for (const uint32_t r : readers) {
      graph_.nodes[r].inputs[0] = second.output;
      Value& w = own_constant(r, 1);
      for (size_t k = 0; k < w.data.size(); ++k) w.data[k] *= factor[k % width];
    }
    smooth_ = second.output;
    const auto count = static_cast<int>(readers.size());
    uses_[second.output] = count;
    uses_[node.output] -= count;
    if (uses_[node.output] == 0) live_.erase(node.output);
    graph_.nodes.insert(graph_.nodes.begin() + static_cast<ptrdiff_t>(i) + 1, second);
    return unary(second, x);
  }

  // Factors by which activation channels are divided and weights for them multiplied: the share
  // options_.equalise of what the activations' ranges differ, the rest of what the weights' do.
  std::vector<float> balance(std::vector<float> peak, const std::vector<float>& weight) const {
    const float top = *std::max_element(peak.begin(), peak.end()),
                heavy = *std::max_element(weight.begin(), weight.end());
    if (!(top > 0.0F) || !(heavy > 0.0F)) return std::vector<float>(peak.size(), 1.0F);
    double mean_log = 0.0;
    for (size_t c = 0; c < peak.size(); ++c) {
      const double a = std::max(peak[c], top * 1e-3F), w = std::max(weight[c], heavy * 1e-3F);
      const double f = std::pow(a, options_.equalise) / std::pow(w, 1.0 - options_.equalise);
      mean_log += std::log(f);
      peak[c] = static_cast<float>(f);
    }
    const auto centre = static_cast<float>(std::exp(mean_log / static_cast<double>(peak.size())));
    for (float& f : peak) f = std::clamp(f / centre, 0.02F, 50.0F);
    return peak;
  }

  // Linear -> value of an Attention -> Linear, nobody else reading: an attention is a mean of
  // values, so channel c of them may be divided by s[c] as channels of a convolution are.
  void equalise_values(const Node& node, std::vector<float>* weights, std::vector<float>* bias,
                       std::vector<float>* real) {
    const std::vector<uint32_t> attention = consumers(graph_, node.output);
    if (attention.size() != 1 || uses_[node.output] != 1) return;
    const Node& reader = graph_.nodes[attention[0]];
    if (!std::holds_alternative<Attention>(reader.op) || reader.inputs[2] != node.output) return;
    const std::vector<uint32_t> next = consumers(graph_, reader.output);
    if (next.size() != 1 || uses_[reader.output] != 1 ||
        !std::holds_alternative<Linear>(graph_.nodes[next[0]].op))
      return;
    const size_t width = bias->size(), k = weights->size() / width;
    Value& w = own_constant(next[0], 1);
    std::vector<float> weight(width, 0.0F);
    for (size_t i = 0; i < w.data.size(); ++i)
      weight[i % width] = std::max(weight[i % width], std::abs(w.data[i]));
    const std::vector<float> factor = balance(column_peaks(*real, width), weight);
    for (size_t i = 0; i < weights->size(); ++i) (*weights)[i] /= factor[i / k];
    for (size_t c = 0; c < width; ++c) (*bias)[c] /= factor[c];
    for (size_t i = 0; i < real->size(); ++i) (*real)[i] /= factor[i % width];
    for (size_t i = 0; i < w.data.size(); ++i) w.data[i] *= factor[i % width];
  }

  Checked attention(size_t i) {
    const Node& node = graph_.nodes[i];
    const size_t heads = std::get<Attention>(node.op).heads,
                 width = elements(graph_.values[node.output].shape);
    constexpr int kBits = 8;
    Pair x[3];
    for (size_t k = 0; k < 3; ++k) {
      const GridKey key{node.inputs[k], kBits};
      const Pair& seen = live_.at(key.first);
      const QuantSpec spec = grids_[key] =
          choose_symmetric_grid(seen.quantised, seen.real, width, heads, kBits, options_);
      readers_.push_back({i, k, key});
      x[k] = consume(node.inputs[k]);
      apply_grid(spec, x[k].quantised, width);
    }
    Pair y;
    for (auto part : {&Pair::real, &Pair::quantised}) {
      const std::span<const float> inputs[] = {x[0].*part, x[1].*part, x[2].*part};
      MPQ_TRY(y.*part, evaluate_rows(graph_, node, inputs, *data_.sequences));
    }
    produce(node.output, std::move(y));
    return Ok{};
  }

  Checked unary(const Node& node, const Pair& x) {
    Pair y;
    MPQ_TRY(y.real, evaluate(node, x.real, nullptr, nullptr));
    MPQ_TRY(y.quantised, evaluate(node, x.quantised, nullptr, nullptr));
    produce(node.output, std::move(y));
    return Ok{};
  }

  Checked elementwise(const Node& node, float lo, float hi) {
    Pair x = consume(node.inputs[0]);
    for (std::vector<float>* data : {&x.real, &x.quantised})
      parallel_for(data->size(), size_t{1} << 16, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) (*data)[i] = std::min(std::max((*data)[i], lo), hi);
      });
    produce(node.output, std::move(x));
    return Ok{};
  }

  // -1, or when the value is the sum of a Conv or Linear that only this Add reads: the position of
  // the node that computes that layer's input. Such a sum can be added to without being rounded.
  int fusable(ValueId value) const {
    const int p = producer(graph_, value);
    if (p < 0 || consumers(graph_, value).size() != 1) return -1;
    const Node& node = graph_.nodes[static_cast<size_t>(p)];
    return is_weighted(node) ? std::max(producer(graph_, node.inputs[0]), 0) : -1;
  }

  // The operand whose layer comes last in the branch stays a sum; the other one is a residual.
  Checked add(size_t i) {
    const Node& node = graph_.nodes[i];
    const int depth[2] = {fusable(node.inputs[0]), fusable(node.inputs[1])};
    const int kept = depth[0] < 0 && depth[1] < 0 ? -1 : depth[0] >= depth[1] ? 0 : 1;
    QuantSpec specs[2];
    for (int side = 0; side < 2; ++side) {
      if (side == kept) continue;
      const GridKey key{node.inputs[static_cast<size_t>(side)], options_.residual_bits};
      specs[side] = grid(key);
      readers_.push_back({i, static_cast<size_t>(side), key});
    }
    Pair operands[2] = {consume(node.inputs[0]), consume(node.inputs[1])};
    for (int side = 0; side < 2; ++side)
      if (side != kept) apply_grid(specs[side], operands[side].quantised);
    add_to(&operands[0], operands[1]);
    produce(node.output, std::move(operands[0]));
    return Ok{};
  }

  static void add_to(Pair* sum, const Pair& other) {
    for (auto part : {&Pair::real, &Pair::quantised}) {
      std::vector<float>& a = sum->*part;
      const std::vector<float>& b = other.*part;
      parallel_for(a.size(), size_t{1} << 16, [&](size_t begin, size_t end) {
        for (size_t k = begin; k < end; ++k) a[k] += b[k];
      });
    }
  }

  // Conv(1) -> Relu -> Conv(2), nobody else reading: channel c of (1) divided by s[c], the weights
  // of (2) for it multiplied. The function is the same, the channels' ranges meet.
  void equalise(const Node& node, std::vector<float>* weights, std::vector<float>* bias,
                std::vector<float>* real) {
    const std::vector<uint32_t> relu = consumers(graph_, node.output);
    if (relu.size() != 1 || !std::holds_alternative<Relu>(graph_.nodes[relu[0]].op)) return;
    const std::vector<uint32_t> next = consumers(graph_, graph_.nodes[relu[0]].output);
    if (next.size() != 1 || uses_[graph_.nodes[relu[0]].output] != 1) return;
    const Node& reader = graph_.nodes[next[0]];
    const auto* conv = std::get_if<Conv>(&reader.op);
    if (conv == nullptr || conv->groups != 1 || reader.inputs[0] != graph_.nodes[relu[0]].output)
      return;

    const Shape& shape = graph_.values[node.output].shape;
    if (shape.size() != 4) return;
    const auto channels = static_cast<size_t>(shape[1]),
               plane = static_cast<size_t>(shape[2] * shape[3]);
    std::vector<float> factor = channel_peaks(*real, channels, plane, 0.999);
    const float top = *std::max_element(factor.begin(), factor.end());
    if (!(top > 0.0F)) return;
    double mean_log = 0.0;
    for (float& f : factor) {
      f = std::max(f, top * 1e-3F);
      mean_log += std::log(f);
    }
    const double centre = std::exp(mean_log / static_cast<double>(channels));
    for (float& f : factor)
      f = static_cast<float>(std::clamp(std::pow(f / centre, options_.equalise), 0.05, 20.0));

    const size_t k = weights->size() / channels;
    for (size_t i = 0; i < weights->size(); ++i) (*weights)[i] /= factor[i / k];
    for (size_t c = 0; c < channels; ++c) (*bias)[c] /= factor[c];
    parallel_for(real->size() / plane, 64, [&](size_t begin, size_t end) {
      for (size_t p = begin; p < end; ++p)
        for (size_t i = p * plane; i < (p + 1) * plane; ++i) (*real)[i] /= factor[p % channels];
    });
    Value& w = own_constant(next[0], 1);
    const size_t taps = elements(w.shape) / static_cast<size_t>(w.shape[0] * w.shape[1]);
    for (size_t i = 0; i < w.data.size(); ++i) w.data[i] *= factor[i / taps % channels];
  }

  // A constant input of a node that may be written: a copy when others read it too.
  Value& own_constant(size_t node, size_t input) {
    const ValueId id = graph_.nodes[node].inputs[input];
    if (consumers(graph_, id).size() == 1) return graph_.values[id];
    Value copy = graph_.values[id];
    copy.name += "." + graph_.nodes[node].name;
    graph_.nodes[node].inputs[input] = graph_.add_value(std::move(copy));
    return graph_.values.back();
  }

  Result<QuantisedWeights> fit_weights(const Node& node, const std::vector<float>& weights,
                                       int bits, const Pair& x,
                                       std::span<const float> row_weights) {
    const Shape& shape = graph_.values[node.inputs[1]].shape;
    const auto channels = static_cast<size_t>(shape[0]);
    if (bits == 8 || options_.rounding == WeightRounding::kNearest)
      return quantise_weights(weights, channels, bits);
    const auto* conv = std::get_if<Conv>(&node.op);
    const uint32_t groups = conv == nullptr ? 1 : conv->groups;
    const size_t k = weights.size() / channels, per_group = channels / groups;
    const size_t samples = is_sequence() ? x.real.size() / k : data_.count;
    const PatchSample sample{conv,
                             graph_.values[node.inputs[0]].shape,
                             shape,
                             graph_.values[node.output].shape,
                             samples,
                             std::max<size_t>(20000, 6 * k),
                             report_.layers.size()};
    QuantisedWeights all;
    for (uint32_t g = 0; g < groups; ++g) {
      const std::span<const float> own =
          std::span(weights).subspan(g * per_group * k, per_group * k);
      std::vector<float> inputs = take_patches(sample, x.quantised, g);
      std::vector<float> missing = take_patches(sample, x.real, g);
      for (size_t i = 0; i < missing.size(); ++i) missing[i] -= inputs[i];
      for (size_t i = 0; !row_weights.empty() && i < inputs.size(); ++i) {
        const float w = std::sqrt(row_weights[i / k]);
        inputs[i] *= w;
        missing[i] *= w;
      }
      const size_t rows = inputs.size() / k;
      const auto held_out_images = static_cast<size_t>(static_cast<double>(samples) *
                                                       std::clamp(options_.held_out, 0.0, 0.5));
      const std::vector<float> errors = product_transposed(missing, own, rows, k, per_group);
      missing = {};
      MPQ_TRY(const QuantisedWeights part,
              compensate_weights(own, per_group, bits,
                                 {inputs, errors, rows, held_out_images * (rows / samples)},
                                 {options_.damping, options_.refit}));
      all.scale.insert(all.scale.end(), part.scale.begin(), part.scale.end());
      all.codes.insert(all.codes.end(), part.codes.begin(), part.codes.end());
      all.positions.insert(all.positions.end(), part.positions.begin(), part.positions.end());
    }
    return all;
  }

  Checked layer(size_t i) {
    const Node node = graph_.nodes[i];
    const LayerBits bits = bits_of(node);
    const Shape shape = graph_.values[node.inputs[1]].shape;
    const auto channels = static_cast<size_t>(shape[0]);
    std::vector<float> weights = graph_.values[node.inputs[1]].data;
    const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
    std::vector<float> bias =
        has_bias ? graph_.values[node.inputs[2]].data : std::vector<float>(channels, 0.0F);

    LayerReport report{node.name, op_name(node.op), bits};
    Pair y;
    MPQ_TRY(y.real, evaluate(node, live_.at(node.inputs[0]).real, &weights, &bias));
    const std::vector<float> rows = row_weights(node, y.real);
    const GridKey key{node.inputs[0], bits.activation};
    const QuantSpec input_grid = grid(key, rows);
    readers_.push_back({i, 0, key});
    Pair x = consume(node.inputs[0]);
    apply_grid(input_grid, x.quantised);
    report.input_sqnr = sqnr(x.real, x.quantised);
    if (options_.equalise > 0.0) {
      equalise(node, &weights, &bias, &y.real);
      equalise_values(node, &weights, &bias, &y.real);
    }
    MPQ_TRY(QuantisedWeights quantised, fit_weights(node, weights, bits.weight, x, rows));

    WeightQuant result;
    result.spec = {bits.weight,
                   true,
                   quantised.scale,
                   0,
                   -(1 << (bits.weight - 1)),
                   (1 << (bits.weight - 1)) - 1};
    result.codes = std::move(quantised.codes);
    result.positions = std::move(quantised.positions);
    const size_t k = weights.size() / channels;
    std::vector<float> rounded(weights.size());
    for (size_t n = 0; n < rounded.size(); ++n)
      rounded[n] = static_cast<float>(result.codes[n]) * result.spec.scale[n / k];
    report.weight_sqnr = sqnr(weights, rounded);

    MPQ_TRY(y.quantised, evaluate(node, x.quantised, &rounded, &bias));
    const Shape& out = graph_.values[node.output].shape;
    const size_t plane = elements(out) / channels;
    if (options_.correction != OutputCorrection::kNone) {
      const std::vector<ChannelMoments> moments =
          channel_moments(y.real, y.quantised, channels, plane, rows);
      std::vector<ChannelFit> fits;
      for (size_t c = 0; c < channels; ++c) {
        fits.push_back(fit_channel(moments[c], options_.correction));
        result.spec.scale[c] *= fits[c].scale;
        bias[c] = bias[c] * fits[c].scale + fits[c].bias;
      }
      for (size_t n = 0; n < rounded.size(); ++n)
        rounded[n] = static_cast<float>(result.codes[n]) * result.spec.scale[n / k];
      parallel_for(y.quantised.size() / plane, 64, [&](size_t begin, size_t end) {
        for (size_t p = begin; p < end; ++p)
          for (size_t n = p * plane; n < (p + 1) * plane; ++n)
            y.quantised[n] = y.quantised[n] * fits[p % channels].scale + fits[p % channels].bias;
      });
    }
    report.output_sqnr = sqnr(y.real, y.quantised);
    report.weights = weights.size();
    report.weight_bytes = format::packed_bytes(weights.size(), bits.weight);
    report.macs = weights.size() * plane;
    report.input_step = input_grid.scale[0];
    report.input_zero_point = input_grid.zero_point;
    report_.layers.push_back(report);

    own_constant(i, 1).data = std::move(rounded);
    if (has_bias) {
      own_constant(i, 2).data = std::move(bias);
    } else {
      const ValueId id = graph_.add_value(
          {node.name + ".bias", {static_cast<int64_t>(channels)}, std::move(bias), true});
      graph_.nodes[i].inputs.resize(2);
      graph_.nodes[i].inputs.push_back(id);
    }
    graph_.nodes[i].weight_quant = std::move(result);
    produce(node.output, std::move(y));
    if (options_.progress &&
        !options_.progress(static_cast<uint32_t>(report_.layers.size()), total_, node.name))
      return Error{Status::kInvalidArgument, "stopped after " + node.name};
    return Ok{};
  }

  void finish_report() {
    const ValueId output = graph_.outputs[0];
    const Pair& y = live_.at(output);
    const size_t width = elements(graph_.values[output].shape), rows = y.real.size() / width;
    report_.output_sqnr = sqnr(y.real, y.quantised);
    size_t same = 0;
    double cosines = 0.0;
    for (size_t r = 0; r < rows; ++r) {
      const float* const a = y.real.data() + r * width;
      const float* const b = y.quantised.data() + r * width;
      same += std::max_element(a, a + width) - a == std::max_element(b, b + width) - b ? 1 : 0;
      double ab = 0.0, aa = 0.0, bb = 0.0;
      for (size_t i = 0; i < width; ++i) {
        ab += double{a[i]} * double{b[i]};
        aa += double{a[i]} * double{a[i]};
        bb += double{b[i]} * double{b[i]};
      }
      cosines += aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : 0.0;
    }
    report_.top1_agreement = static_cast<double>(same) / static_cast<double>(rows);
    report_.cosine = cosines / static_cast<double>(rows);
  }

  Graph graph_;
  const BitsMap& bits_;
  const CalibrationData& data_;
  const PtqOptions& options_;
  PtqReport report_;
  std::map<ValueId, Pair> live_;
  std::map<ValueId, int> uses_;
  std::map<GridKey, QuantSpec> grids_;
  std::vector<CodeReader> readers_;
  uint32_t total_ = 0;
  ValueId smooth_ = kNoValue;  // output of the normalisation that was added last
};

}  // namespace

BitsMap uniform_bits(const Graph& graph, int weight, int activation) {
  BitsMap bits;
  std::string first, last;
  for (const Node& node : graph.nodes) {
    if (!is_weighted(node)) continue;
    if (first.empty()) first = node.name;
    last = node.name;
    bits[node.name] = {weight, activation};
  }
  if (!first.empty()) bits[first] = bits[last] = {};
  return bits;
}

Result<PtqReport> quantize(Graph* graph, const BitsMap& bits, const CalibrationData& calibration,
                           const PtqOptions& options) {
  Walk walk(*graph, bits, calibration, options);
  MPQ_CHECK(walk.run());
  *graph = walk.take_graph();
  return walk.take_report();
}

}  // namespace mpq::convert
