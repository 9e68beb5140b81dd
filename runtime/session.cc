#include "runtime/session.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "runtime/fp_scope.h"
#include "runtime/ops/convert.h"

namespace mpq::runtime {
namespace {

struct StepTasks {
  const Step& step;
  const std::vector<kernels::KernelContext>& contexts;

  static void run(void* arg, size_t i) {
    const FpScope fp;  // a host's thread may come in any mode
    const auto& t = *static_cast<const StepTasks*>(arg);
    t.step.run(t.step.args.get(), t.step.parts[i], t.contexts[i]);
  }
};

uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

}  // namespace

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model,
                                                 const SessionOptions& options) {
  const FpScope fp;
  std::unique_ptr<Session> session(new Session);
  session->model_ = std::move(model);
  session->options_ = options;
  session->process_ = getpid();
  MPQ_TRY(session->plan_,
          make_plan(session->model_->graph(), {.batch = options.batch,
                                               .tokens = options.tokens,
                                               .threads = options.threads,
                                               .isa = options.isa,
                                               .keep_tensors = options.keep_tensors}));
  MPQ_CHECK(session->allocate());
  ThreadPool::Team team;
  if (options.threads > 1 && options.parallel_for == nullptr) {
    session->pool_ = ThreadPool::shared();
    MPQ_CHECK(session->pool_->reserve(options.threads - 1));
  }
  if (session->pool_ != nullptr) {
    ThreadPool::Team packers = session->pool_->acquire(options.threads);
    MPQ_CHECK(session->model_->bind_weights(&session->plan_, &packers));
  } else {
    MPQ_CHECK(session->model_->bind_weights(&session->plan_, &team));
  }
  session->plan_.bind(session->memory_.data());
  return session;
}

Checked Session::allocate() {
  const uint64_t weights = model_->missing_weight_bytes(plan_);
  const uint64_t own = uint64_t{plan_.arena.bytes} + scratch_bytes();
  if (own + weights > options_.memory_limit)
    return Error{Status::kLimit, "session needs " + std::to_string(own) +
                                     " bytes for activations and scratch and " +
                                     std::to_string(weights) + " for weights, limit " +
                                     std::to_string(options_.memory_limit)};
  memory_ = AlignedBlock(std::max<size_t>(own, 1), options_.allocator);
  if (!memory_)
    return Error{Status::kOutOfMemory,
                 "no memory for " + std::to_string(own) + " bytes of activations and scratch"};
  if (reinterpret_cast<uintptr_t>(memory_.data()) % kAlignment != 0)
    return Error{Status::kInvalidArgument, "options.allocate: not aligned to 64 bytes"};
  std::memset(memory_.data(), 0, own);
  std::byte* scratch = memory_.data() + plan_.arena.bytes;
  for (uint32_t i = 0; i < options_.threads; ++i, scratch += plan_.scratch_bytes)
    contexts_.push_back({scratch, plan_.scratch_bytes});
  times_.resize(plan_.steps.size());
  return Ok{};
}

Checked Session::set_sequences(const int32_t* ids, const int32_t* types, const uint32_t* lengths,
                               size_t count) {
  const format::Model& graph = model_->graph();
  const format::Node* embedding = format::embedding_of(graph);
  if (embedding == nullptr)
    return Error{Status::kUnsupported, "the model takes no sequences of tokens"};
  const auto limit = [](const std::string& what, uint64_t number, uint64_t most) {
    return Error{Status::kInvalidArgument,
                 what + " " + std::to_string(number) + " not in 1.." + std::to_string(most)};
  };
  if (count == 0 || count > options_.batch)
    return limit("number of sequences", count, options_.batch);
  uint64_t tokens = 0;
  for (size_t i = 0; i < count; ++i) {
    if (lengths[i] == 0 || lengths[i] > graph.sequence_length)
      return limit("sequence " + std::to_string(i) + ": length", lengths[i], graph.sequence_length);
    tokens += lengths[i];
  }
  if (tokens > options_.tokens) return limit("tokens of all sequences", tokens, options_.tokens);
  const bool has_types = embedding->inputs[format::kTypes] != format::kNoTensor;
  if (types != nullptr && !has_types)
    return Error{Status::kInvalidArgument, "types given, the model has none"};
  const auto check = [&](const char* what, uint64_t token, int32_t value, size_t table) -> Checked {
    const int64_t rows = graph.tensors[embedding->inputs[table]].shape[0];
    if (value >= 0 && value < rows) return Ok{};
    return Error{Status::kInvalidArgument, "token " + std::to_string(token) + ": " + what + " " +
                                               std::to_string(value) + " of " +
                                               std::to_string(rows)};
  };
  for (uint64_t i = 0; i < tokens; ++i) {
    MPQ_CHECK(check("id", i, ids[i], format::kWords));
    if (types != nullptr) MPQ_CHECK(check("type", i, types[i], format::kTypeRows));
  }
  const auto buffer = [&](size_t input) {
    return plan_.buffer(memory_.data(), embedding->inputs[input], Form::kCanonical);
  };
  std::memcpy(buffer(format::kIds), ids, tokens * sizeof(int32_t));
  if (has_types && types != nullptr)
    std::memcpy(buffer(format::kTypes), types, tokens * sizeof(int32_t));
  else if (has_types)
    std::memset(buffer(format::kTypes), 0, tokens * sizeof(int32_t));
  plan_.set_sequences(lengths, count);
  return Ok{};
}

Checked Session::run() {
  if (pool_ != nullptr && getpid() != process_)
    return Error{Status::kInvalidArgument,
                 "session with worker threads was created before fork(); create one in the child"};
  const FpScope fp;
  ThreadPool::Team team = pool_ != nullptr ? pool_->acquire(options_.threads) : ThreadPool::Team();
  if (!options_.profile) {
    for (const Step& step : plan_.steps) run_step(step, &team);
    return Ok{};
  }
  uint64_t begin = now_ns();
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    run_step(plan_.steps[i], &team);
    const uint64_t end = now_ns();
    times_[i].last_ns = end - begin;
    times_[i].total_ns += end - begin;
    ++times_[i].runs;
    begin = end;
  }
  return Ok{};
}

void Session::run_step(const Step& step, ThreadPool::Team* team) {
  for (const auto& halo : step.halos)
    kernels::fill_halo(*halo, {0, kernels::halo_units(halo->shape, halo->y.cb)});
  if (step.parts.size() == 1) {
    step.run(step.args.get(), step.parts[0], contexts_[0]);
    return;
  }
  StepTasks tasks = {step, contexts_};
  if (options_.parallel_for != nullptr)
    options_.parallel_for(options_.parallel_for_user, step.parts.size(), &StepTasks::run, &tasks);
  else
    team->parallel_for(step.parts.size(), &StepTasks::run, &tasks);
}

size_t Session::tensor_bytes(format::TensorId id) const {
  const DType type = model_->graph().tensors[id].dtype;
  return plan_.live_dims(id).elements() * (is_code(type) ? 1 : 4);
}

std::span<std::byte> Session::canonical(format::TensorId id) const {
  return {plan_.buffer(memory_.data(), id, Form::kCanonical), tensor_bytes(id)};
}

void Session::read_tensor(format::TensorId id, std::span<std::byte> destination) const {
  const TensorPlan& t = plan_.tensors[id];
  const auto has = [&](Form form) { return t.buffers[static_cast<int>(form)] != kNoBuffer; };
  if (has(Form::kCanonical)) {
    std::memcpy(destination.data(), canonical(id).data(), destination.size());
    return;
  }
  ConvertStep step;
  step.codes.shape = {plan_.live_dims(id).n, t.dims.c, t.dims.h, t.dims.w};
  step.codes.strides = kernels::nchw(t.dims.c, t.dims.h, t.dims.w);
  if (has(Form::kPlanes)) {
    const PlanesLayout layout = planes_layout(t.dims, t.halo);
    step.codes.planes = layout.planes;
    step.codes.planes.data =
        reinterpret_cast<uint8_t*>(plan_.buffer(memory_.data(), id, Form::kPlanes)) + layout.origin;
    step.codes.dense = reinterpret_cast<uint8_t*>(destination.data());
    planes_to_canonical(&step, {}, {});
  } else {
    step.source = plan_.buffer(memory_.data(), id, Form::kDense);
    step.destination = destination.data();
    dense_to_canonical(&step, {}, {});
  }
}

void Session::set_profile(bool on) {
  options_.profile = on;
  if (on) times_.assign(times_.size(), {});
}

}  // namespace mpq::runtime
