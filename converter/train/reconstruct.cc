#include "converter/train/reconstruct.h"

#include <algorithm>
#include <map>

#include "converter/random.h"
#include "converter/train/loss.h"

namespace mpq::convert::train {
namespace {

// Nodes [begin, end) of the quantised graph, which read nothing of before but `input`.
struct Block {
  size_t begin = 0, end = 0, layers = 0;
  ValueId input = kNoValue, output = kNoValue;
};

// A block ends where everything that is read later is one value, and quantisers are all that read
// it.
std::vector<Block> blocks_of(const Graph& graph) {
  std::map<ValueId, size_t> last_use;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    for (const ValueId id : activations(graph.nodes[i])) last_use[id] = i;
  const auto only_quantised = [&](ValueId id) {
    for (const uint32_t reader : consumers(graph, id))
      if (!std::holds_alternative<FakeQuant>(graph.nodes[reader].op)) return false;
    return true;
  };
  std::vector<Block> blocks;
  Block open{0, 0, 0, graph.inputs[0], kNoValue};
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    open.layers += node.weight_quant ? 1 : 0;
    size_t live = 0;
    for (const auto& [id, last] : last_use) {
      const int from = producer(graph, id);
      live += from <= static_cast<int>(i) && last > i && id != node.output ? 1 : 0;
    }
    const bool at_end = i + 1 == graph.nodes.size();
    const bool cut = live == 0 && open.layers > 0 && only_quantised(node.output) &&
                     !std::holds_alternative<FakeQuant>(node.op);
    if (!cut && !at_end) continue;
    open.end = i + 1;
    open.output = node.output;
    blocks.push_back(open);
    open = {i + 1, 0, 0, node.output, kNoValue};
  }
  return blocks;
}

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

// Outputs of a part for all samples. count is a multiple of the batch.
Checked run_all(Tape* tape, std::span<const float> x, size_t batches, std::vector<float>* y) {
  y->clear();
  const size_t size = x.size() / batches;
  for (size_t b = 0; b < batches; ++b) {
    MPQ_CHECK(tape->forward(x.subspan(b * size, size), false));
    const std::span<const float> out = tape->data(tape->output());
    y->insert(y->end(), out.begin(), out.end());
  }
  return Ok{};
}

double relative_error(std::span<const float> y, std::span<const float> target) {
  const std::vector<float> zero(target.size());
  return squared_error(y, target, {}) / std::max(squared_error(zero, target, {}), 1e-30);
}

struct Streams {
  std::vector<float> real, quantised;  // the block's input in both networks
};

Checked train_block(Tape* tape, const Streams& x, const std::vector<float>& target, size_t count,
                    const ReconstructOptions& options, uint64_t seed) {
  Optimizer optimizer(tape, options.optimizer);
  const size_t in = x.real.size() / count, out = target.size() / count, batch = options.batch;
  std::vector<float> input(batch * in), wanted(batch * out), gradient(batch * out);
  uint64_t state = seed;
  const auto from_float = static_cast<uint64_t>(options.float_share * 256.0F);
  for (uint64_t step = 0; step < options.steps; ++step) {
    for (size_t i = 0; i < batch; ++i) {
      const size_t sample = next_random(&state) % count;
      uint64_t coins = 0;
      for (size_t k = 0; k < in; ++k) {
        coins = k % 8 == 0 ? next_random(&state) : coins >> 8;
        const std::vector<float>& side = (coins & 255) < from_float ? x.real : x.quantised;
        input[i * in + k] = side[sample * in + k];
      }
      std::copy_n(target.begin() + static_cast<ptrdiff_t>(sample * out), out,
                  wanted.begin() + static_cast<ptrdiff_t>(i * out));
    }
    MPQ_CHECK(tape->forward(input, false));
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    // The loss in units of the output's energy: one learning rate serves all blocks.
    const std::vector<float> zero(wanted.size());
    const auto energy = static_cast<float>(std::max(squared_error(zero, wanted, {}), 1e-12));
    (void)squared_error(tape->data(tape->output()), wanted, {1.0F / energy, gradient});
    const Tape::Seed loss{tape->output(), gradient};
    MPQ_CHECK(tape->backward({&loss, 1}));
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

}  // namespace

Result<std::vector<BlockReport>> reconstruct(const Graph& real, Graph* graph,
                                             std::span<const float> samples, size_t count,
                                             const ReconstructOptions& options) {
  if (graph->sequence_length != 0)
    return Error{Status::kUnsupported, "only networks of images are reconstructed block by block"};
  const size_t batches = options.batch == 0 ? 0 : count / options.batch;
  if (batches == 0)
    return Error{Status::kInvalidArgument, std::to_string(count) +
                                               " samples are fewer than a batch of " +
                                               std::to_string(options.batch)};
  const size_t used = batches * options.batch;
  Streams x;
  x.real.assign(samples.begin(),
                samples.begin() + static_cast<ptrdiff_t>(samples.size() / count * used));
  x.quantised = x.real;
  const std::vector<Block> blocks = blocks_of(*graph);
  std::vector<BlockReport> reports;
  for (const Block& block : blocks) {
    MPQ_TRY(Tape target,
            Tape::create(part_of(real, block.input, block.output), {.batch = options.batch}));
    MPQ_TRY(Tape tape,
            Tape::create(part_of(*graph, block.input, block.output), {.batch = options.batch}));
    Streams y;
    MPQ_CHECK(run_all(&target, x.real, batches, &y.real));
    MPQ_CHECK(run_all(&tape, x.quantised, batches, &y.quantised));
    BlockReport report{graph->nodes[block.end - 1].name, block.layers,
                       relative_error(y.quantised, y.real), 0.0};
    MPQ_CHECK(train_block(&tape, x, y.real, used, options, options.seed + (reports.size() << 32)));
    MPQ_CHECK(run_all(&tape, x.quantised, batches, &y.quantised));
    report.after = relative_error(y.quantised, y.real);
    // What did not help is not kept.
    if (report.after < report.before) {
      put_back(tape.graph(), graph);
    } else {
      MPQ_TRY(tape,
              Tape::create(part_of(*graph, block.input, block.output), {.batch = options.batch}));
      MPQ_CHECK(run_all(&tape, x.quantised, batches, &y.quantised));
      report.after = report.before;
    }
    x = std::move(y);
    reports.push_back(std::move(report));
    if (options.progress && !options.progress(reports.size(), blocks.size(), reports.back().last))
      return Error{Status::kBusy, "stopped after " + reports.back().last};
  }
  return reports;
}

}  // namespace mpq::convert::train
