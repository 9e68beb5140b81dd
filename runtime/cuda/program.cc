#include "runtime/cuda/program.h"

#include <algorithm>
#include <cstring>

#include "runtime/cuda/pixels.h"

namespace mpq::runtime {

Result<std::unique_ptr<CudaProgram>> CudaProgram::create(const format::Model& model,
                                                         const CudaProgramOptions& options,
                                                         Plan* host) {
  MPQ_TRY(CudaDevice device, CudaDevice::open(options.ordinal));
  std::unique_ptr<CudaProgram> program(new CudaProgram(model, std::move(device)));
  const mpq_cuda_info& gpu = program->device_.info();
  program->name_ = "cuda:" + std::to_string(options.ordinal) + " (" + gpu.name + ", sm_" +
                   std::to_string(gpu.arch) + ")";
  MPQ_TRY(program->plan_, make_cuda_plan(model, {.batch = options.batch,
                                                 .tokens = options.tokens,
                                                 .keep_tensors = options.keep_tensors,
                                                 .arch = gpu.arch,
                                                 .processors = gpu.processors}));
  CudaPlan& plan = program->plan_;
  *host = std::move(plan.host);
  if (plan.arena.bytes + plan.constant_bytes > options.memory_limit)
    return Error{Status::kLimit, "session needs " + std::to_string(plan.arena.bytes) +
                                     " bytes on the GPU for activations and " +
                                     std::to_string(plan.constant_bytes) + " for weights, limit " +
                                     std::to_string(options.memory_limit)};
  MPQ_TRY(program->arena_,
          CudaMemory::allocate(program->device_, std::max<size_t>(plan.arena.bytes, 1)));
  MPQ_TRY(program->constants_,
          CudaMemory::allocate(program->device_, std::max<size_t>(plan.constant_bytes, 1)));
  MPQ_CHECK(program->upload_constants());
  plan.bind(program->arena_.address(), program->constants_.address());
  size_t largest = 0;
  for (format::TensorId id = 0; id < model.tensors.size(); ++id) {
    if (model.tensors[id].is_constant()) continue;
    const Dims& dims = host->tensors[id].dims;
    if (!same_on_device(plan.tensors[id], dims, model.tensors[id].dtype))
      largest = std::max(largest, device_bytes(plan.tensors[id], dims, model.tensors[id].dtype));
  }
  program->staging_.resize(largest);
  program->launches_ = program->launches();
  MPQ_CHECK(CudaDevice::check(program->device_.plugin().graph_create(
      program->device_.get(), program->launches_.data(),
      static_cast<uint32_t>(program->launches_.size()), &program->graph_)));
  if (host->starts != nullptr) program->starts_.reserve(size_t{options.batch} + 1);
  return program;
}

CudaProgram::~CudaProgram() { device_.plugin().graph_destroy(device_.get(), graph_); }

// Through a piece of memory of the largest constant.
Checked CudaProgram::upload_constants() {
  for (const CudaConstant& constant : plan_.constants) {
    std::vector<std::byte> bytes(constant.bytes);
    constant.fill(bytes.data());
    MPQ_CHECK(CudaDevice::check(device_.plugin().upload(
        device_.get(), constants_.address() + constant.offset, bytes.data(), bytes.size())));
  }
  return Ok{};
}

// As the plug-in takes them, with the parameters as they are now.
std::vector<mpq_cuda_launch> CudaProgram::launches() const {
  std::vector<mpq_cuda_launch> all;
  for (const CudaLaunch& launch : plan_.launches) {
    const cuda::Grid grid = launch.grid();
    all.push_back({.kernel = launch.kernel,
                   .grid = {grid.x, grid.y, grid.z},
                   .threads = launch.threads,
                   .shared_bytes = launch.shared_bytes,
                   .params = launch.params.get(),
                   .after = launch.after.data(),
                   .after_count = static_cast<uint32_t>(launch.after.size())});
  }
  return all;
}

// The host has fitted the parameters to other sequences: the graph follows.
Checked CudaProgram::fit(const Plan& host) {
  const std::span<const uint32_t> starts(host.starts.get(), size_t{host.live.sequences} + 1);
  if (std::equal(starts.begin(), starts.end(), starts_.begin(), starts_.end())) return Ok{};
  starts_.assign(starts.begin(), starts.end());
  for (size_t i = 0; i < launches_.size(); ++i) {
    const cuda::Grid grid = plan_.launches[i].grid();
    launches_[i].grid[0] = grid.x;
    launches_[i].grid[1] = grid.y;
    launches_[i].grid[2] = grid.z;
  }
  const mpq_cuda_plugin& plugin = device_.plugin();
  MPQ_CHECK(CudaDevice::check(plugin.graph_update(device_.get(), graph_, launches_.data())));
  return CudaDevice::check(
      plugin.upload(device_.get(), address(plan_.starts), starts.data(), starts.size_bytes()));
}

Checked CudaProgram::run(const Plan& host, std::byte* host_arena, uint64_t* ns) {
  const mpq_cuda_plugin& plugin = device_.plugin();
  if (host.starts != nullptr) MPQ_CHECK(fit(host));
  for (const format::TensorId id : model_.inputs) {
    const format::Tensor& t = model_.tensors[id];
    const CudaTensor& placed = plan_.tensors[id];
    const Dims dims = host.live_dims(id);
    const std::byte* from = host.buffer(host_arena, id, Form::kCanonical);
    const size_t bytes = device_bytes(placed, dims, t.dtype);
    if (!same_on_device(placed, dims, t.dtype)) {
      to_device(placed, dims, t.dtype, {from, dims.elements()}, {staging_.data(), bytes});
      from = staging_.data();
    }
    MPQ_CHECK(CudaDevice::check(plugin.upload(device_.get(), address(placed.buffer), from, bytes)));
  }
  MPQ_CHECK(CudaDevice::check(ns == nullptr
                                  ? plugin.graph_run(device_.get(), graph_)
                                  : plugin.run(device_.get(), launches_.data(),
                                               static_cast<uint32_t>(launches_.size()), ns)));
  for (const format::TensorId id : model_.outputs) {
    const Dims dims = host.live_dims(id);
    const size_t bytes = dims.elements() * (is_code(model_.tensors[id].dtype) ? 1 : 4);
    MPQ_CHECK(read_tensor(id, dims, {host.buffer(host_arena, id, Form::kCanonical), bytes}));
  }
  return CudaDevice::check(plugin.synchronize(device_.get()));
}

Checked CudaProgram::read_tensor(format::TensorId id, const Dims& dims,
                                 std::span<std::byte> canonical) const {
  const mpq_cuda_plugin& plugin = device_.plugin();
  const DType type = model_.tensors[id].dtype;
  const CudaTensor& placed = plan_.tensors[id];
  const size_t bytes = device_bytes(placed, dims, type);
  if (same_on_device(placed, dims, type))
    return CudaDevice::check(
        plugin.download(device_.get(), canonical.data(), address(placed.buffer), bytes));
  MPQ_CHECK(CudaDevice::check(
      plugin.download(device_.get(), staging_.data(), address(placed.buffer), bytes)));
  from_device(placed, dims, type, {staging_.data(), bytes}, canonical);
  return Ok{};
}

}  // namespace mpq::runtime
