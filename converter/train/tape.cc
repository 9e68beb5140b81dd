#include "converter/train/tape.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>

#include "converter/train/loops.h"
#include "converter/train/lsq.h"
#include "converter/train/rounded_product.h"
#include "converter/train/step.h"

namespace mpq::convert::train {
namespace {

constexpr float kSmallestStep = 1e-6F;
constexpr size_t kMaxInputs = 5;

// In the order of the Op variant; what the constants at each input are.
struct OpRow {
  Step (*make)(const StepContext&);
  std::array<Role, kMaxInputs> roles = {};
  std::array<const char*, kMaxInputs> names = {};
};
using enum Role;
constexpr OpRow kOps[] = {
    {make_conv, {kState, kWeight, kBias}, {"", "weight", "bias"}},
    {make_linear, {kState, kWeight, kBias}, {"", "weight", "bias"}},
    {make_batch_norm,
     {kState, kNorm, kNorm, kState, kState},
     {"", "gamma", "beta", "mean", "variance"}},
    {make_relu},
    {make_clip},
    {make_add},
    {make_max_pool},
    {make_avg_pool},
    {make_flatten},
    {make_fake_quant, {kState, kStep, kOffset}, {"", "step", "offset"}},
    {make_embedding,
     {kState, kState, kWeight, kWeight, kWeight},
     {"", "", "words", "positions", "types"}},
    {make_layer_norm, {kState, kNorm, kNorm}, {"", "gamma", "beta"}},
    {make_gelu},
    {make_tanh},
    {make_attention, {kState, kState, kState, kBias}, {"", "", "", "bias"}},
    {make_sequence_pool},
};
static_assert(std::size(kOps) == std::variant_size_v<Op>, "one row per operator");

size_t elements(const Shape& shape) {
  uint64_t n = 0;
  return checked_elements(shape, &n) ? static_cast<size_t>(n) : 0;
}

// A value on the tape. Constants live in the graph; ids of tokens are in the run's sequences.
struct Slot {
  std::vector<float> data, gradient;
  bool is_ids = false, per_sequence = false;
  bool wanted = false;   // a gradient
  bool written = false;  // in this backward run
  bool kept = false;     // its gradient outlives the backward run
};

struct Recorded {
  Node node;
  Step step;
};

// Buffers of one step, oneDNN's among them, are reused in the next: pages that go back to the
// system come again as zeros that it writes: 44 % of the samples of a run of 11 steps.
void keep_pages() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

Error onednn_error(const dnnl::error& error) {
  return {Status::kInternal, std::string("oneDNN: ") + error.what()};
}

}  // namespace

struct Tape::Impl {
  Graph graph;  // its nodes as given; constants are the parameters
  TapeOptions options;
  Engine engine;
  std::vector<Slot> slots;  // by value
  std::vector<Recorded> records;
  std::vector<Parameter> parameters;
  std::vector<std::vector<float>> spare;  // gradients of activations that nobody needs any more
  Run run;

  // What a node of the graph has learned steps in: its weights, or what it quantises.
  struct Quantisers {
    ValueId step = kNoValue, offset = kNoValue;
  };
  std::vector<Quantisers> quantisers;  // by node of the graph
  size_t given_values = 0;             // of the graph, before those of steps

  bool is_sequence() const { return graph.sequence_length != 0; }

  Extent extent(ValueId id) const {
    const Shape& shape = graph.values[id].shape;
    const auto dim = [&](size_t i) { return static_cast<size_t>(shape[i]); };
    if (shape.size() == 4) return {options.batch * dim(0), dim(2), dim(3), dim(1)};
    return {options.batch * dim(0), 1, 1, shape.size() > 1 ? dim(1) : 1};
  }
  size_t run_elements(ValueId id) const {
    if (!is_sequence()) return extent(id).elements();
    const size_t rows = slots[id].per_sequence ? run.sequences->count() : run.sequences->tokens();
    return rows * static_cast<size_t>(graph.values[id].shape[1]);
  }
  std::span<float> data(ValueId id) {
    if (id == kNoValue) return {};
    return graph.values[id].is_constant ? std::span<float>(graph.values[id].data)
                                        : std::span<float>(slots[id].data);
  }

  ValueId add_value(Value value) {
    slots.emplace_back();
    return graph.add_value(std::move(value));
  }
  ValueId add_vector(const std::string& name, std::vector<float> data) {
    const Shape shape{static_cast<int64_t>(data.size())};
    return add_value({name, shape, std::move(data), true});
  }

  Checked build();
  Checked check_node(const Node& node) const;
  void keep_gains_positive();
  void record(Node node, int bits, bool trained);
  void add_parameters(const Node& node, int bits, bool trained);
  Checked forward();
  Checked backward(std::span<const Seed> seeds);
  Sink sink_for(ValueId id);
  void release(ValueId id);
};

Checked Tape::Impl::check_node(const Node& node) const {
  const std::vector<ValueId> read = activations(node);
  for (size_t i = 0; i < read.size(); ++i) {
    if (graph.values[read[i]].is_constant)
      return Error{Status::kUnsupported, node.name + ": reads the constant '" +
                                             graph.values[read[i]].name + "' as activation"};
    const bool twice = std::find(read.begin(), read.begin() + static_cast<ptrdiff_t>(i), read[i]) !=
                       read.begin() + static_cast<ptrdiff_t>(i);
    if (twice && !std::holds_alternative<Add>(node.op))
      return Error{Status::kUnsupported,
                   node.name + ": reads '" + graph.values[read[i]].name + "' twice"};
  }
  const bool images_only =
      std::holds_alternative<Conv>(node.op) || std::holds_alternative<BatchNorm>(node.op) ||
      std::holds_alternative<MaxPool>(node.op) || std::holds_alternative<AvgPool>(node.op);
  if (images_only && is_sequence())
    return Error{Status::kUnsupported,
                 node.name + " (" + op_name(node.op) + "): in a network of sequences"};
  return Ok{};
}

void Tape::Impl::add_parameters(const Node& node, int bits, bool trained) {
  const OpRow& row = kOps[node.op.index()];
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id == kNoValue || !graph.values[id].is_constant) continue;
    const auto known = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const Parameter& p) { return p.value == id; });
    if (known != parameters.end()) continue;  // shared: named by its first reader
    Parameter parameter{node.name + "." + row.names[i], row.roles[i], id};
    const bool on_codes = std::holds_alternative<FakeQuant>(node.op);
    if (on_codes && i == 0) {  // weights: named by their quantiser
      parameter.name = node.name;
      parameter.role = kWeight;
      parameter.step = node.inputs[1];
    }
    if (on_codes) parameter.bits = bits;
    if (parameter.role == kStep) parameter.minimum = kSmallestStep;
    parameter.trained = trained && parameter.role != kState;
    slots[id].wanted = parameter.trained;
    parameters.push_back(std::move(parameter));
  }
}

void Tape::Impl::record(Node node, int bits, bool trained) {
  add_parameters(node, bits, trained);
  Slot& out = slots[node.output];
  for (const ValueId id : node.inputs)
    out.wanted = out.wanted || (id != kNoValue && slots[id].wanted);
  out.per_sequence =
      std::holds_alternative<SequencePool>(node.op) ||
      (!std::holds_alternative<Embedding>(node.op) && slots[node.inputs[0]].per_sequence);
  const StepContext context{graph, node, engine, extent(node.inputs[0]), extent(node.output)};
  Step step = kOps[node.op.index()].make(context);
  records.push_back({std::move(node), std::move(step)});
}

Checked Tape::Impl::build() {
  MPQ_CHECK(check(graph));
  if (graph.outputs.empty()) return Error{Status::kInvalidArgument, "the graph has no output"};
  if (!is_sequence() && graph.inputs.size() != 1)
    return Error{Status::kUnsupported, "training needs exactly one graph input"};
  if (options.batch == 0) return Error{Status::kInvalidArgument, "the batch is 0"};
  given_values = graph.values.size();
  slots.resize(given_values);
  quantisers.resize(graph.nodes.size());
  for (const ValueId id : graph.inputs) {
    slots[id].is_ids = is_sequence();
    slots[id].wanted = !is_sequence() && options.input_gradient;
  }
  for (const ValueId id : options.kept_gradients) slots[id].kept = true;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node node = graph.nodes[i];
    MPQ_CHECK(check_node(node));
    Quantisers& own = quantisers[i];
    int bits = 32;
    bool trained = !options.fixed_words || !std::holds_alternative<Embedding>(node.op);
    if (const auto* quant = std::get_if<FakeQuant>(&node.op)) {
      const QuantSpec& spec = quant->spec;
      bits = spec.bits;
      own.step = add_vector(node.name + ".step", spec.scale);
      node.inputs.push_back(own.step);
      if (spec.zero_point != 0 && spec.scale.size() == 1) {
        const float zero = static_cast<float>(spec.zero_point);
        own.offset = add_vector(node.name + ".offset", {-zero * spec.scale[0]});
        node.inputs.push_back(own.offset);
      }
    }
    if (node.weight_quant && std::holds_alternative<Embedding>(node.op)) {
      // A table of words is far larger than what a batch reads of it: its codes stay.
      graph.values[node.inputs[weights_input(node)]].data = real_weights(graph, node);
      trained = false;
    } else if (node.weight_quant) {
      const QuantSpec spec = node.weight_quant->spec;
      ValueId& weights = node.inputs[weights_input(node)];
      Value rounded = graph.values[weights];
      rounded.is_constant = false;
      rounded.data.clear();
      own.step = add_vector(node.name + ".weight.step", spec.scale);
      Node quantiser{node.name + ".weight", FakeQuant{spec}, {weights, own.step}};
      weights = quantiser.output = add_value(std::move(rounded));
      slots[weights].data.resize(elements(graph.values[weights].shape));
      record(std::move(quantiser), spec.bits, true);
    }
    record(std::move(node), bits, trained);
  }
  keep_gains_positive();
  return Ok{};
}

// Batch norm behind weights with codes is folded into their scales.
void Tape::Impl::keep_gains_positive() {
  for (const Node& node : graph.nodes) {
    if (!std::holds_alternative<BatchNorm>(node.op)) continue;
    const int before = producer(graph, node.inputs[0]);
    if (before < 0 || !graph.nodes[static_cast<size_t>(before)].weight_quant) continue;
    for (Parameter& parameter : parameters)
      if (parameter.value == node.inputs[1]) parameter.minimum = 0.0F;
  }
}

Checked Tape::Impl::forward() {
  std::vector<std::span<float>> in;
  for (Recorded& record : records) {
    in.clear();
    for (const ValueId id : record.node.inputs) in.push_back(data(id));
    Slot& out = slots[record.node.output];
    if (!graph.values[record.node.inputs[0]].is_constant)
      out.data.resize(run_elements(record.node.output));
    record.step.forward(in, out.data, run);
  }
  return Ok{};
}

// The place for one more gradient of a value.
Sink Tape::Impl::sink_for(ValueId id) {
  if (id == kNoValue || !slots[id].wanted) return {};
  Slot& slot = slots[id];
  if (!slot.written && slot.gradient.empty() && !spare.empty()) {
    slot.gradient = std::move(spare.back());
    spare.pop_back();
  }
  slot.gradient.resize(data(id).size());
  const Sink sink{slot.gradient, slot.written};
  slot.written = true;
  return sink;
}

void Tape::Impl::release(ValueId id) {
  if (slots[id].kept) return;
  if (!slots[id].gradient.empty()) spare.push_back(std::move(slots[id].gradient));
  slots[id].gradient = {};
}

Checked Tape::Impl::backward(std::span<const Seed> seeds) {
  for (Slot& slot : slots) slot.written = false;
  for (const Seed& seed : seeds) {
    const Sink sink = sink_for(seed.value);
    if (sink.grad.size() != seed.gradient.size())
      return Error{Status::kInvalidArgument,
                   "a gradient of " + std::to_string(seed.gradient.size()) + " numbers for '" +
                       graph.values[seed.value].name + "', which has " +
                       std::to_string(sink.grad.size()) + " that depend on a parameter"};
    give(sink, [&](size_t i) { return seed.gradient[i]; });
  }
  std::vector<std::span<float>> in;
  std::vector<Sink> sinks;
  for (auto record = records.rbegin(); record != records.rend(); ++record) {
    const Node& node = record->node;
    Slot& out = slots[node.output];
    if (!out.written) continue;  // the loss does not depend on it
    in.clear();
    sinks.clear();
    for (const ValueId id : node.inputs) {
      in.push_back(data(id));
      sinks.push_back(sink_for(id));
    }
    record->step.backward(in, out.data, out.gradient, sinks, run);
    release(node.output);
  }
  for (const Parameter& parameter : parameters) {
    Slot& slot = slots[parameter.value];
    if (slot.wanted && !slot.written) slot.gradient.assign(data(parameter.value).size(), 0.0F);
  }
  return Ok{};
}

Tape::Tape() = default;
Tape::Tape(Tape&&) noexcept = default;
Tape& Tape::operator=(Tape&&) noexcept = default;
Tape::~Tape() = default;

Result<Tape> Tape::create(Graph graph, const TapeOptions& options) {
  keep_pages();
  try {
    Tape tape;
    tape.impl_ = std::make_unique<Impl>();
    tape.impl_->graph = std::move(graph);
    tape.impl_->options = options;
    Engine& engine = tape.impl_->engine;
    engine.bfloat16 = options.bfloat16;
    engine.widened = options.bfloat16 && !multiplies_bfloat16(engine.engine);
    MPQ_CHECK(tape.impl_->build());
    return tape;
  } catch (const dnnl::error& error) {
    return onednn_error(error);
  }
}

Checked Tape::forward(std::span<const float> images, bool batch_moments, const Dropped& dropped) {
  Impl& impl = *impl_;
  const ValueId input = impl.graph.inputs[0];
  const size_t want = impl.is_sequence() ? 0 : impl.extent(input).elements();
  if (images.size() != want || impl.is_sequence())
    return Error{Status::kInvalidArgument, "a run of " + std::to_string(images.size()) +
                                               " numbers, expected " + std::to_string(want)};
  impl.slots[input].data.assign(images.begin(), images.end());
  impl.run = {batch_moments, nullptr, dropped};
  try {
    return impl.forward();
  } catch (const dnnl::error& error) {
    return onednn_error(error);
  }
}

Checked Tape::forward(const SequenceData& sequences, bool batch_moments) {
  if (!impl_->is_sequence())
    return Error{Status::kInvalidArgument, "sequences for a network of images"};
  MPQ_CHECK(check_sequences(impl_->graph, sequences));
  impl_->run = {batch_moments, &sequences, {}};
  try {
    return impl_->forward();
  } catch (const dnnl::error& error) {
    return onednn_error(error);
  }
}

Checked Tape::backward(std::span<const Seed> seeds) {
  try {
    return impl_->backward(seeds);
  } catch (const dnnl::error& error) {
    return onednn_error(error);
  }
}

const Graph& Tape::structure() const { return impl_->graph; }
std::vector<Parameter>& Tape::parameters() { return impl_->parameters; }
std::span<float> Tape::data(ValueId value) { return impl_->data(value); }
std::span<float> Tape::gradient(ValueId value) { return impl_->slots[value].gradient; }
ValueId Tape::output() const { return impl_->graph.outputs[0]; }

std::string Tape::first_not_finite() const {
  for (const Recorded& record : impl_->records) {
    const std::vector<float>& y = impl_->slots[record.node.output].data;
    if (!std::all_of(y.begin(), y.end(), [](float v) { return std::isfinite(v); }))
      return record.node.name + " (" + op_name(record.node.op) + ")";
  }
  return "";
}

Graph Tape::graph() const {
  Graph graph = impl_->graph;
  const auto values = [&](ValueId id) -> const std::vector<float>& {
    return impl_->graph.values[id].data;
  };
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    const Impl::Quantisers& own = impl_->quantisers[i];
    if (own.step == kNoValue) continue;
    if (auto* quant = std::get_if<FakeQuant>(&node.op)) {
      QuantSpec& spec = quant->spec;
      spec.scale = values(own.step);
      if (own.offset != kNoValue)
        spec.zero_point = zero_point_of(values(own.offset)[0], spec.scale[0], spec.lo, spec.hi);
      continue;
    }
    WeightQuant& quant = *node.weight_quant;
    quant.spec.scale = values(own.step);
    const std::vector<float>& w = values(node.inputs[weights_input(node)]);
    requantise(w, &quant);
  }
  for (Node& node : graph.nodes)
    if (node.weight_quant)
      graph.values[node.inputs[weights_input(node)]].data = real_weights(graph, node);
  graph.values.resize(impl_->given_values);
  return graph;
}

}  // namespace mpq::convert::train
