// Sequence models against real arithmetic. Runs random sequences and checks, for every tensor of
// the run:
//   1. Each node's outputs lie within the rounding errors of binary32 of their value in binary64
//      (tests/support/double_model.h), from the same inputs; a code is a rounding of such a value.
//   2. Sequences side by side in another order give the bytes that each has alone, on every
//      instruction set and for one, two and three threads.
//   3. Each hidden state is near that of binary64 from the hidden state before it (--bound).
// And says how far all are from a run in binary64 from the ids to the end.
//   check_double [MODEL.fb] [--lengths 128,17] [--bound RMS] [--plant]
// Without MODEL: the tiny network of the tests. --plant changes one weight between the two: the
// check must fail.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "format/aligned.h"
#include "format/writer.h"
#include "runtime/file.h"
#include "runtime/isa_choice.h"
#include "runtime/model.h"
#include "runtime/session.h"
#include "tests/support/double_model.h"
#include "tests/support/model_maker.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using format::Node;
using format::TensorId;
using runtime::Session;
using SharedModel = std::shared_ptr<const runtime::Model>;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "check_double: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T need(Result<T> result) {
  if (!result.ok()) fail(result.error().message);
  return *std::move(result);
}

void need(const Checked& result) {
  if (!result.ok()) fail(result.error().message);
}

struct Options {
  const char* model = nullptr;
  std::vector<uint32_t> lengths = {5, 1, 6};
  double bound = 0.01;  // codes rounded to the other side in one layer, as rms
  bool plant = false;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (i + 1 == argc) fail(word + " needs a value");
      return argv[++i];
    };
    if (word == "--plant") {
      options.plant = true;
    } else if (word == "--bound") {
      options.bound = std::atof(value());
    } else if (word == "--lengths") {
      options.lengths.clear();
      std::istringstream list(value());
      for (std::string item; std::getline(list, item, ',');)
        options.lengths.push_back(static_cast<uint32_t>(std::atoi(item.c_str())));
    } else if (word.starts_with("-")) {
      fail("unknown option '" + word + "'");
    } else {
      options.model = argv[i];
    }
  }
  return options;
}

DoubleRun random_run(const format::Model& model, const std::vector<uint32_t>& lengths) {
  DoubleRun run;
  run.lengths = lengths;
  ModelMaker random(20261127);
  int32_t words = 1, kinds = 0;
  for (const Node& n : model.nodes) {
    if (n.op() != format::OpCode::kEmbedding) continue;
    words = static_cast<int32_t>(model.tensors[n.inputs[format::kWords]].shape[0]);
    if (n.inputs[format::kTypes] != format::kNoTensor)
      kinds = static_cast<int32_t>(model.tensors[n.inputs[format::kTypeRows]].shape[0]);
  }
  for (const uint32_t length : lengths)
    for (uint32_t t = 0; t < length; ++t) {
      run.ids.push_back(random.pick(0, words - 1));
      if (kinds > 0) run.types.push_back(random.pick(0, kinds - 1));
    }
  return run;
}

// A part of a run, in another order.
DoubleRun take(const DoubleRun& run, const std::vector<size_t>& order) {
  DoubleRun part;
  for (const size_t s : order) {
    const auto start = static_cast<ptrdiff_t>(
        std::accumulate(run.lengths.begin(), run.lengths.begin() + static_cast<ptrdiff_t>(s), 0U));
    const auto stop = start + static_cast<ptrdiff_t>(run.lengths[s]);
    part.ids.insert(part.ids.end(), run.ids.begin() + start, run.ids.begin() + stop);
    if (!run.types.empty())
      part.types.insert(part.types.end(), run.types.begin() + start, run.types.begin() + stop);
    part.lengths.push_back(run.lengths[s]);
  }
  return part;
}

using Bytes = std::vector<std::byte>;

// Every tensor of a run, as bytes of the API.
std::vector<Bytes> tensors_of(const SharedModel& model, const DoubleRun& run, kernels::IsaMask isa,
                              uint32_t threads) {
  const auto session =
      need(Session::create(model, {.batch = static_cast<uint32_t>(run.lengths.size()),
                                   .tokens = static_cast<uint32_t>(run.ids.size()),
                                   .threads = threads,
                                   .isa = isa,
                                   .keep_tensors = true,
                                   .memory_limit = uint64_t{8} << 30}));
  need(session->set_sequences(run.ids.data(), run.types.empty() ? nullptr : run.types.data(),
                              run.lengths.data(), run.lengths.size()));
  need(session->run());
  std::vector<Bytes> tensors(model->graph().tensors.size());
  for (TensorId id = 0; id < tensors.size(); ++id) {
    if (model->graph().tensors[id].is_constant()) continue;
    tensors[id].resize(session->tensor_bytes(id));
    need(session->read_tensor(id, tensors[id]));
  }
  return tensors;
}

DoubleTensor unpack(const format::Tensor& tensor, const Bytes& bytes) {
  DoubleTensor value;
  if (tensor.dtype == DType::kF32) {
    std::vector<float> reals(bytes.size() / 4);
    std::memcpy(reals.data(), bytes.data(), bytes.size());
    value.reals.assign(reals.begin(), reals.end());
  } else if (tensor.dtype == DType::kS32) {
    std::vector<int32_t> sums(bytes.size() / 4);
    std::memcpy(sums.data(), bytes.data(), bytes.size());
    value.ints.assign(sums.begin(), sums.end());
  } else {
    for (const std::byte b : bytes) value.ints.push_back(std::to_integer<int64_t>(b));
  }
  return value;
}

struct Tally {
  size_t elements = 0, outside = 0, other_side = 0;
  double worst = 0.0;  // of the tolerance
};

// Elements of one output that no rounding of binary32 explains.
void compare(const Node& node, size_t output, const std::vector<Interval>& expected,
             const DoubleTensor& actual, Tally* tally) {
  const CodeRange range = code_range(node, output);
  const size_t count = actual.ints.size() + actual.reals.size();
  if (count != expected.size()) fail(node.name + ": number of elements");
  tally->elements += count;
  for (size_t i = 0; i < count; ++i) {
    const auto [value, tolerance] = expected[i];
    double error = 0.0;
    if (actual.ints.empty()) {
      error = std::abs(actual.reals[i] - value);
    } else {
      const double v = std::clamp(value, range.lo, range.hi);
      const auto code = static_cast<double>(actual.ints[i]);
      error = std::max(0.0, std::abs(code - v) - 0.5);
      tally->other_side += code == std::nearbyint(v) ? 0 : 1;
    }
    const double share = error == 0.0 ? 0.0 : error / std::max(tolerance, 1e-300);
    tally->worst = std::max(tally->worst, share);
    if (!(share <= 1.0)) ++tally->outside;
  }
}

bool check_nodes(const format::Model& model, const DoubleRun& run,
                 const std::vector<Bytes>& tensors) {
  std::vector<DoubleTensor> values = double_constants(model);
  for (TensorId id = 0; id < values.size(); ++id)
    if (!model.tensors[id].is_constant()) values[id] = unpack(model.tensors[id], tensors[id]);
  std::map<std::string, Tally> tallies;
  for (const Node& node : model.nodes) {
    const auto outputs = double_outputs(model, node, run, values);
    for (size_t o = 0; o < outputs.size(); ++o) {
      Tally& tally = tallies[format::to_string(node.op())];
      const size_t before = tally.outside;
      compare(node, o, outputs[o], values[node.outputs[o]], &tally);
      if (tally.outside != before)
        std::printf("%s: %zu elements of output %zu are outside\n", node.name.c_str(),
                    tally.outside - before, o);
    }
  }
  bool good = !tallies.empty();
  for (const auto& [op, t] : tallies) {
    std::printf(
        "%-14s %10zu elements, %zu outside, worst %.3f of the bound, %zu codes on the other side\n",
        op.c_str(), t.elements, t.outside, t.worst, t.other_side);
    good = good && t.elements > 0 && t.outside == 0;
  }
  return good;
}

// A run in binary64 beside the real one, as seen at the hidden states: what normalisations give.
// Step by step it goes on from the real hidden states after each; else from the ids to the end,
// where a code that was rounded to the other side goes on into all that follows.
double hidden_states(const format::Model& model, const DoubleRun& run,
                     const std::vector<Bytes>& tensors, bool step_by_step) {
  std::vector<DoubleTensor> values = double_constants(model);
  double worst = 0.0;
  std::printf("hidden states %s, rms of the difference / rms:",
              step_by_step ? "each from the one before" : "from the ids");
  for (const Node& node : model.nodes) {
    const auto outputs = double_outputs(model, node, run, values);
    for (size_t o = 0; o < outputs.size(); ++o)
      values[node.outputs[o]] = rounded(model, node, o, outputs[o]);
    if (node.op() != format::OpCode::kLayerNorm) continue;
    const std::vector<double> expected = values[node.outputs[0]].reals;
    const DoubleTensor actual = unpack(model.tensors[node.outputs[0]], tensors[node.outputs[0]]);
    double square = 0.0, difference = 0.0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double d = actual.reals[i] - expected[i];
      square += expected[i] * expected[i];
      difference += d * d;
    }
    const double relative = std::sqrt(difference / square);
    std::printf(" %.1e", relative);
    worst = std::max(worst, relative);
    for (size_t o = 0; step_by_step && o < node.outputs.size(); ++o)
      values[node.outputs[o]] = unpack(model.tensors[node.outputs[o]], tensors[node.outputs[o]]);
  }
  std::printf("\n");
  return worst;
}

// Tensors with a row a sequence instead of a token.
std::vector<bool> sequence_tensors(const format::Model& model) {
  std::vector<bool> pooled(model.tensors.size());
  for (const Node& n : model.nodes)
    for (const TensorId id : n.outputs)
      pooled[id] = pooled[n.inputs[0]] || n.op() == format::OpCode::kSequencePool;
  return pooled;
}

// Rows of sequence s in a tensor of a run.
std::span<const std::byte> rows_of(const Bytes& tensor, const std::vector<uint32_t>& lengths,
                                   size_t s, bool pooled) {
  const auto at = lengths.begin() + static_cast<ptrdiff_t>(s);
  const size_t before = pooled ? s : std::accumulate(lengths.begin(), at, size_t{0});
  const size_t rows = pooled ? lengths.size() : std::accumulate(at, lengths.end(), before);
  const size_t row = tensor.size() / rows;
  return std::span(tensor).subspan(before * row, (pooled ? 1 : lengths[s]) * row);
}

bool check_places(const SharedModel& model, const DoubleRun& run) {
  const size_t count = run.lengths.size();
  std::vector<std::vector<Bytes>> alone;
  for (size_t s = 0; s < count; ++s)
    alone.push_back(tensors_of(model, take(run, {s}), kernels::kIsaScalar, 1));
  const std::vector<bool> pooled = sequence_tensors(model->graph());
  size_t compared = 0, different = 0;
  for (const char* name : {"scalar", "avx2", "avx512vnni", "amx"}) {
    kernels::IsaMask isa = 0;
    kernels::parse_isa(name, &isa);
    if ((isa & ~runtime::available_isa()) != 0) {
      std::printf("SKIPPED: check_double on %s: this machine lacks it\n", name);
      continue;
    }
    for (const uint32_t threads : {1U, 2U, 3U}) {
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), size_t{0});
      std::rotate(order.begin(), order.begin() + threads % count, order.end());
      const DoubleRun mixed = take(run, order);
      const std::vector<Bytes> together = tensors_of(model, mixed, isa, threads);
      for (TensorId id = 0; id < together.size(); ++id) {
        if (together[id].empty()) continue;
        for (size_t place = 0; place < count; ++place) {
          ++compared;
          const auto rows = rows_of(together[id], mixed.lengths, place, pooled[id]);
          if (std::ranges::equal(rows, alone[order[place]][id])) continue;
          if (++different < 5)
            std::printf("%s, %u threads: %s differs at place %zu\n", name, threads,
                        model->graph().tensors[id].name.c_str(), place);
        }
      }
    }
  }
  std::printf("places: %zu tensors of sequences compared, %zu differ\n", compared, different);
  return compared > 0 && different == 0;
}

}  // namespace

int check(const Options& options) {
  format::AlignedBytes file;
  SharedModel model;
  if (options.model != nullptr) {
    model = need(runtime::Model::open(need(runtime::File::map(options.model, UINT64_MAX)), {}));
  } else {
    const auto bytes = need(format::write(tiny_text_net().model));
    file = format::AlignedBytes(std::span<const std::byte>(bytes));
    model = need(runtime::Model::open(runtime::File::borrow(file.bytes()), {}));
  }
  const DoubleRun run = random_run(model->graph(), options.lengths);
  const std::vector<Bytes> tensors = tensors_of(model, run, runtime::available_isa(), 2);
  format::Model graph = model->graph();
  Bytes changed;
  if (options.plant)
    for (const Node& n : graph.nodes) {
      if (n.op() != format::OpCode::kLinear) continue;
      format::Tensor& weights = graph.tensors[n.inputs[1]];
      changed.assign(weights.data.begin(), weights.data.end());
      changed[0] ^= std::byte{1};
      weights.data = changed;
      break;
    }
  const bool nodes = check_nodes(graph, run, tensors);
  const bool hidden = hidden_states(graph, run, tensors, true) <= options.bound;
  hidden_states(graph, run, tensors, false);
  const bool places = check_places(model, run);
  std::printf("check_double: nodes %s, hidden states %s, places %s\n", nodes ? "good" : "WRONG",
              hidden ? "good" : "WRONG", places ? "good" : "WRONG");
  return nodes && hidden && places ? 0 : 1;
}

}  // namespace mpq::test

int main(int argc, char** argv) { return mpq::test::check(mpq::test::parse(argc, argv)); }
