#include "runtime/cuda/device.h"

#include <dlfcn.h>
#include <unistd.h>

#include <charconv>
#include <string_view>
#include <utility>

namespace mpq::runtime {
namespace {

constexpr const char* kFile = "libmpq_cuda.so";

Error unavailable(const std::string& reason) {
  return {Status::kDevice, "device unavailable: " + reason};
}

// The plug-in of the same installation, or else the system's.
std::string plugin_path() {
  Dl_info here = {};
  if (dladdr(reinterpret_cast<const void*>(&parse_cuda_device), &here) == 0 ||
      here.dli_fname == nullptr)
    return kFile;
  std::string path = here.dli_fname;
  path.resize(path.rfind('/') + 1);  // nothing is left of a name without a folder
  path += kFile;
  return access(path.c_str(), R_OK) == 0 ? path : kFile;
}

Result<const mpq_cuda_plugin*> load_plugin() {
  void* const library = dlopen(plugin_path().c_str(), RTLD_NOW | RTLD_LOCAL);  // for good
  if (library == nullptr) {
    const char* const why = dlerror();
    return unavailable("no CUDA plug-in (" + std::string(why != nullptr ? why : kFile) + ")");
  }
  const auto get = reinterpret_cast<mpq_cuda_plugin_get_fn>(dlsym(library, "mpq_cuda_plugin_get"));
  const mpq_cuda_plugin* const plugin = get != nullptr ? get(MPQ_CUDA_ABI) : nullptr;
  if (plugin == nullptr || plugin->struct_size < sizeof(mpq_cuda_plugin))
    return unavailable(std::string(kFile) + " is of another version than this library");
  return plugin;
}

}  // namespace

Result<uint32_t> parse_cuda_device(const std::string& name) {
  constexpr std::string_view kPrefix = "cuda:";
  uint32_t ordinal = 0;
  const char* const end = name.data() + name.size();
  if (name == "cuda") return ordinal;
  if (name.starts_with(kPrefix)) {
    const auto [stop, failure] = std::from_chars(name.data() + kPrefix.size(), end, ordinal);
    if (failure == std::errc() && stop == end) return ordinal;
  }
  return Error{Status::kInvalidArgument,
               "device: " + name.substr(0, 32) + " is not cpu, cuda or cuda:N"};
}

CudaDevice::CudaDevice(const mpq_cuda_plugin* plugin, mpq_cuda_device* device)
    : plugin_(plugin), device_(device, Close{plugin}) {
  plugin->info(device, &info_);
}

Result<CudaDevice> CudaDevice::open(uint32_t ordinal) {
  static const Result<const mpq_cuda_plugin*> plugin = load_plugin();
  if (!plugin.ok()) return plugin.error();
  mpq_cuda_device* device = nullptr;
  const char* const wrong = (*plugin)->open(ordinal, &device);
  if (wrong != nullptr) return unavailable(wrong);
  return CudaDevice(*plugin, device);
}

Checked CudaDevice::check(const char* wrong) {
  if (wrong == nullptr) return Ok{};
  return Error{Status::kDevice, wrong};
}

Result<CudaMemory> CudaMemory::allocate(const CudaDevice& device, size_t bytes) {
  CudaMemory memory;
  const char* const wrong = device.plugin().allocate(device.get(), bytes, &memory.address_);
  if (wrong != nullptr)
    return Error{Status::kDevice, std::to_string(bytes) + " bytes of device memory: " + wrong};
  memory.plugin_ = &device.plugin();
  memory.device_ = device.get();
  return memory;
}

CudaMemory& CudaMemory::operator=(CudaMemory&& other) noexcept {
  std::swap(plugin_, other.plugin_);
  std::swap(device_, other.device_);
  std::swap(address_, other.address_);
  return *this;
}

CudaMemory::~CudaMemory() {
  if (plugin_ != nullptr) plugin_->release(device_, address_);
}

}  // namespace mpq::runtime
