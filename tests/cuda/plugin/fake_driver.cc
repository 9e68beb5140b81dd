// A libcuda.so.1 for tests: the driver API's functions that the plug-in calls, over the PTX
// machine. Loads the PTX of a fatbin as a driver does for a chip that it has no machine code for,
// or, for older chips, the PTX that the build has beside it.
//
// A graph's kernels run in an order of their own: of those whose predecessors have ended the one
// added last, or (MPQ_FAKE_CUDA_SEED) any. The environment says what GPU it is:
//   MPQ_FAKE_CUDA_ARCH        75, 80, or 90 (the default); not of 90: MPQ_PTX is the build's folder
//   MPQ_FAKE_CUDA             no_device, old_device, init_fails, out_of_memory, launch_fails
//   MPQ_FAKE_CUDA_LOG         a file: one line a kernel that ran, with its instructions
#include <cuda.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/plugin/faults.h"
#include "tests/cuda/ptx/kernel_texts.h"
#include "tests/cuda/ptx/machine.h"

// The opaque handles of the API.
struct CUmod_st {
  const mpq::ptx::Module* module;
};
struct CUfunc_st {
  std::string name;
  mpq::ptx::Executable executable;
  uint32_t parameter_bytes;
};
struct CUctx_st {
  int retained = 0;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};
struct CUgraphNode_st {
  CUfunction function = nullptr;
  mpq::ptx::Launch launch;
  std::vector<CUgraphNode> after;
};
struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};
struct CUgraphExec_st {
  std::vector<CUgraphNode_st> nodes;  // copies
  std::map<CUgraphNode, size_t> index;
};

namespace {

namespace ptx = mpq::ptx;
using mpq::test::DriverFault;

uint32_t environment(const char* name, uint32_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
}
uint32_t arch() {
  static const uint32_t value = environment("MPQ_FAKE_CUDA_ARCH", 90);
  return value;
}
bool asked_for(const char* misfortune) {
  const char* text = std::getenv("MPQ_FAKE_CUDA");
  return text != nullptr && std::strcmp(text, misfortune) == 0;
}

ptx::Memory& memory() {
  static ptx::Memory all;
  return all;
}
std::map<uint64_t, size_t>& allocations() {
  static std::map<uint64_t, size_t> all;
  return all;
}
CUctx_st the_context;
thread_local CUcontext current = nullptr;
bool initialised = false;

CUresult ready() {
  if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
  return current == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

// The PTX of the newest architecture not beyond ours. A fatbin: 16 bytes of header (magic, version,
// bytes of header, bytes that follow), then images with headers of their own: kind (1: PTX), their
// length, the architecture at 28.
std::string ptx_of(const uint8_t* fatbin) {
  uint32_t magic = 0;
  uint64_t total = 0;
  std::memcpy(&magic, fatbin, 4);
  std::memcpy(&total, fatbin + 8, 8);
  if (magic != 0xba55ed50) return {};
  std::string best;
  uint32_t best_arch = 0;
  for (const uint8_t *at = fatbin + 16, *end = at + total; at < end;) {
    uint16_t kind = 0;
    uint32_t header = 0, image_arch = 0;
    uint64_t bytes = 0;
    std::memcpy(&kind, at, 2);
    std::memcpy(&header, at + 4, 4);
    std::memcpy(&bytes, at + 8, 8);
    std::memcpy(&image_arch, at + 28, 4);
    if (kind == 1 && image_arch <= std::max(arch(), 90U) && image_arch >= best_arch) {
      best_arch = image_arch;
      best.assign(reinterpret_cast<const char*>(at + header), bytes);
      best.resize(best.find_last_not_of(std::string("\0 \n", 3)) + 1);
    }
    at += header + bytes;
  }
  return best;
}

// The same kernel for an older architecture than the fatbin has PTX of.
const ptx::Module* older_module(const char* kernel) {
  static std::map<std::string, std::unique_ptr<ptx::Module>> modules;
  static const auto texts = [] {
    const char* folder = std::getenv("MPQ_PTX");
    return mpq::test::KernelTexts::read(folder != nullptr ? folder : ".", arch());
  }();
  auto& module = modules[kernel];
  const std::string* text = texts.ok() ? texts->find(kernel) : nullptr;
  if (module == nullptr && text != nullptr) {
    auto parsed = ptx::parse(*text);
    if (parsed.ok()) module = std::make_unique<ptx::Module>(std::move(*parsed));
  }
  return module.get();
}

// What tests plant (faults.h).
DriverFault fault;
size_t seen = 0;  // of what the fault counts

// Whether this is the one call that the fault is about.
bool strikes(DriverFault::Kind kind) { return fault.kind == kind && seen++ == fault.index; }

CUresult run(const CUfunc_st& function, ptx::Launch launch) {
  if (asked_for("launch_fails")) return CUDA_ERROR_LAUNCH_FAILED;
  if (fault.kernel[0] != '\0' && function.name.starts_with(fault.kernel)) {
    if (strikes(DriverFault::kNoLaunch)) return CUDA_SUCCESS;
    if (strikes(DriverFault::kGrid)) {
      if (launch.grid.x * launch.grid.y * launch.grid.z == 1) return CUDA_SUCCESS;
      --(launch.grid.z > 1 ? launch.grid.z : launch.grid.x > 1 ? launch.grid.x : launch.grid.y);
    }
    if (strikes(DriverFault::kShared)) launch.shared_bytes -= 16;
    if (strikes(DriverFault::kParameter)) {
      uint32_t word = 0;
      std::memcpy(&word, &launch.parameters.at(fault.offset), sizeof word);
      word += fault.add;
      std::memcpy(&launch.parameters.at(fault.offset), &word, sizeof word);
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto result =
      function.executable.run(launch, memory(), {.seed = 1, .async = ptx::Async::kRandom});
  if (!result.ok()) {
    std::fprintf(stderr, "fake driver: %s\n", result.error().message.c_str());
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  static std::FILE* const log = [] {
    const char* path = std::getenv("MPQ_FAKE_CUDA_LOG");
    return path != nullptr ? std::fopen(path, "w") : nullptr;
  }();
  if (log != nullptr) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::fprintf(log, "%s %u %u %u instructions %llu mma %llu seconds %.2f\n",
                 function.name.c_str(), launch.grid.x, launch.grid.y, launch.grid.z,
                 static_cast<unsigned long long>(result->thread_instructions),
                 static_cast<unsigned long long>(result->mma), seconds.count());
    std::fflush(log);
  }
  return CUDA_SUCCESS;
}

ptx::Launch launch_of(CUfunction function, ptx::Dim3 grid, ptx::Dim3 block, uint32_t shared_bytes,
                      void** params) {
  ptx::Launch launch{grid, block, shared_bytes, {}};
  const auto* bytes = static_cast<const uint8_t*>(params[0]);  // our kernels take one struct
  launch.parameters.assign(bytes, bytes + function->parameter_bytes);
  return launch;
}
ptx::Launch launch_of(const CUDA_KERNEL_NODE_PARAMS& p) {
  return launch_of(p.func, {p.gridDimX, p.gridDimY, p.gridDimZ},
                   {p.blockDimX, p.blockDimY, p.blockDimZ}, p.sharedMemBytes, p.kernelParams);
}

}  // namespace

extern "C" {

void mpq_fake_cuda_plant(const DriverFault* planted) {
  fault = *planted;
  seen = 0;
}

CUresult cuInit(unsigned) {
  if (asked_for("init_fails")) return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
  initialised = true;
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char** name) {
  static const std::map<CUresult, const char*> names = {
      {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
      {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
      {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}};
  const auto found = names.find(error);
  *name = found == names.end() ? nullptr : found->second;
  return found == names.end() ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
  *count = asked_for("no_device") ? 0 : 1;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  std::snprintf(name, static_cast<size_t>(length), "PTX machine");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  const auto is = static_cast<int>(asked_for("old_device") ? 61 : arch());
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = is / 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = is % 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = static_cast<int>(environment("MPQ_FAKE_CUDA_PROCESSORS", 40));  // a T4's
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = size_t{1} << 30;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  ++the_context.retained;
  *context = &the_context;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  if (--the_context.retained > 0) return CUDA_SUCCESS;
  if (!allocations().empty())  // a real driver frees it; here it is a leak of the plug-in's user
    std::fprintf(stderr, "fake driver: %zu allocations left\n", allocations().size());
  for (const auto& [address, bytes] : allocations()) memory().release(address);
  allocations().clear();
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  current = context;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  static std::map<const void*, std::unique_ptr<ptx::Module>> known;  // sessions come and go
  std::unique_ptr<ptx::Module>& text = known[image];
  if (text == nullptr) {
    auto parsed = ptx::parse(ptx_of(static_cast<const uint8_t*>(image)));
    if (!parsed.ok() || parsed->kernels.empty()) return CUDA_ERROR_INVALID_IMAGE;
    text = std::make_unique<ptx::Module>(std::move(*parsed));
  }
  *module = new CUmod_st{text.get()};
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  delete module;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  static std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
  if (module->module->kernel(name) == nullptr) return CUDA_ERROR_NOT_FOUND;
  std::unique_ptr<CUfunc_st>& known = functions[name];
  *function = known.get();
  if (known != nullptr) return CUDA_SUCCESS;
  const ptx::Module* text = arch() < 90 ? older_module(name) : module->module;
  if (text == nullptr || text->kernel(name) == nullptr) return CUDA_ERROR_INVALID_IMAGE;
  auto executable = ptx::Executable::load(*text, name, memory());
  if (!executable.ok()) {
    std::fprintf(stderr, "fake driver: %s\n", executable.error().message.c_str());
    return CUDA_ERROR_INVALID_IMAGE;
  }
  uint64_t bytes = 0;
  for (const ptx::Variable& p : text->kernel(name)->parameters)
    bytes = (bytes + p.align - 1) / p.align * p.align + p.bytes;
  known = std::make_unique<CUfunc_st>(
      CUfunc_st{name, std::move(*executable), static_cast<uint32_t>(bytes)});
  *function = known.get();
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (asked_for("out_of_memory") || bytes > (size_t{1} << 30)) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = memory().allocate(bytes);
  allocations()[*address] = bytes;
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  if (allocations().erase(address) == 0) return CUDA_ERROR_INVALID_VALUE;
  memory().release(address);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  uint8_t* at = memory().at(to, bytes, true);
  if (at == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (strikes(DriverFault::kNoFill)) return CUDA_SUCCESS;
  std::memset(at, value, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  uint8_t* at = memory().at(to, bytes, true);
  if (at == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (strikes(DriverFault::kNoUpload)) return CUDA_SUCCESS;
  std::memcpy(at, from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  const uint8_t* at = memory().at(from, bytes, false);
  if (at == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (strikes(DriverFault::kNoDownload)) return CUDA_SUCCESS;
  std::memcpy(to, at, bytes);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  *stream = nullptr;
  return ready();
}
CUresult cuStreamDestroy(CUstream) { return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream) { return ready(); }

CUresult cuEventCreate(CUevent* event, unsigned) {
  *event = new CUevent_st;
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
  delete event;
  return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream) {
  event->time = std::chrono::steady_clock::now();
  return ready();
}
CUresult cuEventElapsedTime(float* ms, CUevent from, CUevent to) {
  *ms = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared_bytes, CUstream, void** params,
                        void**) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  return run(*function, launch_of(function, {gx, gy, gz}, {bx, by, bz}, shared_bytes, params));
}

CUresult cuGraphCreate(CUgraph* graph, unsigned) {
  *graph = new CUgraph_st;
  return ready();
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete graph;
  return CUDA_SUCCESS;
}
CUresult cuGraphAddKernelNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                              size_t count, const CUDA_KERNEL_NODE_PARAMS* p) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  auto added = std::make_unique<CUgraphNode_st>();
  added->function = p->func;
  added->launch = launch_of(*p);
  added->after.assign(after, after + count);
  *node = added.get();
  graph->nodes.push_back(std::move(added));
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  *exec = new CUgraphExec_st;
  for (const auto& node : graph->nodes) {
    (*exec)->index[node.get()] = (*exec)->nodes.size();
    (*exec)->nodes.push_back(*node);
  }
  return ready();
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  delete exec;
  return CUDA_SUCCESS;
}
CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS* p) {
  const auto found = exec->index.find(node);
  if (found == exec->index.end()) return CUDA_ERROR_INVALID_VALUE;
  if (strikes(DriverFault::kNoUpdate)) return CUDA_SUCCESS;
  exec->nodes[found->second].function = p->func;
  exec->nodes[found->second].launch = launch_of(*p);
  return ready();
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream) {
  if (const CUresult r = ready(); r != CUDA_SUCCESS) return r;
  static std::mt19937 random(environment("MPQ_FAKE_CUDA_SEED", 0));
  const bool any = std::getenv("MPQ_FAKE_CUDA_SEED") != nullptr;
  std::vector<bool> ended(exec->nodes.size());
  for (size_t left = exec->nodes.size(); left > 0; --left) {
    std::vector<size_t> candidates;
    for (size_t i = 0; i < exec->nodes.size(); ++i) {
      const auto& after = exec->nodes[i].after;
      if (!ended[i] && std::all_of(after.begin(), after.end(), [&](CUgraphNode before) {
            return ended[exec->index.at(before)] || fault.kind == DriverFault::kNoOrder;
          }))
        candidates.push_back(i);
    }
    const size_t next = any ? candidates[random() % candidates.size()] : candidates.back();
    const CUresult r = run(*exec->nodes[next].function, exec->nodes[next].launch);
    if (r != CUDA_SUCCESS) return r;
    ended[next] = true;
  }
  return CUDA_SUCCESS;
}

}  // extern "C"
