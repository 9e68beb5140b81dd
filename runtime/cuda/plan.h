// format::Model -> CudaPlan: kernels of kernels/cuda with their parameters, the order they need,
// and offsets for everything they touch. Pure: knows a GPU by two numbers, touches none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "format/model.h"
#include "format/status.h"
#include "kernels/cuda/kernels.h"
#include "runtime/arena.h"
#include "runtime/plan.h"

namespace mpq::runtime {

struct CudaPlanOptions {
  uint32_t batch = 1, tokens = 1;  // as PlanOptions
  bool keep_tensors = false;
  uint32_t arch = 80, processors = 1;  // of the GPU
};

// How a tensor lies on the GPU.
enum class CudaForm : uint8_t {
  kRaw,     // as at the API: row-major in the order of the shape
  kPixels,  // codes: packed, channels innermost (kernels/cuda/params.h); others: [n][h][w][c]
  kFolded,  // an image as quantize_image folds it, padding included
};

struct CudaTensor {
  uint32_t buffer = kNoBuffer;
  CudaForm form = CudaForm::kPixels;
  cuda::Codes codes;  // of codes: pitch and bits
  // Of kFolded: size in folded pixels, and where pixel (0, 0) of the image is.
  uint32_t folded_h = 0, folded_w = 0, pad_top = 0, pad_left = 0;
};

// Constants of the GPU, one behind the other: weights in the kernels' layout, arrays, tables.
struct CudaConstant {
  size_t offset = 0, bytes = 0;
  std::function<void(std::byte* to)> fill;  // `to` is 0 before
};

// A field of some launch's parameters that waits for an address.
struct CudaPatch {
  void* field = nullptr;
  bool constant = false;
  size_t at = 0;  // index of a buffer, or offset of a constant
};

struct CudaLaunch {
  struct Access {
    uint32_t buffer = 0;
    bool writes = false;
  };

  const char* kernel = "";
  uint32_t threads = 0, shared_bytes = 0;
  std::shared_ptr<void> params;      // the kernel's struct; keeps its address
  std::function<cuda::Grid()> grid;  // of the parameters as they are
  std::vector<Access> accesses;      // of buffers
  std::vector<uint32_t> after;       // launches that must have ended before
};

struct CudaPlan {
  std::vector<CudaTensor> tensors;   // one per tensor of the model
  std::vector<CudaLaunch> launches;  // one per step of `host`
  std::vector<CudaPatch> patches;
  std::vector<CudaConstant> constants;
  size_t constant_bytes = 0;
  std::vector<Lifetime> lifetimes;  // of buffers, in launches
  ArenaLayout arena;
  uint32_t starts = kNoBuffer;  // of sequences and the end of the last, uint32
  // What a session shows of itself: dimensions, steps that a CPU cannot run, and memory on the host
  // for inputs and outputs in canonical form.
  Plan host;

  // Gives every parameter its address.
  void bind(uint64_t arena_address, uint64_t constants_address);
};

// The model is valid and outlives the plan. Status::kUnsupported names the layer that there is no
// kernel for.
Result<CudaPlan> make_cuda_plan(const format::Model& model, const CudaPlanOptions& options);

}  // namespace mpq::runtime
