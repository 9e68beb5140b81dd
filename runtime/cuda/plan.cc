#include "runtime/cuda/plan.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/aligned_block.h"
#include "runtime/cuda/pixels.h"
#include "runtime/cuda/planner.h"

namespace mpq::runtime {
namespace {

constexpr uint32_t kForEver = UINT32_MAX;
constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 31;  // kernels count bytes in int32

}  // namespace

void CudaPlan::bind(uint64_t arena_address, uint64_t constants_address) {
  for (const CudaPatch& patch : patches) {
    const uint64_t address =
        patch.constant ? constants_address + patch.at : arena_address + arena.offsets[patch.at];
    std::memcpy(patch.field, &address, sizeof address);
  }
}

Result<CudaPlan> make_cuda_plan(const format::Model& model, const CudaPlanOptions& options) {
  return CudaPlanner(model, options).plan();
}

Error cuda_unsupported(const format::Node& node, const std::string& what) {
  return {Status::kUnsupported,
          "layer " + node.name + " (" + to_string(node.op()) + "): " + what + " on CUDA"};
}

Result<CudaPlan> CudaPlanner::plan() {
  MPQ_CHECK(plan_tensors());
  if (plan_.host.starts != nullptr)
    plan_.starts = add_buffer((size_t{options_.batch} + 1) * sizeof(uint32_t));
  for (uint32_t i = 0; i < model_.nodes.size(); ++i) MPQ_CHECK(plan_cuda_node(*this, i));
  // What comes from the host stays for the next run, as do sums that are 0 between launches;
  // outputs wait until they are fetched.
  const auto keep = [&](uint32_t buffer) {
    plan_.lifetimes[buffer] = {plan_.lifetimes[buffer].bytes, 0, kForEver};
  };
  for (const format::TensorId id : model_.inputs) keep(placed(id).buffer);
  for (const uint32_t buffer : {plan_.starts, tickets_, sums_})
    if (buffer != kNoBuffer) keep(buffer);
  for (const format::TensorId id : model_.outputs)
    plan_.lifetimes[placed(id).buffer].last = kForEver;
  if (options_.keep_tensors)
    for (uint32_t i = 0; i < plan_.lifetimes.size(); ++i) keep(i);
  plan_.arena = assign_offsets(plan_.lifetimes);
  order_launches();
  plan_host_memory();
  plan_.host.weight_bytes = plan_.constant_bytes;
  if (plan_.host.starts != nullptr) {
    const uint32_t one = 1;
    plan_.host.set_sequences(&one, 1);
  }
  return std::move(plan_);
}

Checked CudaPlanner::plan_tensors() {
  Plan& host = plan_.host;
  host.tensors.resize(model_.tensors.size());
  plan_.tensors.resize(model_.tensors.size());
  host.live = {options_.batch, options_.batch};
  if (model_.sequence_length != 0)
    host.starts = std::make_unique<uint32_t[]>(size_t{options_.batch} + 1);
  constexpr uint32_t kMaxSequences = 65535;  // of a grid's y and z
  if (host.starts != nullptr && options_.batch > kMaxSequences)
    return Error{Status::kLimit, "a batch of " + std::to_string(options_.batch) +
                                     " sequences, on CUDA at most " +
                                     std::to_string(kMaxSequences)};
  const std::vector<bool> pooled = format::pooled_tensors(model_);
  for (format::TensorId id = 0; id < model_.tensors.size(); ++id) {
    if (model_.tensors[id].is_constant()) continue;
    TensorPlan& t = host.tensors[id];
    t.rows = host.starts != nullptr && !pooled[id] ? Rows::kTokens : Rows::kSequences;
    MPQ_TRY(t.dims, dims_of(model_, id, Live{options_.tokens, options_.batch}.rows(t.rows)));
    MPQ_CHECK(place(id));
  }
  return Ok{};
}

// Which form a tensor has follows from who makes and who reads it.
Checked CudaPlanner::place(format::TensorId id) {
  const format::Tensor& t = model_.tensors[id];
  CudaTensor& placed = plan_.tensors[id];
  const Dims& d = dims(id);
  uint64_t bytes = d.elements() * 4;
  const bool is_input =
      std::find(model_.inputs.begin(), model_.inputs.end(), id) != model_.inputs.end();
  if (is_input && !(is_code(t.dtype) && t.quant.scale != 0.0F)) {
    placed.form = CudaForm::kRaw;
    bytes = d.elements() * (is_code(t.dtype) ? 1 : 4);
  } else if (is_code(t.dtype)) {
    const auto bits = static_cast<uint32_t>(bits_of(t.dtype));
    uint64_t pixels = uint64_t{d.n} * d.h * d.w;
    uint32_t channels = d.c;
    if (const format::Node* reader = folding_reader(id)) {
      const auto& a = std::get<format::Conv2dAttrs>(reader->attrs);
      const Shape& weights = tensor(reader->inputs[format::kWeights]).shape;
      const Dims y = dims_of(model_, reader->outputs[0], options_.batch).value();
      placed.form = CudaForm::kFolded;
      // All windows, and the whole image.
      placed.folded_h =
          std::max(y.h + static_cast<uint32_t>(weights[2] + 1) / 2 - 1, (d.h + a.pad_top + 1) / 2);
      placed.folded_w =
          std::max(y.w + static_cast<uint32_t>(weights[3] + 1) / 2 - 1, (d.w + a.pad_left + 1) / 2);
      placed.pad_top = a.pad_top;
      placed.pad_left = a.pad_left;
      pixels = uint64_t{d.n} * placed.folded_h * placed.folded_w;
      channels = 16;
    }
    placed.codes = {nullptr, pixel_pitch(channels, bits), bits};
    bytes = pixels * placed.codes.pitch;
  }
  if (bytes >= kMaxTensorBytes || d.elements() > std::numeric_limits<uint32_t>::max())
    return Error{Status::kLimit, "tensor " + t.name + ": " + std::to_string(bytes) +
                                     " bytes, on CUDA at most " +
                                     std::to_string(kMaxTensorBytes - 1)};
  placed.buffer = add_buffer(bytes);
  return Ok{};
}

// A convolution of stride 2 over the few channels of an image: quantize_image can fold it
// (kernels/cuda/params.h). Only where nobody else reads the codes.
const format::Node* CudaPlanner::folding_reader(format::TensorId image) const {
  const format::Node *maker = nullptr, *reader = nullptr;
  for (const format::TensorId id : model_.outputs)
    if (id == image) return nullptr;
  for (const format::Node& n : model_.nodes) {
    if (n.outputs[0] == image) maker = &n;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      if (n.inputs[i] != image) continue;
      if (reader != nullptr || i != format::kX || n.op() != format::OpCode::kConv2d) return nullptr;
      reader = &n;
    }
  }
  if (maker == nullptr || reader == nullptr || maker->op() != format::OpCode::kImageQuantize)
    return nullptr;
  const auto& a = std::get<format::Conv2dAttrs>(reader->attrs);
  const bool fits = a.stride_h == 2 && a.stride_w == 2 && a.dilation_h == 1 && a.dilation_w == 1 &&
                    a.groups == 1 && tensor(image).shape[1] <= 4;
  return fits ? reader : nullptr;
}

uint32_t CudaPlanner::add_buffer(size_t bytes) {
  const auto now = static_cast<uint32_t>(plan_.launches.empty() ? 0 : plan_.launches.size() - 1);
  plan_.lifetimes.push_back({bytes, now, now});
  touched_.push_back(false);
  return static_cast<uint32_t>(plan_.lifetimes.size() - 1);
}

void CudaPlanner::access(uint32_t buffer, bool writes, void* field) {
  CudaLaunch& launch = plan_.launches.back();
  const auto now = static_cast<uint32_t>(plan_.launches.size() - 1);
  Lifetime& lifetime = plan_.lifetimes[buffer];
  if (writes && !touched_[buffer]) lifetime.first = now;  // nothing of before is needed
  touched_[buffer] = true;
  lifetime.last = std::max(lifetime.last, now);
  launch.accesses.push_back({buffer, writes});
  plan_.patches.push_back({field, false, buffer});
}

void CudaPlanner::read(format::TensorId id, cuda::Codes* codes) {
  *codes = plan_.tensors[id].codes;
  read(id, &codes->data);
}

void CudaPlanner::write(format::TensorId id, cuda::Codes* codes) {
  *codes = plan_.tensors[id].codes;
  write(id, &codes->data);
}

void CudaPlanner::use_partial_sums(size_t tiles, size_t sums_bytes, cuda::ConvParams* p) {
  if (tickets_ == kNoBuffer) {
    tickets_ = add_buffer(0);
    sums_ = add_buffer(0);
  }
  Lifetime &tickets = plan_.lifetimes[tickets_], &sums = plan_.lifetimes[sums_];
  tickets.bytes = std::max(tickets.bytes, tiles * sizeof(uint32_t));
  sums.bytes = std::max(sums.bytes, sums_bytes);
  access(tickets_, true, &p->tickets);
  access(sums_, true, &p->partial);
}

void CudaPlanner::constant(size_t bytes, void* field, std::function<void(std::byte*)> fill) {
  plan_.patches.push_back({field, true, plan_.constant_bytes});
  plan_.constants.push_back({plan_.constant_bytes, bytes, std::move(fill)});
  step().weight_bytes += bytes;
  plan_.constant_bytes += align_up(bytes);
}

void CudaPlanner::constant(format::TensorId id, void* field, size_t padded_elements) {
  const std::span<const std::byte> data = tensor(id).data;
  constant(std::max(data.size(), padded_elements * 4), field,
           [data](std::byte* to) { std::memcpy(to, data.data(), data.size()); });
}

void CudaPlanner::begin_step(uint32_t node, CudaLaunch launch,
                             std::function<void(const Live&)> fit) {
  Step s;
  const format::Node& n = model_.nodes[node];
  const format::TensorId x = n.inputs[0], y = n.outputs[0];
  s.node = node;
  s.name = n.name;
  s.op = to_string(n.op());
  s.kernel = launch.kernel;
  s.parts = {{0, 1, 0, 1}};
  s.input_bits = static_cast<uint32_t>(bits_of(tensor(x).dtype));
  s.output_bits = static_cast<uint32_t>(bits_of(tensor(y).dtype));
  const auto bytes = [&](format::TensorId id) { return plan_.lifetimes[placed(id).buffer].bytes; };
  s.activation_bytes = bytes(x);
  for (const format::TensorId id : n.outputs)
    if (id != format::kNoTensor) s.activation_bytes += bytes(id);
  plan_.launches.push_back(std::move(launch));
  if (plan_.host.starts != nullptr)
    // What a step says of its work is of the next run, whose rows are those of its output.
    s.resize = [fit = std::move(fit), rows = plan_.host.tensors[y].rows,
                all = Live{options_.tokens, options_.batch}, whole = s.activation_bytes,
                whole_macs = uint64_t{0}](Step& to, const Live& live) mutable {
      whole_macs = std::max(whole_macs, to.macs);  // at first, of all rows
      to.macs = whole_macs * live.rows(rows) / all.rows(rows);
      to.activation_bytes = whole * live.rows(rows) / all.rows(rows);
      fit(live);
    };
  plan_.host.steps.push_back(std::move(s));
}

// The host keeps inputs and outputs in canonical form, as sessions of the CPU do.
void CudaPlanner::plan_host_memory() {
  Plan& host = plan_.host;
  for (const auto* ids : {&model_.inputs, &model_.outputs})
    for (const format::TensorId id : *ids) {
      uint32_t& buffer = host.tensors[id].buffers[static_cast<int>(Form::kCanonical)];
      if (buffer != kNoBuffer) continue;
      buffer = static_cast<uint32_t>(host.lifetimes.size());
      host.lifetimes.push_back(
          {dims(id).elements() * (is_code(tensor(id).dtype) ? 1 : 4), 0, kForEver});
    }
  host.assign_memory();
}

// A launch waits for those before it that touch the same memory, unless both only read; for those
// that one of them waits for anyway it need not.
void CudaPlanner::order_launches() {
  std::vector<CudaLaunch>& launches = plan_.launches;
  const auto overlap = [&](uint32_t a, uint32_t b) {
    const size_t a_at = plan_.arena.offsets[a], b_at = plan_.arena.offsets[b];
    return a_at < b_at + plan_.lifetimes[b].bytes && b_at < a_at + plan_.lifetimes[a].bytes;
  };
  const auto conflict = [&](const CudaLaunch& a, const CudaLaunch& b) {
    for (const CudaLaunch::Access& x : a.accesses)
      for (const CudaLaunch::Access& y : b.accesses)
        if ((x.writes || y.writes) && overlap(x.buffer, y.buffer)) return true;
    return false;
  };
  // ended[i][j]: j has ended when i begins.
  std::vector<std::vector<bool>> ended(launches.size(), std::vector<bool>(launches.size()));
  for (uint32_t i = 0; i < launches.size(); ++i)
    for (uint32_t j = i; j-- > 0;) {
      if (ended[i][j] || !conflict(launches[i], launches[j])) continue;
      launches[i].after.push_back(j);
      ended[i][j] = true;
      for (uint32_t k = 0; k < j; ++k) ended[i][k] = ended[i][k] || ended[j][k];
    }
}

}  // namespace mpq::runtime
