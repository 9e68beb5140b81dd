#include "converter/precision/alps.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "converter/precision/imported.h"
#include "converter/train/checkpoint.h"
#include "converter/train/lsq.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::precision {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kResets[] = {"mse", "lsq", "range", "clip"};

// In a graph that has it.
template <typename AnyGraph>
auto& node_named(AnyGraph& graph, const std::string& name) {
  return *std::find_if(graph.nodes.begin(), graph.nodes.end(),
                       [&](const Node& node) { return node.name == name; });
}

// The old step times what the rule says.
float reset_step(float step, const QuantSpec& from, const QuantSpec& to, StepReset reset) {
  const auto codes = [](const QuantSpec& spec) { return static_cast<float>(1 << spec.bits); };
  const auto largest = [](const QuantSpec& spec) {
    return static_cast<float>(std::max(spec.hi - spec.zero_point, 1));
  };
  return step *
         (reset == StepReset::kRange ? codes(from) / codes(to) : largest(from) / largest(to));
}

// Weights and input of one layer, from the grids that they had.
void reset_layer(const Graph& trained, const std::string& name, StepReset reset, Graph* graph) {
  const Node& old = node_named(trained, name);
  Node& node = node_named(*graph, name);
  QuantSpec& spec = node.weight_quant->spec;
  spec.scale = old.weight_quant->spec.scale;
  for (float& step : spec.scale) step = reset_step(step, old.weight_quant->spec, spec, reset);
  const std::vector<float>& w = graph->values[node.inputs[weights_input(node)]].data;
  train::requantise(w, &*node.weight_quant);

  const int from = input_quantiser(trained, old), to = input_quantiser(*graph, node);
  if (from < 0 || to < 0) return;
  const QuantSpec& before = std::get<FakeQuant>(trained.nodes[static_cast<size_t>(from)].op).spec;
  QuantSpec& after = std::get<FakeQuant>(graph->nodes[static_cast<size_t>(to)].op).spec;
  // The same real number keeps the code 0.
  const float share = static_cast<float>(1 << after.bits) / static_cast<float>(1 << before.bits);
  after.zero_point = std::clamp(
      static_cast<int32_t>(std::nearbyint(static_cast<float>(before.zero_point) * share)), after.lo,
      after.hi);
  after.scale = {reset_step(before.scale[0], before, after, reset)};
}

// What one run leaves: its second half, batch by batch.
struct Trial {
  std::vector<double> losses, correct;
  double seconds = 0.0;
};

Trial trial_of(const train::Snapshot& done) {
  const size_t n = (done.numbers.size() - 1) / 2;
  const auto begin = done.numbers.begin() + 1, middle = begin + static_cast<ptrdiff_t>(n);
  return {{begin, middle}, {middle, done.numbers.end()}, done.numbers[0]};
}

double mean(const std::vector<double>& x) {
  double sum = 0.0;
  for (const double v : x) sum += v;
  return sum / static_cast<double>(std::max<size_t>(x.size(), 1));
}

class Driver {
 public:
  Driver(const Graph& trained, train::Tape* observed, const Graph* teacher,
         const train::ImageSet& images, const AlpsOptions& options, const Selection& selection)
      : trained_(trained),
        observed_(observed),
        teacher_(teacher),
        images_(images),
        options_(options),
        selection_(selection) {}

  // The reference, then every group.
  Result<std::vector<Trial>> run(const std::vector<uint32_t>& groups) {
    if (!options_.folder.empty()) {
      std::error_code error;
      std::filesystem::create_directories(options_.folder, error);
      if (error) return Error{Status::kIo, options_.folder + ": " + error.message()};
    }
    trials_.resize(groups.size() + 1);
    std::vector<std::thread> threads;
    const size_t jobs = std::clamp<size_t>(options_.jobs, 1, trials_.size());
    for (size_t i = 1; i < jobs; ++i) threads.emplace_back([&] { work(groups); });
    work(groups);
    for (std::thread& thread : threads) thread.join();
    if (error_) return *error_;
    return std::move(trials_);
  }

 private:
  void work(const std::vector<uint32_t>& groups) {
    for (size_t i = next_++; i < trials_.size() && !stopped_; i = next_++) {
      Result<Trial> trial = one(i == 0 ? std::nullopt : std::optional(groups[i - 1]));
      const std::lock_guard lock(mutex_);
      if (!trial.ok()) {
        if (!error_) error_ = trial.error();
        stopped_ = true;
        return;
      }
      trials_[i] = *std::move(trial);
      ++done_;
    }
  }

  std::string name_of(std::optional<uint32_t> group) const {
    return group ? selection_.layers[selection_.groups[*group].layers[0]].name : "reference";
  }

  Result<Trial> one(std::optional<uint32_t> group) {
    const Clock::time_point start = Clock::now();
    Graph graph = trained_;
    if (group) {
      MPQ_TRY(graph, drop_group(trained_, observed_, selection_, *group, options_.low_bits,
                                options_.reset));
    }
    train::Recipe recipe = options_.recipe;
    recipe.checkpoint.clear();
    MPQ_TRY(train::Tape tape, train::Tape::create(std::move(graph), train::tape_options(recipe)));
    std::optional<train::Tape> teacher;
    if (teacher_ != nullptr) {
      MPQ_TRY(teacher, train::Tape::create(*teacher_, train::tape_options(recipe)));
    }
    train::Tape* const taught_by = teacher ? &*teacher : nullptr;

    std::string done_path;
    train::Snapshot done;
    if (!options_.folder.empty()) {
      const std::string stem =
          options_.folder + "/" + (group ? "group-" + std::to_string(*group) : "reference");
      done_path = stem + ".done";
      recipe.checkpoint = stem + ".checkpoint";
      done.run = train::fingerprint(&tape, taught_by, images_, recipe);
      MPQ_TRY(const std::optional<train::Snapshot> found,
              train::read_checkpoint_of(done_path, done.run));
      if (found && found->numbers.size() % 2 == 1) {
        MPQ_CHECK(report(group, 1, 1));
        return trial_of(*found);
      }
    }
    MPQ_TRY(const train::Fitted fitted,
            train::fit(&tape, taught_by, images_, recipe, [&](const train::Progress& now) {
              return report(group, now.step, now.steps).ok();
            }));
    const std::chrono::duration<double> seconds = Clock::now() - start;
    done.step = fitted.steps;
    done.numbers = {seconds.count()};
    done.numbers.insert(done.numbers.end(), fitted.losses.begin(), fitted.losses.end());
    done.numbers.insert(done.numbers.end(), fitted.correct.begin(), fitted.correct.end());
    if (!done_path.empty()) {
      MPQ_CHECK(train::write_checkpoint(done_path, done));
      std::error_code ignored;
      std::filesystem::remove(recipe.checkpoint, ignored);
    }
    return trial_of(done);
  }

  Checked report(std::optional<uint32_t> group, uint64_t step, uint64_t steps) {
    const std::lock_guard lock(mutex_);
    const bool go = !stopped_ && (!options_.progress ||
                                  options_.progress(done_ * steps + step, trials_.size() * steps,
                                                    name_of(group)));
    if (!go) stopped_ = true;
    return go ? Checked(Ok{}) : Checked(Error{Status::kBusy, "stopped at " + name_of(group)});
  }

  const Graph& trained_;
  train::Tape* observed_;
  const Graph* teacher_;
  const train::ImageSet& images_;
  const AlpsOptions& options_;
  const Selection& selection_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  size_t done_ = 0;
  std::optional<Error> error_;
  std::vector<Trial> trials_;
};

AlpsRow row_of(uint32_t group, const Trial& trial, const Trial& reference,
               const AlpsOptions& options) {
  const double batch = options.recipe.batch;
  AlpsRow row{.group = group,
              .loss = mean(trial.losses),
              .accuracy = mean(trial.correct) / batch,
              .seconds = trial.seconds};
  std::vector<double> differences;
  for (size_t i = 0; i < trial.losses.size(); ++i)
    differences.push_back(options.by_accuracy ? (reference.correct[i] - trial.correct[i]) / batch
                                              : trial.losses[i] - reference.losses[i]);
  row.gain = mean(differences);
  double square = 0.0;
  for (const double d : differences) square += (d - row.gain) * (d - row.gain);
  const auto n = static_cast<double>(differences.size());
  if (n > 1) row.standard_error = std::sqrt(square / (n - 1) / n);
  return row;
}

}  // namespace

Result<Graph> drop_group(const Graph& trained, train::Tape* observed, const Selection& selection,
                         uint32_t group, int bits, StepReset reset) {
  MPQ_TRY(const format::PrecisionMap map, imported_map(trained));
  BitsMap wanted;
  for (const format::MapLayer& layer : map.layers)
    wanted[layer.node] = {layer.weight_bits, layer.activation_bits};
  train::QuantizerOptions options;
  options.first = reset == StepReset::kLsq ? train::FirstStep::kLsq : train::FirstStep::kMse;
  for (const uint32_t index : selection.groups[group].layers) {
    const std::string& name = selection.layers[index].name;
    wanted[name] = {bits, bits};
    options.channel_steps = node_named(trained, name).weight_quant->spec.scale.size() > 1;
  }
  MPQ_TRY(Graph graph,
          train::add_quantizers(train::without_quantizers(trained), wanted, observed, options));
  train::inherit_steps(trained, &graph);
  if (reset == StepReset::kRange || reset == StepReset::kClip)
    for (const uint32_t index : selection.groups[group].layers)
      reset_layer(trained, selection.layers[index].name, reset, &graph);
  return graph;
}

Result<AlpsResult> alps(const Graph& trained, train::Tape* observed, const Graph* teacher,
                        const train::ImageSet& images, const AlpsOptions& options) {
  MPQ_TRY(const Selection selection, Selection::of(trained));
  MPQ_TRY(const format::PrecisionMap map, imported_map(trained));
  std::vector<uint32_t> groups;
  for (uint32_t g = 0; g < selection.groups.size(); ++g)
    if (!selection.groups[g].fixed &&
        map.layers[selection.groups[g].layers[0]].weight_bits > options.low_bits)
      groups.push_back(g);
  if (groups.empty())
    return Error{Status::kInvalidArgument,
                 "no group has more than " + std::to_string(options.low_bits) + " bits to drop"};
  Driver driver(trained, observed, teacher, images, options, selection);
  MPQ_TRY(const std::vector<Trial> trials, driver.run(groups));
  AlpsResult result;
  result.reference = row_of(0, trials[0], trials[0], options);
  for (size_t i = 0; i < groups.size(); ++i)
    result.groups.push_back(row_of(groups[i], trials[i + 1], trials[0], options));
  return result;
}

std::string print_gains(const AlpsResult& result, const Selection& selection,
                        const AlpsOptions& options) {
  nlohmann::ordered_json json = {{"schema_version", 1},
                                 {"method", "alps"},
                                 {"metric", options.by_accuracy ? "accuracy" : "loss"},
                                 {"low_bits", options.low_bits},
                                 {"reset", kResets[static_cast<size_t>(options.reset)]},
                                 {"reference_loss", result.reference.loss},
                                 {"reference_accuracy", result.reference.accuracy}};
  auto rows = nlohmann::ordered_json::array();
  for (const AlpsRow& row : result.groups) {
    auto names = nlohmann::ordered_json::array();
    for (const uint32_t layer : selection.groups[row.group].layers)
      names.push_back(selection.layers[layer].name);
    rows.push_back({{"layers", std::move(names)},
                    {"gain", row.gain},
                    {"standard_error", row.standard_error},
                    {"loss", row.loss},
                    {"accuracy", row.accuracy}});
  }
  json["groups"] = std::move(rows);
  return json.dump(2) + "\n";
}

}  // namespace mpq::convert::precision
