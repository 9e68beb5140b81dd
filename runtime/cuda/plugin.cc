// libmpq_cuda.so: devices, memory, launches and graphs of them through the driver API, with the
// kernels inside as fatbins of every architecture.
#include "runtime/cuda/plugin.h"

#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "runtime/cuda/driver.h"
#include "runtime/cuda/fatbins.h"

struct mpq_cuda_device {
  const mpq::cuda::Driver* driver = nullptr;
  CUdevice ordinal = 0;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  std::vector<CUmodule> modules;
  std::map<std::string, CUfunction, std::less<>> kernels;  // found so far
};

struct mpq_cuda_graph {
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  std::vector<CUgraphNode> nodes;
};

namespace mpq::cuda {
namespace {

// A failure on its way to the caller: "what: CUDA_ERROR_...".
struct Failure {
  std::string text;
};

// What the last call of this thread has to say; NULL when it went well.
template <typename Call>
const char* say(Call call) {
  thread_local std::string kept;
  try {
    call();
    return nullptr;
  } catch (Failure& failure) {
    kept = std::move(failure.text);
    return kept.c_str();
  } catch (const std::bad_alloc&) {
    return "out of memory";
  }
}

void must(const Driver& driver, const char* what, CUresult result) {
  if (result != CUDA_SUCCESS) throw Failure{failure(driver, what, result)};
}

// Every call works on the device's context, whichever thread it comes from.
template <typename Call>
const char* on(mpq_cuda_device* device, Call call) {
  return say([&] {
    const Driver& d = *device->driver;
    must(d, "cuCtxSetCurrent", d.context_use(device->context));
    call(d);
  });
}

void close(mpq_cuda_device* device) {
  if (device == nullptr) return;
  const Driver& d = *device->driver;
  if (device->context != nullptr) {
    d.context_use(device->context);
    for (CUmodule module : device->modules) d.module_unload(module);
    if (device->stream != nullptr) d.stream_destroy(device->stream);
    d.context_release(device->ordinal);
  }
  delete device;
}
struct Close {
  void operator()(mpq_cuda_device* device) const { close(device); }
};

constexpr int kOldest = 75;

int attribute_of(const Driver& d, CUdevice device, CUdevice_attribute which) {
  int value = 0;
  must(d, "cuDeviceGetAttribute", d.device_attribute(&value, which, device));
  return value;
}
int arch_of(const Driver& d, CUdevice device) {
  return attribute_of(d, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
         attribute_of(d, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

const char* open(uint32_t ordinal, mpq_cuda_device** out) {
  *out = nullptr;
  return say([&] {
    std::string reason;
    const Driver* d = find_driver(&reason);
    if (d == nullptr) throw Failure{reason};
    int count = 0;
    must(*d, "cuDeviceGetCount", d->device_count(&count));
    if (count == 0) throw Failure{"the NVIDIA driver sees no GPU"};
    const std::string name = "GPU " + std::to_string(ordinal);
    if (ordinal >= static_cast<uint32_t>(count))
      throw Failure{name + " asked for, the driver sees " + std::to_string(count)};
    std::unique_ptr<mpq_cuda_device, Close> device(new mpq_cuda_device);
    device->driver = d;
    must(*d, "cuDeviceGet", d->device(&device->ordinal, static_cast<int>(ordinal)));
    const int arch = arch_of(*d, device->ordinal);
    if (arch < kOldest)
      throw Failure{name + " has compute capability " + std::to_string(arch / 10) + "." +
                    std::to_string(arch % 10) + ", 7.5 or later is needed"};
    must(*d, "cuDevicePrimaryCtxRetain", d->context_retain(&device->context, device->ordinal));
    must(*d, "cuCtxSetCurrent", d->context_use(device->context));
    must(*d, "cuStreamCreate", d->stream_create(&device->stream, CU_STREAM_NON_BLOCKING));
    for (const void* fatbin : kFatbins) {
      CUmodule module = nullptr;
      must(*d, "cuModuleLoadData", d->module_load(&module, fatbin));
      device->modules.push_back(module);
    }
    *out = device.release();
  });
}

void info(const mpq_cuda_device* device, mpq_cuda_info* out) {
  const Driver& d = *device->driver;
  *out = {};
  size_t bytes = 0;
  say([&] {
    d.device_name(out->name, sizeof out->name, device->ordinal);
    out->arch = static_cast<uint32_t>(arch_of(d, device->ordinal));
    out->processors = static_cast<uint32_t>(
        attribute_of(d, device->ordinal, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
    must(d, "cuDeviceTotalMem", d.device_memory(&bytes, device->ordinal));
  });
  out->memory_bytes = bytes;
}

const char* allocate(mpq_cuda_device* device, uint64_t bytes, uint64_t* address) {
  return on(device, [&](const Driver& d) {
    CUdeviceptr p = 0;
    must(d, "cuMemAlloc", d.allocate(&p, bytes));
    const CUresult filled = d.fill(p, 0, bytes, device->stream);
    if (filled != CUDA_SUCCESS) d.release(p);
    must(d, "cuMemsetD8Async", filled);
    *address = p;
  });
}
const char* release(mpq_cuda_device* device, uint64_t address) {
  return on(device, [&](const Driver& d) { must(d, "cuMemFree", d.release(address)); });
}
// Returns once the bytes have been read: they are the caller's again.
const char* upload(mpq_cuda_device* device, uint64_t to, const void* from, uint64_t bytes) {
  return on(device, [&](const Driver& d) {
    must(d, "cuMemcpyHtoDAsync", d.upload(to, from, bytes, device->stream));
    must(d, "cuStreamSynchronize", d.stream_wait(device->stream));
  });
}
const char* download(mpq_cuda_device* device, void* to, uint64_t from, uint64_t bytes) {
  return on(device, [&](const Driver& d) {
    must(d, "cuMemcpyDtoHAsync", d.download(to, from, bytes, device->stream));
    must(d, "cuStreamSynchronize", d.stream_wait(device->stream));
  });
}
const char* synchronize(mpq_cuda_device* device) {
  return on(device, [&](const Driver& d) {
    must(d, "cuStreamSynchronize", d.stream_wait(device->stream));
  });
}

CUfunction find_kernel(mpq_cuda_device* device, const char* name) {
  const auto found = device->kernels.find(name);
  if (found != device->kernels.end()) return found->second;
  CUresult result = CUDA_ERROR_NOT_FOUND;
  for (CUmodule module : device->modules) {
    CUfunction function = nullptr;
    result = device->driver->function(&function, module, name);
    if (result == CUDA_SUCCESS) return device->kernels.emplace(name, function).first->second;
    if (result != CUDA_ERROR_NOT_FOUND) break;
  }
  throw Failure{failure(*device->driver, name, result)};
}

// Where launches leave the time at which they began, and the last one ended.
class Events {
 public:
  Events(mpq_cuda_device* device, size_t count) : device_(device), events_(count) {}
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events() {
    for (CUevent event : events_)
      if (event != nullptr) driver().event_destroy(event);
  }
  void record(size_t i) {
    must(driver(), "cuEventCreate", driver().event_create(&events_[i], CU_EVENT_DEFAULT));
    must(driver(), "cuEventRecord", driver().event_record(events_[i], device_->stream));
  }
  uint64_t nanoseconds(size_t i) const {
    float ms = 0.0F;
    must(driver(), "cuEventElapsedTime", driver().event_elapsed(&ms, events_[i], events_[i + 1]));
    return static_cast<uint64_t>(static_cast<double>(ms) * 1e6);
  }

 private:
  const Driver& driver() const { return *device_->driver; }
  mpq_cuda_device* device_;
  std::vector<CUevent> events_;
};

const char* run(mpq_cuda_device* device, const mpq_cuda_launch* launches, uint32_t count,
                uint64_t* ns) {
  return on(device, [&](const Driver& d) {
    Events events(device, ns != nullptr ? size_t{count} + 1 : 0);
    if (ns != nullptr) events.record(0);
    for (uint32_t i = 0; i < count; ++i) {
      const mpq_cuda_launch& l = launches[i];
      void* params[] = {const_cast<void*>(l.params)};
      must(d, l.kernel,
           d.launch(find_kernel(device, l.kernel), l.grid[0], l.grid[1], l.grid[2], l.threads, 1, 1,
                    l.shared_bytes, device->stream, params, nullptr));
      if (ns != nullptr) events.record(i + 1);
    }
    if (ns == nullptr) return;
    must(d, "cuStreamSynchronize", d.stream_wait(device->stream));
    for (uint32_t i = 0; i < count; ++i) ns[i] = events.nanoseconds(i);
  });
}

// `params` is what kernelParams points to: the driver copies it during the call.
CUDA_KERNEL_NODE_PARAMS node_of(mpq_cuda_device* device, const mpq_cuda_launch& l, void** params) {
  params[0] = const_cast<void*>(l.params);
  CUDA_KERNEL_NODE_PARAMS node = {};
  node.func = find_kernel(device, l.kernel);
  node.gridDimX = l.grid[0];
  node.gridDimY = l.grid[1];
  node.gridDimZ = l.grid[2];
  node.blockDimX = l.threads;
  node.blockDimY = node.blockDimZ = 1;
  node.sharedMemBytes = l.shared_bytes;
  node.kernelParams = params;
  return node;
}

void graph_destroy(mpq_cuda_device* device, mpq_cuda_graph* graph) {
  if (graph == nullptr) return;
  on(device, [&](const Driver& d) {
    if (graph->exec != nullptr) d.graph_exec_destroy(graph->exec);
    if (graph->graph != nullptr) d.graph_destroy(graph->graph);
  });
  delete graph;
}

const char* graph_create(mpq_cuda_device* device, const mpq_cuda_launch* launches, uint32_t count,
                         mpq_cuda_graph** out) {
  *out = nullptr;
  return on(device, [&](const Driver& d) {
    const auto destroy = [device](mpq_cuda_graph* graph) { graph_destroy(device, graph); };
    std::unique_ptr<mpq_cuda_graph, decltype(destroy)> graph(new mpq_cuda_graph, destroy);
    must(d, "cuGraphCreate", d.graph_create(&graph->graph, 0));
    graph->nodes.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      void* params[1];
      const CUDA_KERNEL_NODE_PARAMS node = node_of(device, launches[i], params);
      std::vector<CUgraphNode> after;
      for (uint32_t j = 0; j < launches[i].after_count; ++j) {
        if (launches[i].after[j] >= i) throw Failure{"a launch that waits for a later one"};
        after.push_back(graph->nodes[launches[i].after[j]]);
      }
      must(d, launches[i].kernel,
           d.graph_add_kernel(&graph->nodes[i], graph->graph, after.data(), after.size(), &node));
    }
    must(d, "cuGraphInstantiate", d.graph_instantiate(&graph->exec, graph->graph, 0));
    *out = graph.release();
  });
}

const char* graph_update(mpq_cuda_device* device, mpq_cuda_graph* graph,
                         const mpq_cuda_launch* launches) {
  return on(device, [&](const Driver& d) {
    for (size_t i = 0; i < graph->nodes.size(); ++i) {
      void* params[1];
      const CUDA_KERNEL_NODE_PARAMS node = node_of(device, launches[i], params);
      must(d, launches[i].kernel, d.graph_exec_set_kernel(graph->exec, graph->nodes[i], &node));
    }
  });
}

const char* graph_run(mpq_cuda_device* device, mpq_cuda_graph* graph) {
  return on(device, [&](const Driver& d) {
    must(d, "cuGraphLaunch", d.graph_launch(graph->exec, device->stream));
  });
}

constexpr mpq_cuda_plugin kPlugin = {MPQ_CUDA_ABI, sizeof(mpq_cuda_plugin),
                                     open,         close,
                                     info,         allocate,
                                     release,      upload,
                                     download,     synchronize,
                                     run,          graph_create,
                                     graph_update, graph_run,
                                     graph_destroy};

}  // namespace
}  // namespace mpq::cuda

extern "C" __attribute__((visibility("default"))) const mpq_cuda_plugin* mpq_cuda_plugin_get(
    uint32_t abi) {
  return abi == MPQ_CUDA_ABI ? &mpq::cuda::kPlugin : nullptr;
}
