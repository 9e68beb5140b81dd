#include "runtime/tune.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "runtime/fp_scope.h"
#include "runtime/tune_cache.h"

namespace mpq::runtime {
namespace {

using kernels::ConvKernel;

constexpr float kMaxCost = 4.0F;  // rows dearer than this times the cheapest are not timed
constexpr size_t kMinRounds = 5, kMaxRounds = 20;
constexpr double kSeconds = 1.0;  // of rounds, once there are kMinRounds
constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

// Everything that the time of a layer's step depends on but the machine.
std::string key_of(const DenseLayer& l, const SessionOptions& o) {
  const kernels::ConvShape& s = l.shape;
  const auto pair = [](const char* name, uint32_t a, uint32_t b) {
    return std::string(name) + std::to_string(a) + "x" + std::to_string(b);
  };
  static constexpr const char* kElems[] = {"f32", "s32", "u8", "s8", "u4", "s4", "u2", "s2"};
  static constexpr const char* kActivations[] = {"", " gelu", " gelu_tanh", " tanh"};
  const auto name = [](kernels::Elem e) { return kElems[static_cast<size_t>(e)]; };
  return std::string(kernels::isa_name(o.isa)) + " threads " + std::to_string(o.threads) +
         ": codes 0.." + std::to_string(l.max_activation) + " weights " + name(l.weights) + " n" +
         std::to_string(s.n) + " c" + std::to_string(s.c) + pair(" out ", s.oh, s.ow) + " o" +
         std::to_string(s.o) + pair(" kernel ", s.r, s.s) +
         pair(" stride ", s.stride_h, s.stride_w) + pair(" dilation ", s.dilation_h, s.dilation_w) +
         " groups " + std::to_string(s.groups) + " block " + std::to_string(l.cb) + " to " +
         name(l.out) + (l.residual ? " residual" : "") + (l.second ? " second" : "") +
         kActivations[static_cast<size_t>(l.activation)];
}

// Rows worth timing, cheapest first: the first is what the costs choose.
std::vector<const ConvKernel*> candidates(const DenseLayer& l, kernels::IsaMask isa) {
  const kernels::CpuFamily family = kernels::cpu_family();
  const auto cost = [&](const ConvKernel* row) { return row->cost(l.shape, l.cb, family); };
  std::vector<const ConvKernel*> rows;
  for (const ConvKernel& row : kernels::conv_kernels())
    if (kernels::conv_serves(row, l.shape, l.cb, l.weights, l.max_activation, isa))
      rows.push_back(&row);
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const ConvKernel* a, const ConvKernel* b) { return cost(a) < cost(b); });
  const float most = kMaxCost * cost(rows.front());
  std::erase_if(rows, [&](const ConvKernel* row) { return cost(row) > most; });
  return rows;
}

struct Layer {
  std::vector<const ConvKernel*> rows;
  std::vector<uint64_t> ns;            // of each row; empty: not timed
  const ConvKernel* chosen = nullptr;  // null: not yet
};
using Layers = std::map<std::string, Layer>;

// The fastest row of a cached layer; null when it was timed with other rows than there are now.
const ConvKernel* cached_choice(const Layer& layer, const KernelTimes& times,
                                const std::string& key) {
  const auto found = times.find(key);
  if (found == times.end() || found->second.size() != layer.rows.size()) return nullptr;
  const ConvKernel* first = nullptr;
  for (const KernelTime& time : found->second) {
    const auto row = std::ranges::find_if(
        layer.rows, [&](const ConvKernel* r) { return r->name == time.kernel; });
    if (row == layer.rows.end()) return nullptr;
    if (first == nullptr) first = *row;
  }
  return first;
}

// Sessions of the whole network: in the v-th, each layer without a choice has its v-th row.
class Variants {
 public:
  Variants(const Model& model, const SessionOptions& options, Layers* layers)
      : options_(options), layers_(*layers), model_(model) {
    options_.profile = true;
    options_.keep_tensors = false;
    options_.allocator = {};  // the host's memory is for what stays
  }

  Checked create() {
    // A model of its own, so that weights in layouts that nobody chose go with it.
    MPQ_TRY(copy_, Model::open(File::borrow(model_.bytes()),
                               {.verify_segments = false, .max_file_bytes = kNever}));
    size_t count = 0;
    for (const auto& [key, layer] : layers_)
      if (layer.chosen == nullptr) count = std::max(count, layer.rows.size());
    for (size_t v = 0; v < count; ++v) {
      options_.choose_conv = [this, v](const DenseLayer& l) -> const ConvKernel& {
        const std::string key = key_of(l, options_);
        keys_[l.node] = key;
        const Layer& layer = layers_.at(key);
        return layer.chosen != nullptr ? *layer.chosen : *layer.rows[v % layer.rows.size()];
      };
      Result<std::unique_ptr<Session>> session = Session::create(copy_, options_);
      // Where memory ends, fewer rows are timed.
      if (!session.ok()) return v == 0 ? Checked(session.error()) : Checked(Ok{});
      add(*std::move(session));
    }
    return Ok{};
  }

  Checked run() {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [start = Clock::now()] {
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    for (size_t round = 0; round < kMinRounds || (round < kMaxRounds && seconds() < kSeconds);
         ++round)
      for (size_t v = 0; v < sessions_.size(); ++v) {
        MPQ_CHECK(sessions_[v]->run());
        for (size_t i = 0; i < best_[v].size(); ++i)
          best_[v][i] = std::min(best_[v][i], sessions_[v]->time(i).last_ns);
      }
    return Ok{};
  }

  // The times of rows are sums over the steps of equal layers.
  void conclude() {
    const std::vector<Step>& steps = sessions_.front()->plan().steps;
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto key = keys_.find(steps[i].node);
      if (key == keys_.end()) continue;
      Layer& layer = layers_.at(key->second);
      if (layer.chosen != nullptr) continue;
      layer.ns.resize(layer.rows.size());
      for (size_t r = 0; r < layer.rows.size(); ++r) {
        uint64_t best = kNever;
        for (size_t v = r; v < sessions_.size(); v += layer.rows.size())
          best = std::min(best, best_[v][i]);
        layer.ns[r] = best == kNever ? kNever : layer.ns[r] + best;
      }
    }
    for (auto& [key, layer] : layers_) {
      if (layer.chosen != nullptr) continue;
      layer.chosen = layer.rows.front();
      if (!layer.ns.empty())
        layer.chosen =
            layer.rows[static_cast<size_t>(std::ranges::min_element(layer.ns) - layer.ns.begin())];
    }
  }

 private:
  void add(std::unique_ptr<Session> session) {
    const uint64_t bytes =
        session->arena_bytes() + session->scratch_bytes() + session->plan().weight_bytes;
    options_.memory_limit -= std::min(options_.memory_limit, bytes);
    fill(session.get());
    best_.emplace_back(session->plan().steps.size(), kNever);
    sessions_.push_back(std::move(session));
  }

  // Sequences as long as the plan allows; images stay 0: no kernel's time depends on values.
  void fill(Session* session) const {
    const uint32_t longest = model_.graph().sequence_length;
    if (longest == 0) return;
    std::vector<uint32_t> lengths;
    for (uint32_t rest = options_.tokens, i = options_.batch; i > 0 && rest > 0; --i) {
      lengths.push_back(std::min(longest, (rest + i - 1) / i));
      rest -= lengths.back();
    }
    const std::vector<int32_t> ids(options_.tokens, 0);
    static_cast<void>(session->set_sequences(ids.data(), nullptr, lengths.data(), lengths.size()));
  }

  SessionOptions options_;
  Layers& layers_;
  const Model& model_;
  std::shared_ptr<const Model> copy_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::vector<uint64_t>> best_;  // [session][step], ns
  std::map<uint32_t, std::string> keys_;     // of nodes: of one image for those of the front
};

std::vector<KernelTime> fastest_first(const Layer& layer) {
  std::vector<KernelTime> times;
  for (size_t r = 0; r < layer.rows.size(); ++r)
    if (layer.ns[r] != kNever) times.push_back({layer.rows[r]->name, layer.ns[r]});
  std::ranges::stable_sort(times, {}, &KernelTime::ns);
  return times;
}

// Adds to what is there now, which another process may have written meanwhile.
Checked save(const std::string& path, const Layers& layers) {
  KernelTimes times;
  if (Result<KernelTimes> there = load_kernel_times(path); there.ok()) times = *std::move(there);
  for (const auto& [key, layer] : layers)
    if (!layer.ns.empty()) times[key] = fastest_first(layer);
  return save_kernel_times(path, times);
}

}  // namespace

Result<ChooseConv> tune(const Model& model, const SessionOptions& options, const std::string& path,
                        TuneReport* report) {
  const FpScope fp;
  const auto start = std::chrono::steady_clock::now();
  Layers layers;
  PlanOptions probe = {.batch = options.batch,
                       .tokens = options.tokens,
                       .threads = options.threads,
                       .isa = options.isa};
  probe.choose_conv = [&](const DenseLayer& l) -> const ConvKernel& {
    Layer& layer = layers[key_of(l, options)];
    if (layer.rows.empty()) layer.rows = candidates(l, options.isa);
    return *layer.rows.front();
  };
  MPQ_TRY(Plan plan, make_plan(model.graph(), probe));
  MPQ_TRY(const Front front, plan_front(model.graph(), probe, options.front_steps, &plan));
  static_cast<void>(front);

  KernelTimes known;
  if (!path.empty()) {
    Result<KernelTimes> loaded = load_kernel_times(path);
    if (loaded.ok())
      known = *std::move(loaded);
    else
      report->warning = loaded.error().message + "; ignored and made anew";
  }
  for (auto& [key, layer] : layers) {
    report->layers += layer.rows.size() > 1 ? 1 : 0;
    layer.chosen = layer.rows.size() == 1 ? layer.rows.front() : cached_choice(layer, known, key);
    report->timed += layer.chosen == nullptr ? 1 : 0;
  }
  if (report->timed > 0) {
    Variants variants(model, options, &layers);
    MPQ_CHECK(variants.create());
    MPQ_CHECK(variants.run());
    variants.conclude();
    if (!path.empty())
      if (const Checked saved = save(path, layers); !saved.ok())
        report->warning = saved.error().message;
  }

  auto choices = std::make_shared<std::map<std::string, const ConvKernel*>>();
  for (const auto& [key, layer] : layers) {
    (*choices)[key] = layer.chosen;
    report->other += layer.chosen != layer.rows.front() ? 1 : 0;
  }
  report->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  SessionOptions names = {.threads = options.threads, .isa = options.isa};
  return ChooseConv([choices, names](const DenseLayer& l) -> const ConvKernel& {
    return *choices->at(key_of(l, names));
  });
}

}  // namespace mpq::runtime
