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

void fill_halos(const Step& step) {
  for (const auto& halo : step.halos)
    kernels::fill_halo(*halo, {0, kernels::halo_units(halo->shape, halo->y.cb)});
}

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
  MPQ_CHECK(options.device.empty() ? session->plan_for_cpu() : session->plan_for_cuda());
  return session;
}

Checked Session::plan_for_cpu() {
  const PlanOptions plan_options = {.batch = options_.batch,
                                    .tokens = options_.tokens,
                                    .threads = options_.threads,
                                    .isa = options_.isa,
                                    .family = kernels::cpu_family(),
                                    .keep_tensors = options_.keep_tensors,
                                    .choose_conv = options_.choose_conv};
  MPQ_TRY(plan_, make_plan(model_->graph(), plan_options));
  MPQ_TRY(front_, plan_front(model_->graph(), plan_options, options_.front_steps, &plan_));
  MPQ_CHECK(allocate());
  if (options_.threads > 1 && options_.parallel_for == nullptr) {
    pool_ = ThreadPool::shared();
    MPQ_CHECK(pool_->reserve(options_.threads - 1));
  }
  ThreadPool::Team team = pool_ != nullptr ? pool_->acquire(options_.threads) : ThreadPool::Team();
  MPQ_CHECK(model_->bind_weights(&plan_, &team));
  for (Plan& plan : front_.plans) MPQ_CHECK(model_->bind_weights(&plan, &team));
  std::byte* arena = memory_.data();
  plan_.bind(arena);
  arena += plan_.arena.bytes;
  for (Plan& plan : front_.plans) {
    plan.bind(arena);
    arena += plan.arena.bytes;
  }
  return Ok{};
}

// The host keeps inputs and outputs only; everything else is the program's.
Checked Session::plan_for_cuda() {
  CudaProgramOptions program_options = {.batch = options_.batch,
                                        .tokens = options_.tokens,
                                        .keep_tensors = options_.keep_tensors,
                                        .memory_limit = options_.memory_limit};
  MPQ_TRY(program_options.ordinal, parse_cuda_device(options_.device));
  MPQ_TRY(program_, CudaProgram::create(model_->graph(), program_options, &plan_));
  return allocate();
}

Checked Session::allocate() {
  uint64_t weights = model_->missing_weight_bytes(plan_);
  if (front_.steps != 0) weights += model_->missing_weight_bytes(front_.plans[0]);
  const uint64_t own = uint64_t{arena_bytes()} + scratch_bytes();
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
  std::byte* scratch = memory_.data() + arena_bytes();
  for (uint32_t i = 0; i < options_.threads; ++i, scratch += plan_.scratch_bytes)
    contexts_.push_back({scratch, plan_.scratch_bytes});
  times_.resize(plan_.steps.size());
  front_ns_.resize(size_t{options_.threads} * front_.steps);
  if (program_ != nullptr) device_ns_.resize(plan_.steps.size());
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
  if (program_ != nullptr) return run_on_cuda();
  if (pool_ != nullptr && getpid() != process_)
    return Error{Status::kInvalidArgument,
                 "session with worker threads was created before fork(); create one in the child"};
  const FpScope fp;
  ThreadPool::Team team = pool_ != nullptr ? pool_->acquire(options_.threads) : ThreadPool::Team();
  if (front_.steps != 0) run_front(&team);
  uint64_t begin = options_.profile ? now_ns() : 0;
  for (size_t i = front_.steps; i < plan_.steps.size(); ++i) {
    run_step(plan_.steps[i], &team);
    if (options_.profile) {
      const uint64_t end = now_ns();
      times_[i].add(end - begin);
      begin = end;
    }
    if (options_.step_done != nullptr) {
      options_.step_done(options_.step_done_user, i);
      if (options_.profile) begin = now_ns();
    }
  }
  return Ok{};
}

Checked Session::run_on_cuda() {
  if (getpid() != process_)
    return Error{Status::kInvalidArgument,
                 "session on a GPU was created before fork(); create one in the child"};
  MPQ_CHECK(program_->run(plan_, memory_.data(), options_.profile ? device_ns_.data() : nullptr));
  for (size_t i = 0; options_.profile && i < times_.size(); ++i) times_[i].add(device_ns_[i]);
  return Ok{};
}

// A step's time is the mean of the threads': they work side by side.
void Session::run_front(ThreadPool::Team* team) {
  struct Images {
    Session* session;
    static void run(void* arg, size_t thread) {
      const FpScope fp;
      static_cast<const Images*>(arg)->session->run_images(static_cast<uint32_t>(thread));
    }
  } images = {this};
  parallel_for(team, options_.threads, &Images::run, &images);
  if (!options_.profile) return;
  for (uint32_t i = 0; i < front_.steps; ++i) {
    uint64_t sum = 0;
    for (uint32_t t = 0; t < options_.threads; ++t) sum += front_ns_[t * front_.steps + i];
    times_[i].add(sum / options_.threads);
  }
}

// Every image whose turn is this thread's.
void Session::run_images(uint32_t thread) {
  Plan& plan = front_.plans[thread];
  uint64_t* const ns = &front_ns_[size_t{thread} * front_.steps];
  std::fill_n(ns, front_.steps, 0);
  for (uint32_t image = thread; image < options_.batch; image += options_.threads) {
    front_.take(&plan, image, plan_, memory_.data());
    uint64_t begin = options_.profile ? now_ns() : 0;
    for (uint32_t i = 0; i < front_.steps; ++i) {
      const Step& step = plan.steps[i];
      fill_halos(step);
      step.run(step.args.get(), step.parts[0], contexts_[thread]);
      if (!options_.profile) continue;
      const uint64_t end = now_ns();
      ns[i] += end - begin;
      begin = end;
    }
  }
}

void Session::run_step(const Step& step, ThreadPool::Team* team) {
  fill_halos(step);
  if (step.parts.size() == 1) {
    step.run(step.args.get(), step.parts[0], contexts_[0]);
    return;
  }
  StepTasks tasks = {step, contexts_};
  parallel_for(team, step.parts.size(), &StepTasks::run, &tasks);
}

void Session::parallel_for(ThreadPool::Team* team, size_t tasks, void (*task)(void*, size_t),
                           void* arg) {
  if (options_.parallel_for != nullptr)
    options_.parallel_for(options_.parallel_for_user, tasks, task, arg);
  else
    team->parallel_for(tasks, task, arg);
}

size_t Session::tensor_bytes(format::TensorId id) const {
  const DType type = model_->graph().tensors[id].dtype;
  return plan_.live_dims(id).elements() * (is_code(type) ? 1 : 4);
}

std::span<std::byte> Session::canonical(format::TensorId id) const {
  return {plan_.buffer(memory_.data(), id, Form::kCanonical), tensor_bytes(id)};
}

Checked Session::read_tensor(format::TensorId id, std::span<std::byte> destination) const {
  const TensorPlan& t = plan_.tensors[id];
  const auto has = [&](Form form) { return t.buffers[static_cast<int>(form)] != kNoBuffer; };
  if (has(Form::kCanonical)) {
    std::memcpy(destination.data(), canonical(id).data(), destination.size());
    return Ok{};
  }
  if (program_ != nullptr) return program_->read_tensor(id, plan_.live_dims(id), destination);
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
  return Ok{};
}

void Session::set_profile(bool on) {
  options_.profile = on;
  if (on) times_.assign(times_.size(), {});
}

}  // namespace mpq::runtime
