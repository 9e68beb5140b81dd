// format::Model + options + instruction set -> Plan: steps with filled arguments, and offsets for
// everything they touch. Pure: no memory but the plan's own, no threads, no packing of weights. A
// session gives the plan its addresses (bind) and runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/model.h"
#include "format/status.h"
#include "kernels/conv/conv.h"
#include "kernels/cpu.h"
#include "kernels/quantize/quantize.h"
#include "kernels/tensor.h"
#include "runtime/arena.h"
#include "runtime/rows.h"

namespace mpq::runtime {

// A layer that a row of the convolution family is chosen for: what decides which rows serve it, and
// what their time depends on besides.
struct DenseLayer {
  uint32_t node = 0;
  kernels::ConvShape shape;
  uint32_t cb = 0;  // channel block of the input
  kernels::Elem weights = kernels::Elem::s8;
  int32_t max_activation = 255;
  kernels::Elem out = kernels::Elem::u8;
  bool residual = false, second = false;
  kernels::Activation activation = kernels::Activation::kNone;
};
using ChooseConv = std::function<const kernels::ConvKernel&(const DenseLayer&)>;

struct PlanOptions {
  uint32_t batch = 1;   // images, or sequences
  uint32_t tokens = 1;  // of all sequences together; of sequence models
  uint32_t threads = 1;
  kernels::IsaMask isa = kernels::kIsaScalar;
  kernels::CpuFamily family = kernels::CpuFamily::kIntel;  // whose costs choose among kernels
  bool keep_tensors = false;                               // no tensor's memory is reused
  ChooseConv choose_conv;                                  // null: kernels::select_conv
};

// A tensor as its batch of images: the product of the shape's outer dimensions is n.
struct Dims {
  uint32_t n = 1, c = 1, h = 1, w = 1;
  uint64_t elements() const { return uint64_t{n} * c * h * w; }
};

// Where a kernel sees a tensor. One tensor may be in several forms, each in a buffer of its own.
enum class Form : uint8_t {
  kPlanes,     // codes as kernels::Planes, with halo
  kDense,      // f32 or s32, [n][h][w][c]
  kCanonical,  // as the caller sees it: row-major in the order of the shape; codes one a byte
};
inline constexpr int kFormCount = 3;

// Pixels around each image that hold the zero point: what the consumers' padding reads.
struct Halo {
  uint32_t top = 0, left = 0, bottom = 0, right = 0;
  bool empty() const { return (top | left | bottom | right) == 0; }
  bool operator==(const Halo&) const = default;
};

// Planes of a tensor in a buffer: strides, the offset of pixel (0, 0), and the buffer's size.
struct PlanesLayout {
  kernels::Planes planes;  // data is null
  size_t origin = 0;
  size_t bytes = 0;
};
// Images of 1x1 pixels without halo lie side by side in one row, as matrices do:
// [block][image][cb].
PlanesLayout planes_layout(const Dims& dims, const Halo& halo);

using StepFn = void (*)(const void* args, const kernels::ConvPart&, const kernels::KernelContext&);

// Weights in a kernel's layout, followed by the epilogue's arrays; shared through the model.
struct WeightsRequest {
  uint32_t node = 0;
  const char* layout = "";
  size_t packed_bytes = 0;   // of the weights, which come first
  size_t bytes = 0;          // weights, rounded up to the alignment, then the arrays
  size_t scratch_bytes = 0;  // that pack needs
  std::function<void(const format::Model&, std::byte* destination, std::byte* scratch)> pack;
  std::function<void(const std::byte* packed)> bind;  // fills the step's pointers
};

struct Step {
  StepFn run = nullptr;
  std::shared_ptr<void> args;            // of the type `run` expects; only this step owns it
  std::vector<kernels::ConvPart> parts;  // run at the same time, one a thread
  // Of sequence models: fits arguments and parts to the rows of the next run. Allocates nothing.
  std::function<void(Step&, const Live&)> resize;
  // Halos of outputs, filled before the step runs: other tensors have used the memory since.
  std::vector<std::unique_ptr<kernels::HaloArgs>> halos;
  size_t scratch_bytes = 0;  // per thread

  // For people.
  uint32_t node = UINT32_MAX;  // UINT32_MAX: a step of the library's own (a change of form)
  std::string name;
  const char* op = "";
  const char* kernel = "";
  kernels::IsaMask kernel_isa = kernels::kIsaScalar;
  uint32_t input_bits = 0, weight_bits = 0, output_bits = 0;
  uint64_t macs = 0, weight_bytes = 0, activation_bytes = 0;
};

// A pointer inside some step's arguments that waits for the arena's address.
struct Patch {
  void* field = nullptr;
  uint32_t buffer = 0;
  size_t offset = 0;
};

inline constexpr uint32_t kNoBuffer = UINT32_MAX;

struct TensorPlan {
  Dims dims;  // of sequence models: for as many rows as there can be
  Rows rows = Rows::kSequences;
  Halo halo;
  uint32_t buffers[kFormCount] = {kNoBuffer, kNoBuffer, kNoBuffer};  // index into Plan::lifetimes
};

// A buffer that is written over another, element by element as the other is read.
struct Overwrite {
  uint32_t to = 0, from = 0;
};

struct Plan {
  std::vector<TensorPlan> tensors;  // one per tensor of the model
  std::vector<Step> steps;
  std::vector<WeightsRequest> weights;
  std::vector<Patch> patches;
  std::unique_ptr<uint32_t[]> starts;  // of sequences and the end of the last; batch + 1
  Live live;                           // what starts and steps are fitted to
  std::vector<Lifetime> lifetimes;     // of buffers, in steps
  std::vector<Overwrite> overwrites;
  ArenaLayout arena;
  size_t scratch_bytes = 0;  // per thread, aligned
  uint64_t weight_bytes = 0;

  // Lays the buffers out. One written over another lives on in its memory, over as many layers as
  // follow each other so.
  void assign_memory();
  // Gives every argument its address. `arena` has arena.bytes bytes, all 0.
  void bind(std::byte* arena_data);
  // Fits a plan of a sequence model to sequences of these lengths, within its options.
  void set_sequences(const uint32_t* lengths, size_t count);
  // Rows of a tensor in the next run: the batch of images, tokens or sequences.
  uint32_t live_rows(format::TensorId id) const { return live.rows(tensors[id].rows); }
  Dims live_dims(format::TensorId id) const {
    Dims dims = tensors[id].dims;
    if (starts != nullptr) dims.n = live_rows(id);
    return dims;
  }
  std::byte* buffer(std::byte* arena_data, format::TensorId tensor, Form form) const {
    return arena_data + arena.offsets[tensors[tensor].buffers[static_cast<int>(form)]];
  }
};

// The model is valid (format::validate) and outlives the plan.
Result<Plan> make_plan(const format::Model& model, const PlanOptions& options);

// Sizes of a tensor for a batch: shared by plan and API.
Result<Dims> dims_of(const format::Model& model, format::TensorId tensor, uint32_t batch);

}  // namespace mpq::runtime
