// A plan with memory and threads: one run at a time. After creation nothing allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "format/status.h"
#include "runtime/aligned_block.h"
#include "runtime/cuda/program.h"
#include "runtime/front.h"
#include "runtime/model.h"
#include "runtime/plan.h"
#include "runtime/thread_pool.h"

namespace mpq::runtime {

// Runs task(arg, i) for i in [0, tasks) on threads of the host.
using ParallelForFn = void (*)(void* user, size_t tasks, void (*task)(void* arg, size_t index),
                               void* arg);

struct SessionOptions {
  uint32_t batch = 1;
  uint32_t tokens = 1;  // of sequence models
  uint32_t threads = 1;
  kernels::IsaMask isa = kernels::kIsaScalar;
  bool keep_tensors = false;
  bool profile = false;
  uint32_t front_steps = kChosenFront;  // that run image by image
  uint64_t memory_limit = uint64_t{2} << 30;
  ParallelForFn parallel_for = nullptr;
  void* parallel_for_user = nullptr;
  Allocator allocator;
  void (*step_done)(void* user, size_t step) = nullptr;  // after each; front_steps is 0 then
  void* step_done_user = nullptr;
  ChooseConv choose_conv;  // null: by the costs of this machine's family of cores
  std::string device;      // "cuda" or "cuda:N"; empty: the CPU
};

struct StepTime {
  uint64_t runs = 0, last_ns = 0, total_ns = 0;
  void add(uint64_t ns) {
    ++runs;
    last_ns = ns;
    total_ns += ns;
  }
};

class Session {
 public:
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model,
                                                 const SessionOptions& options);
  // The input of a sequence model: ids, and types when the model has them (null: all 0), of
  // sequences one behind the other. Checks everything; on an error nothing has changed.
  Checked set_sequences(const int32_t* ids, const int32_t* types, const uint32_t* lengths,
                        size_t count);
  // Fails only in the child of a fork that lost the workers, and when a GPU does.
  Checked run();

  const Model& model() const { return *model_; }
  const std::shared_ptr<const Model>& shared_model() const { return model_; }
  const SessionOptions& options() const { return options_; }
  const Plan& plan() const { return plan_; }

  // In the caller's order; inputs and outputs of the graph always, others after a run with
  // keep_tensors.
  std::span<std::byte> input(size_t i) const { return canonical(model_->graph().inputs[i]); }
  std::span<std::byte> output(size_t i) const { return canonical(model_->graph().outputs[i]); }
  Checked read_tensor(format::TensorId id, std::span<std::byte> destination) const;
  // Bytes of a tensor in the caller's order.
  size_t tensor_bytes(format::TensorId id) const;

  size_t arena_bytes() const {  // of the host
    return plan_.arena.bytes + front_.plans.size() * front_.arena_bytes();
  }
  // Of all activations, wherever they are.
  size_t activation_bytes() const {
    return arena_bytes() + (program_ != nullptr ? program_->arena_bytes() : 0);
  }
  const char* device_name() const {
    return program_ != nullptr ? program_->device_name().c_str() : "cpu";
  }
  const Front& front() const { return front_; }
  size_t scratch_bytes() const { return plan_.scratch_bytes * options_.threads; }
  const StepTime& time(size_t step) const { return times_[step]; }
  void set_profile(bool on);

 private:
  Session() = default;
  Checked plan_for_cpu();
  Checked plan_for_cuda();
  Checked allocate();
  Checked run_on_cuda();
  void run_front(ThreadPool::Team* team);
  void run_images(uint32_t thread);
  void run_step(const Step& step, ThreadPool::Team* team);
  void parallel_for(ThreadPool::Team* team, size_t tasks, void (*task)(void*, size_t), void* arg);
  std::span<std::byte> canonical(format::TensorId id) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<ThreadPool>
      pool_;  // shared by the process; null when this session has one thread
  SessionOptions options_;
  Plan plan_;
  Front front_;
  AlignedBlock memory_;  // arena, arenas of the front, then scratch of every thread
  std::unique_ptr<CudaProgram> program_;  // null: the CPU runs the plan
  std::vector<kernels::KernelContext> contexts_;
  std::vector<StepTime> times_;
  std::vector<uint64_t> front_ns_;   // of a run: of each thread, each step
  std::vector<uint64_t> device_ns_;  // of a run on a GPU: of each step
  int process_ = 0;
};

}  // namespace mpq::runtime
