#include "runtime/model.h"

#include <algorithm>

namespace mpq::runtime {

Result<std::shared_ptr<const Model>> Model::open(File file, const format::ReadOptions& options) {
  MPQ_TRY(format::Model graph, format::read(file.bytes(), options));
  return std::shared_ptr<const Model>(new Model(std::move(file), std::move(graph)));
}

uint64_t Model::missing_weight_bytes(const Plan& plan) const {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const WeightsRequest& w : plan.weights)
    if (!packed_.contains(Key{w.node, w.layout, w.bytes})) bytes += w.bytes;
  return bytes;
}

namespace {

struct PackJob {
  const WeightsRequest* request;
  std::byte* destination;
};

// Task i packs the jobs i, i + n, ...: one scratch per task.
struct PackTasks {
  const format::Model& model;
  std::span<const PackJob> jobs;
  std::span<std::byte> scratch;
  size_t tasks, scratch_stride;

  static void run(void* arg, size_t i) {
    const auto& t = *static_cast<const PackTasks*>(arg);
    for (size_t j = i; j < t.jobs.size(); j += t.tasks)
      t.jobs[j].request->pack(t.model, t.jobs[j].destination, &t.scratch[i * t.scratch_stride]);
  }
};

}  // namespace

Checked Model::bind_weights(Plan* plan, ThreadPool::Team* team) const {
  // Held while packing: a second session of the same kind waits and then finds everything there.
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<Key, AlignedBlock>> fresh;
  std::vector<PackJob> jobs;
  size_t scratch_stride = 0;
  for (const WeightsRequest& w : plan->weights) {
    Key key = {w.node, w.layout, w.bytes};
    if (packed_.contains(key)) continue;
    AlignedBlock block(w.bytes);
    if (!block)
      return Error{Status::kOutOfMemory, graph_.nodes[w.node].name + ": no memory for " +
                                             std::to_string(w.bytes) + " bytes of weights"};
    jobs.push_back({&w, block.data()});
    fresh.emplace_back(std::move(key), std::move(block));
    scratch_stride = std::max(scratch_stride, align_up(w.scratch_bytes));
  }
  if (!jobs.empty()) {
    const size_t tasks = std::min(team->members(), jobs.size());
    const AlignedBlock scratch(std::max<size_t>(tasks * scratch_stride, 1));
    if (!scratch) return Error{Status::kOutOfMemory, "no memory to pack weights"};
    // The largest layers first, so that tasks end together.
    std::sort(jobs.begin(), jobs.end(), [](const PackJob& a, const PackJob& b) {
      return a.request->bytes > b.request->bytes;
    });
    PackTasks work = {graph_, jobs, scratch.bytes(), tasks, scratch_stride};
    team->parallel_for(tasks, &PackTasks::run, &work);
  }
  for (auto& [key, block] : fresh) packed_.emplace(std::move(key), std::move(block));
  for (const WeightsRequest& w : plan->weights)
    w.bind(packed_.find(Key{w.node, w.layout, w.bytes})->second.data());
  return Ok{};
}

Result<const text::Tokenizer*> Model::tokenizer() const {
  if (!graph_.has_text_preprocess)
    return Error{Status::kUnsupported, "the model takes no text: it has no vocabulary"};
  const std::lock_guard lock(mutex_);
  if (!tokenizer_) {
    const std::string_view vocabulary(reinterpret_cast<const char*>(graph_.vocabulary.data()),
                                      graph_.vocabulary.size());
    MPQ_TRY(tokenizer_, text::Tokenizer::create(graph_.text, vocabulary));
  }
  return &*tokenizer_;
}

}  // namespace mpq::runtime
