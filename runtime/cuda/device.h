// A GPU as C++ values, over the plug-in's C interface (plugin.h). The library links nothing of
// CUDA: libmpq_cuda.so is looked for when the first session asks for a GPU, beside this library and
// then where the system looks for libraries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "format/status.h"
#include "runtime/cuda/plugin.h"

namespace mpq::runtime {

// Which GPU a word means: "cuda" and "cuda:0" the first. Status::kInvalidArgument for other words.
Result<uint32_t> parse_cuda_device(const std::string& name);

// Used by one thread at a time.
class CudaDevice {
 public:
  // Status::kDevice, "device unavailable: " and why, where there is no such GPU.
  static Result<CudaDevice> open(uint32_t ordinal);

  const mpq_cuda_info& info() const { return info_; }
  mpq_cuda_device* get() const { return device_.get(); }
  const mpq_cuda_plugin& plugin() const { return *plugin_; }
  // The error behind what a function of the plug-in returned.
  static Checked check(const char* wrong);

 private:
  struct Close {
    const mpq_cuda_plugin* plugin;
    void operator()(mpq_cuda_device* device) const { plugin->close(device); }
  };
  CudaDevice(const mpq_cuda_plugin* plugin, mpq_cuda_device* device);

  const mpq_cuda_plugin* plugin_;
  std::unique_ptr<mpq_cuda_device, Close> device_;
  mpq_cuda_info info_ = {};
};

// Memory of a GPU, which must outlive it. 256-byte aligned, 0 at first.
class CudaMemory {
 public:
  CudaMemory() = default;
  static Result<CudaMemory> allocate(const CudaDevice& device, size_t bytes);
  CudaMemory(CudaMemory&& other) noexcept { *this = std::move(other); }
  CudaMemory& operator=(CudaMemory&& other) noexcept;
  ~CudaMemory();

  uint64_t address() const { return address_; }

 private:
  const mpq_cuda_plugin* plugin_ = nullptr;
  mpq_cuda_device* device_ = nullptr;
  uint64_t address_ = 0;
};

}  // namespace mpq::runtime
