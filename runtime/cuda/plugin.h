/* The C ABI between the library and libmpq_cuda.so, which is opened with dlopen: nothing links
 * CUDA, and its absence is a sentence.
 *
 * Functions that can fail return NULL on success, else a text that stays valid until this thread's
 * next call. A device is used by one thread at a time; several of them may share a GPU. Addresses
 * are the GPU's. Work runs in the order it was given; download() and synchronize() wait for it.
 * Append only: callers check abi and struct_size.
 */
#ifndef MPQ_RUNTIME_CUDA_PLUGIN_H
#define MPQ_RUNTIME_CUDA_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MPQ_CUDA_ABI 1

typedef struct mpq_cuda_device mpq_cuda_device;
typedef struct mpq_cuda_graph mpq_cuda_graph;

typedef struct mpq_cuda_info {
  char name[64];
  uint32_t arch; /* 89 for compute capability 8.9 */
  uint32_t processors;
  uint64_t memory_bytes;
} mpq_cuda_info;

typedef struct mpq_cuda_launch {
  const char* kernel; /* kernels/cuda/kernels.h */
  uint32_t grid[3];
  uint32_t threads, shared_bytes;
  const void* params; /* the kernel's one struct; copied */
  /* Of a graph: earlier launches that must have ended before this one begins. */
  const uint32_t* after;
  uint32_t after_count;
} mpq_cuda_launch;

typedef struct mpq_cuda_plugin {
  uint32_t abi, struct_size;
  const char* (*open)(uint32_t ordinal, mpq_cuda_device**);
  void (*close)(mpq_cuda_device*); /* NULL is fine */
  void (*info)(const mpq_cuda_device*, mpq_cuda_info*);
  const char* (*allocate)(mpq_cuda_device*, uint64_t bytes, uint64_t* address); /* filled with 0 */
  const char* (*release)(mpq_cuda_device*, uint64_t address);
  const char* (*upload)(mpq_cuda_device*, uint64_t to, const void* from, uint64_t bytes);
  const char* (*download)(mpq_cuda_device*, void* to, uint64_t from, uint64_t bytes);
  const char* (*synchronize)(mpq_cuda_device*);
  /* One launch after the other; ns (NULL: not asked for): how long each took. */
  const char* (*run)(mpq_cuda_device*, const mpq_cuda_launch*, uint32_t count, uint64_t* ns);
  const char* (*graph_create)(mpq_cuda_device*, const mpq_cuda_launch*, uint32_t count,
                              mpq_cuda_graph**);
  /* The launches of graph_create with other grids and params. */
  const char* (*graph_update)(mpq_cuda_device*, mpq_cuda_graph*, const mpq_cuda_launch*);
  const char* (*graph_run)(mpq_cuda_device*, mpq_cuda_graph*);
  void (*graph_destroy)(mpq_cuda_device*, mpq_cuda_graph*); /* NULL is fine */
} mpq_cuda_plugin;

/* NULL if the plug-in does not speak this version. */
const mpq_cuda_plugin* mpq_cuda_plugin_get(uint32_t abi);
typedef const mpq_cuda_plugin* (*mpq_cuda_plugin_get_fn)(uint32_t abi);

#ifdef __cplusplus
}
#endif
#endif
