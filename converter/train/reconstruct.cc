#include "converter/train/reconstruct.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <type_traits>

#include "converter/half.h"
#include "converter/random.h"
#include "converter/train/blocks.h"
#include "converter/train/checkpoint.h"
#include "converter/train/loss.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::train {
namespace {

// What lies between two values, which keep their numbers.
Graph part_of(const Graph& graph, ValueId input, ValueId output) {
  Graph part;
  part.name = graph.name;
  for (const Value& value : graph.values)
    part.values.push_back({value.name, value.shape, {}, false});
  // Backwards from the output.
  std::vector<bool> needed(graph.values.size());
  needed[output] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (!needed[node->output] || node->output == input) continue;
    for (const ValueId id : node->inputs)
      if (id != kNoValue) needed[id] = true;
    part.nodes.push_back(*node);
  }
  std::reverse(part.nodes.begin(), part.nodes.end());
  for (size_t id = 0; id < graph.values.size(); ++id)
    if (needed[id] && graph.values[id].is_constant) part.values[id] = graph.values[id];
  part.inputs = {input};
  part.outputs = {output};
  return part;
}

// Values of all samples in half the memory: as bfloat16.
class Stored {
 public:
  Stored() = default;
  explicit Stored(std::span<const float> x) { append(x); }
  void append(std::span<const float> x) {
    const size_t begin = data_.size();
    data_.resize(begin + x.size());
    for (size_t i = 0; i < x.size(); ++i) data_[begin + i] = float_to_bfloat16(x[i]);
  }
  float operator[](size_t i) const { return bfloat16_to_float(data_[i]); }
  size_t size() const { return data_.size(); }
  void copy(size_t begin, std::span<float> to) const {
    for (size_t i = 0; i < to.size(); ++i) to[i] = (*this)[begin + i];
  }

 private:
  std::vector<uint16_t> data_;
};

// The outputs of a part for the first samples, multiples of the batch.
Result<Stored> run_all(const Graph& part, const TapeOptions& how, const Stored& x, size_t count,
                       size_t first) {
  MPQ_TRY(Tape tape, Tape::create(part, how));
  const size_t sample = x.size() / count;
  std::vector<float> batch(sample * how.batch);
  Stored y;
  for (size_t at = 0; at < first * sample; at += batch.size()) {
    x.copy(at, batch);
    MPQ_CHECK(tape.forward(batch, false));
    y.append(tape.data(tape.output()));
  }
  return y;
}

double relative_error(const Stored& y, const Stored& target) {
  double error = 0.0, energy = 0.0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double e = double{y[i]} - double{target[i]};
    error += e * e;
    energy += double{target[i]} * double{target[i]};
  }
  return error / std::max(energy, 1e-30);
}

struct Streams {
  Stored real, quantised;  // one value in both networks
};

// The loss is in units of the output's energy: one learning rate serves all blocks.
Checked train_block(Tape* tape, const Streams& x, const Stored& target, size_t count, size_t batch,
                    const ReconstructOptions& options, uint64_t seed) {
  Optimizer optimizer(tape, options.optimizer);
  const size_t in = x.real.size() / count, out = target.size() / count;
  std::vector<float> input(batch * in), other(in), wanted(batch * out), gradient(batch * out);
  const std::vector<float> zero(batch * out);
  uint64_t state = seed;
  std::vector<size_t> order;  // every sample once before any comes again
  for (uint64_t step = 0; step < options.steps; ++step) {
    for (size_t i = 0; i < batch; ++i) {
      if (order.empty()) order = choose(count, count, next_random(&state));
      const size_t sample = order.back();
      order.pop_back();
      const std::span<float> own = std::span(input).subspan(i * in, in);
      x.quantised.copy(sample * in, own);
      x.real.copy(sample * in, other);
      take_dropped({options.float_share, next_random(&state)}, other, own);
      target.copy(sample * out, std::span(wanted).subspan(i * out, out));
    }
    MPQ_CHECK(tape->forward(input, false, {options.drop_share, next_random(&state)}));
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    const double energy = std::max(squared_error(zero, wanted, {}), 1e-12);
    const double loss = squared_error(tape->data(tape->output()), wanted,
                                      {static_cast<float>(1.0 / energy), gradient});
    if (!std::isfinite(loss))
      return Error{Status::kInternal,
                   "step " + std::to_string(step) + ": the loss is not finite, nor the output of " +
                       tape->first_not_finite() + "; a lower learning rate may help"};
    const Tape::Seed seeds{tape->output(), gradient};
    MPQ_CHECK(tape->backward({&seeds, 1}));
    MPQ_CHECK(optimizer.step(options.schedule.at(step, options.steps)));
  }
  return Ok{};
}

// The trained part back into the network.
void put_back(const Graph& part, Graph* graph) {
  std::map<std::string, const Node*> trained;
  for (const Node& node : part.nodes) trained[node.name] = &node;
  for (Node& node : graph->nodes) {
    const auto found = trained.find(node.name);
    if (found == trained.end()) continue;
    node.op = found->second->op;
    node.weight_quant = found->second->weight_quant;
    for (const ValueId id : node.inputs)
      if (id != kNoValue && part.values[id].is_constant) graph->values[id] = part.values[id];
  }
}

// What training may change in nodes [0, end), in their order: steps, zero points, codes, constants
// that have none.
template <typename Graph, typename Visit>
void for_trained(Graph* graph, size_t end, const Visit& visit) {
  for (size_t n = 0; n < end; ++n) {
    auto& node = graph->nodes[n];
    if (auto* quant = std::get_if<FakeQuant>(&node.op)) {
      visit(quant->spec.scale);
      visit(quant->spec.zero_point);
    }
    if (node.weight_quant) {
      visit(node.weight_quant->spec.scale);
      visit(node.weight_quant->codes);
      visit(node.weight_quant->positions);
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const bool follows = node.weight_quant && i == weights_input(node);
      const ValueId id = node.inputs[i];
      if (id != kNoValue && !follows && graph->values[id].is_constant)
        visit(graph->values[id].data);
    }
  }
}

format::Digest fingerprint(const Graph& real, const Graph& graph, std::span<const float> samples,
                           const ReconstructOptions& options) {
  format::Sha256 sha;
  const auto hash = [&](const auto& data) { sha.update(std::as_bytes(std::span(data))); };
  const OptimizerOptions& o = options.optimizer;
  const Schedule& s = options.schedule;
  const double numbers[] = {double(options.batch),
                            double(options.pixels),
                            double(options.steps),
                            options.float_share,
                            options.drop_share,
                            double(options.bfloat16),
                            double(options.seed),
                            s.rate,
                            double(s.decay),
                            s.warm_up,
                            s.last,
                            double(o.method),
                            o.step_rate,
                            double(o.relative)};
  hash(numbers);
  hash(samples);
  for (const Graph* each : {&real, &graph}) {
    hash(print(*each));
    for (const Value& value : each->values) hash(value.data);
    for_trained(each, each->nodes.size(), [&](const auto& data) {
      if constexpr (std::is_same_v<decltype(data), const int32_t&>)
        hash(std::span(&data, 1));
      else
        hash(data);
    });
  }
  return sha.finish();
}

class Reconstruction {
 public:
  Reconstruction(const Graph& real, Graph* graph, const ReconstructOptions& options)
      : real_(real), graph_(graph), options_(options), blocks_(blocks_of(*graph)) {}

  Result<std::vector<BlockReport>> run(std::span<const float> samples, size_t count) {
    count_ = options_.batch == 0 ? 0 : count / options_.batch * options_.batch;
    if (count_ == 0)
      return Error{Status::kInvalidArgument, std::to_string(count) +
                                                 " samples are fewer than a batch of " +
                                                 std::to_string(options_.batch)};
    samples = samples.first(samples.size() / count * count_);
    draw_positions(options_.seed, graph_);
    if (!options_.checkpoint.empty()) MPQ_CHECK(resume(samples));
    x_.real = x_.quantised = Stored(samples);
    for (size_t b = 0; b < blocks_.size(); ++b) MPQ_CHECK(pass(b));
    return reports_;
  }

 private:
  // A divisor of the batch.
  uint32_t batch_of(const Block& block) const {
    constexpr uint32_t kFewest = 4;
    const Shape& shape = graph_->values[block.input].shape;
    const int64_t pixels = shape.size() == 4 ? shape[2] * shape[3] : 1;
    uint32_t batch = options_.batch;
    while (batch % 2 == 0 && batch > kFewest && batch * pixels > options_.pixels) batch /= 2;
    return batch;
  }

  // Moves both streams behind the block, which is trained when no checkpoint had it.
  Checked pass(size_t b) {
    const Block& block = blocks_[b];
    const TapeOptions how{.batch = batch_of(block), .bfloat16 = options_.bfloat16};
    MPQ_TRY(const ValueId input, real_value(real_, *graph_, block.input));
    MPQ_TRY(const ValueId output, real_value(real_, *graph_, block.output));
    Streams y;
    MPQ_TRY(y.real, run_all(part_of(real_, input, output), how, x_.real, count_, count_));
    const bool known = b < reports_.size();
    if (!known) MPQ_CHECK(train(block, how, y.real));
    MPQ_TRY(y.quantised, run_all(part_of(*graph_, block.input, block.output), how, x_.quantised,
                                 count_, count_));
    x_ = std::move(y);
    if (known) return Ok{};
    if (!options_.checkpoint.empty()) MPQ_CHECK(save());
    if (options_.progress && !options_.progress(reports_.size(), blocks_.size(), reports_.back()))
      return Error{Status::kBusy, "stopped after " + reports_.back().last};
    return Ok{};
  }

  Checked train(const Block& block, const TapeOptions& how, const Stored& target) {
    constexpr size_t kJudged = 128;
    const size_t judged = std::min(count_, std::max<size_t>(kJudged / how.batch, 1) * how.batch);
    const Graph before = part_of(*graph_, block.input, block.output);
    BlockReport report{graph_->nodes[block.end - 1].name, block.layers};
    MPQ_TRY(report.before, error_of(before, how, target, judged));
    Graph part = before;
    start_within(options_.seed, &part);
    MPQ_TRY(Tape tape, Tape::create(std::move(part), how));
    const uint64_t seed = options_.seed + (uint64_t{reports_.size()} << 32);
    MPQ_CHECK(train_block(&tape, x_, target, count_, how.batch, options_, seed));
    const Graph trained = tape.graph();
    MPQ_TRY(report.after, error_of(trained, how, target, judged));
    // What did not help is not kept.
    if (report.after < report.before) put_back(trained, graph_);
    report.after = std::min(report.after, report.before);
    reports_.push_back(std::move(report));
    return Ok{};
  }

  // Of the first samples.
  Result<double> error_of(const Graph& part, const TapeOptions& how, const Stored& target,
                          size_t samples) const {
    MPQ_TRY(const Stored y, run_all(part, how, x_.quantised, count_, samples));
    return relative_error(y, target);
  }

  Checked resume(std::span<const float> samples) {
    run_ = fingerprint(real_, *graph_, samples, options_);
    MPQ_TRY(const std::optional<Snapshot> found, read_checkpoint_of(options_.checkpoint, run_));
    if (!found) return Ok{};
    if (found->numbers.size() != 2 * found->step || found->step > blocks_.size())
      return Error{Status::kCorrupt, options_.checkpoint + ": of another network"};
    size_t next = 0;
    bool fits = true;
    const size_t end = found->step == 0 ? 0 : blocks_[found->step - 1].end;
    for_trained(graph_, end, [&](auto& data) {
      fits = fits && next < found->tensors.size() && assign(found->tensors[next++], &data);
    });
    for (size_t n = 0; fits && n < end; ++n)
      if (const Node& node = graph_->nodes[n]; node.weight_quant)
        graph_->values[node.inputs[weights_input(node)]].data = real_weights(*graph_, node);
    if (!fits) return Error{Status::kCorrupt, options_.checkpoint + ": of another network"};
    for (size_t b = 0; b < found->step; ++b)
      reports_.push_back({graph_->nodes[blocks_[b].end - 1].name, blocks_[b].layers,
                          found->numbers[2 * b], found->numbers[2 * b + 1]});
    return Ok{};
  }

  template <typename T>
  static bool assign(std::span<const float> from, std::vector<T>* to) {
    if (from.size() != to->size()) return false;
    std::transform(from.begin(), from.end(), to->begin(),
                   [](float v) { return static_cast<T>(v); });
    return true;
  }
  static bool assign(std::span<const float> from, int32_t* to) {
    if (from.size() != 1) return false;
    *to = static_cast<int32_t>(from[0]);
    return true;
  }

  Checked save() {
    Snapshot checkpoint{run_, reports_.size(), {}, {}};
    for (const BlockReport& report : reports_)
      checkpoint.numbers.insert(checkpoint.numbers.end(), {report.before, report.after});
    for_trained(graph_, blocks_[reports_.size() - 1].end, [&](const auto& data) {
      if constexpr (std::is_same_v<decltype(data), const int32_t&>)
        checkpoint.tensors.push_back({static_cast<float>(data)});
      else
        checkpoint.tensors.emplace_back(data.begin(), data.end());
    });
    return write_checkpoint(options_.checkpoint, checkpoint);
  }

  const Graph& real_;
  Graph* graph_;
  const ReconstructOptions& options_;
  std::vector<Block> blocks_;
  size_t count_ = 0;  // samples
  Streams x_;         // what the next block reads
  std::vector<BlockReport> reports_;
  format::Digest run_ = {};
};

}  // namespace

Result<std::vector<BlockReport>> reconstruct(const Graph& real, Graph* graph,
                                             std::span<const float> samples, size_t count,
                                             const ReconstructOptions& options) {
  if (graph->sequence_length != 0)
    return Error{Status::kUnsupported, "only networks of images are reconstructed block by block"};
  return Reconstruction(real, graph, options).run(samples, count);
}

}  // namespace mpq::convert::train
