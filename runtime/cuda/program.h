// A model on a GPU: weights and activations in its memory, launches as one graph. A run copies
// inputs in, replays the graph and copies outputs out; it allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"
#include "runtime/aligned_block.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/plan.h"
#include "runtime/model.h"

namespace mpq::runtime {

struct CudaProgramOptions {
  uint32_t ordinal = 0;  // of the GPU
  uint32_t batch = 1, tokens = 1;
  bool keep_tensors = false;
  uint64_t memory_limit = 0;  // bytes on the GPU
};

// One run at a time, one thread at a time.
class CudaProgram {
 public:
  // host: the plan that the session shows of itself, with steps that only this program can run.
  static Result<std::unique_ptr<CudaProgram>> create(const format::Model& model,
                                                     const CudaProgramOptions& options, Plan* host);
  ~CudaProgram();
  CudaProgram(const CudaProgram&) = delete;
  CudaProgram& operator=(const CudaProgram&) = delete;

  // A run on the inputs in the host's arena; outputs go there, too. ns: null, or the time of each
  // step, which are then launched one by one instead of as a graph.
  Checked run(const Plan& host, std::byte* host_arena, uint64_t* ns);
  // A tensor of the last run in canonical form; of any tensor with keep_tensors.
  Checked read_tensor(format::TensorId id, const Dims& dims, std::span<std::byte> canonical) const;

  const std::string& device_name() const { return name_; }  // "cuda:0 (NVIDIA A100, sm_80)"
  size_t arena_bytes() const { return plan_.arena.bytes; }

 private:
  CudaProgram(const format::Model& model, CudaDevice device)
      : model_(model), device_(std::move(device)) {}
  Checked upload_constants();
  Checked fit(const Plan& host);
  std::vector<mpq_cuda_launch> launches() const;
  uint64_t address(uint32_t buffer) const { return arena_.address() + plan_.arena.offsets[buffer]; }

  const format::Model& model_;
  std::string name_;
  CudaDevice device_;  // goes last
  CudaPlan plan_;
  CudaMemory arena_, constants_;
  mpq_cuda_graph* graph_ = nullptr;
  std::vector<mpq_cuda_launch> launches_;
  std::vector<uint32_t> starts_;            // that the launches are fitted to
  mutable std::vector<std::byte> staging_;  // of the largest tensor whose form changes on the way
};

}  // namespace mpq::runtime
