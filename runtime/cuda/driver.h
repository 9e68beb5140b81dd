// The CUDA driver, found at run time: a table of the functions that the plug-in calls.
#pragma once

#include <cuda.h>

#include <string>

namespace mpq::cuda {

// X(member, symbol): symbols as cuda.h names them for this version of the API.
#define MPQ_CUDA_FUNCTIONS(X)                              \
  X(init, cuInit)                                          \
  X(driver_version, cuDriverGetVersion)                    \
  X(error_name, cuGetErrorName)                            \
  X(device_count, cuDeviceGetCount)                        \
  X(device, cuDeviceGet)                                   \
  X(device_name, cuDeviceGetName)                          \
  X(device_attribute, cuDeviceGetAttribute)                \
  X(device_memory, cuDeviceTotalMem)                       \
  X(context_retain, cuDevicePrimaryCtxRetain)              \
  X(context_release, cuDevicePrimaryCtxRelease)            \
  X(context_use, cuCtxSetCurrent)                          \
  X(module_load, cuModuleLoadData)                         \
  X(module_unload, cuModuleUnload)                         \
  X(function, cuModuleGetFunction)                         \
  X(allocate, cuMemAlloc)                                  \
  X(release, cuMemFree)                                    \
  X(fill, cuMemsetD8Async)                                 \
  X(stream_create, cuStreamCreate)                         \
  X(stream_destroy, cuStreamDestroy)                       \
  X(stream_wait, cuStreamSynchronize)                      \
  X(upload, cuMemcpyHtoDAsync)                             \
  X(download, cuMemcpyDtoHAsync)                           \
  X(launch, cuLaunchKernel)                                \
  X(event_create, cuEventCreate)                           \
  X(event_destroy, cuEventDestroy)                         \
  X(event_record, cuEventRecord)                           \
  X(event_elapsed, cuEventElapsedTime)                     \
  X(graph_create, cuGraphCreate)                           \
  X(graph_destroy, cuGraphDestroy)                         \
  X(graph_add_kernel, cuGraphAddKernelNode)                \
  X(graph_instantiate, cuGraphInstantiate)                 \
  X(graph_exec_destroy, cuGraphExecDestroy)                \
  X(graph_exec_set_kernel, cuGraphExecKernelNodeSetParams) \
  X(graph_launch, cuGraphLaunch)

struct Driver {
#define MPQ_MEMBER(member, symbol) decltype(&symbol) member = nullptr;
  MPQ_CUDA_FUNCTIONS(MPQ_MEMBER)
#undef MPQ_MEMBER
};

// The process's driver, initialised; nullptr and the reason if there is none. Thread-safe.
const Driver* find_driver(std::string* reason);

// "" for success, else "what: CUDA_ERROR_...".
std::string failure(const Driver&, const char* what, CUresult);

}  // namespace mpq::cuda
