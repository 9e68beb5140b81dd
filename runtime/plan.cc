#include "runtime/plan.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "runtime/aligned_block.h"
#include "runtime/ops/op.h"

namespace mpq::runtime {
namespace {

constexpr uint32_t kForEver = UINT32_MAX;

// No tensor of a plan is larger. Far above every machine, and sums of 2^18 of them fit 64 bits.
constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 44;

uint64_t saturating_product(std::initializer_list<uint64_t> factors) {
  uint64_t product = 1;
  for (const uint64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product))
      return std::numeric_limits<uint64_t>::max();
  return product;
}

}  // namespace

Result<Dims> dims_of(const format::Model& model, format::TensorId id, uint32_t batch) {
  const format::Tensor& t = model.tensors[id];
  const size_t rank = t.shape.size();
  const auto too_large = [&] {
    return Error{Status::kLimit, "tensor " + t.name + ": " + to_string(t.shape) + " with batch " +
                                     std::to_string(batch) + " is too large"};
  };
  // [N,C,H,W] or [..., K]: the channels of a matrix are its last dimension.
  const size_t channel = rank == 4 ? 1 : rank == 0 ? 0 : rank - 1;
  uint64_t n = batch;
  for (size_t i = 0; i < channel; ++i)
    n = saturating_product({n, static_cast<uint64_t>(t.shape[i])});
  const auto at = [&](size_t i) { return i < rank ? static_cast<uint64_t>(t.shape[i]) : 1; };
  const uint64_t c = at(channel), h = rank == 4 ? at(2) : 1, w = rank == 4 ? at(3) : 1;
  constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
  if (n > kMax || c > kMax || h > kMax || w > kMax) return too_large();
  if (saturating_product({n, c, h, w, 4}) > kMaxTensorBytes) return too_large();
  return Dims{static_cast<uint32_t>(n), static_cast<uint32_t>(c), static_cast<uint32_t>(h),
              static_cast<uint32_t>(w)};
}

PlanesLayout planes_layout(const Dims& dims, const Halo& halo) {
  PlanesLayout layout;
  kernels::Planes& p = layout.planes;
  p.cb = kernels::channel_block(dims.c);
  const size_t blocks = (size_t{dims.c} + p.cb - 1) / p.cb;
  const size_t width = size_t{dims.w} + halo.left + halo.right;
  const size_t height = size_t{dims.h} + halo.top + halo.bottom;
  if (width == 1 && height == 1) {
    p.image = p.cb;
    p.row = p.plane = static_cast<ptrdiff_t>(size_t{dims.n} * p.cb);
  } else {
    p.row = static_cast<ptrdiff_t>(width * p.cb);
    p.plane = static_cast<ptrdiff_t>(height) * p.row;
    p.image = static_cast<ptrdiff_t>(blocks) * p.plane;
  }
  layout.origin = halo.top * static_cast<size_t>(p.row) + size_t{halo.left} * p.cb;
  layout.bytes = dims.n * blocks * height * width * p.cb;
  return layout;
}

void Plan::bind(std::byte* arena_data) {
  for (const Patch& patch : patches) {
    const std::byte* address = arena_data + arena.offsets[patch.buffer] + patch.offset;
    std::memcpy(patch.field, &address, sizeof address);
  }
}

void Plan::set_sequences(const uint32_t* lengths, size_t count) {
  starts[0] = 0;
  for (size_t i = 0; i < count; ++i) starts[i + 1] = starts[i] + lengths[i];
  live = {starts[count], static_cast<uint32_t>(count)};
  for (Step& step : steps)
    if (step.resize) step.resize(step, live);
}

void Plan::assign_memory() {
  std::vector<uint32_t> home(lifetimes.size());
  std::iota(home.begin(), home.end(), 0U);
  for (const auto& [to, from] : overwrites)
    if (lifetimes[from].last == lifetimes[to].first && lifetimes[from].bytes == lifetimes[to].bytes)
      home[to] = home[from];
  std::vector<Lifetime> merged = lifetimes;
  for (uint32_t i = 0; i < home.size(); ++i) {
    if (home[i] == i) continue;
    merged[home[i]].last = std::max(merged[home[i]].last, lifetimes[i].last);
    merged[i].bytes = 0;
  }
  arena = assign_offsets(merged);
  for (uint32_t i = 0; i < home.size(); ++i) arena.offsets[i] = arena.offsets[home[i]];
}

Result<Plan> make_plan(const format::Model& model, const PlanOptions& options) {
  return Planner(model, options).plan();
}

Result<Plan> Planner::plan() {
  MPQ_CHECK(plan_dims());
  plan_halos();
  MPQ_CHECK(check_bytes());
  for (const format::TensorId id : model_.inputs) use(id, Form::kCanonical, true);
  for (uint32_t i = 0; i < model_.nodes.size(); ++i)
    MPQ_CHECK(op_def(model_.nodes[i].op()).plan(*this, i));
  for (const format::TensorId id : model_.outputs) {
    MPQ_CHECK(prepare_read(id, Form::kCanonical));
    plan_.lifetimes[use(id, Form::kCanonical, false)].last = kForEver;
  }
  // Inputs keep their value over runs.
  for (const format::TensorId id : model_.inputs)
    plan_.lifetimes[use(id, Form::kCanonical, false)] = {
        plan_.lifetimes[use(id, Form::kCanonical, false)].bytes, 0, kForEver};
  if (options_.keep_tensors)
    for (Lifetime& lifetime : plan_.lifetimes) lifetime = {lifetime.bytes, 0, kForEver};
  plan_.assign_memory();
  if (plan_.starts != nullptr) {
    const uint32_t one = 1;
    plan_.set_sequences(&one, 1);
  }
  for (const Step& step : plan_.steps)
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, align_up(step.scratch_bytes));
  return std::move(plan_);
}

Checked Planner::plan_dims() {
  plan_.tensors.resize(model_.tensors.size());
  plan_.live = {options_.batch, options_.batch};
  if (model_.sequence_length != 0)
    plan_.starts = std::make_unique<uint32_t[]>(size_t{options_.batch} + 1);
  const std::vector<bool> pooled = format::pooled_tensors(model_);
  for (format::TensorId id = 0; id < model_.tensors.size(); ++id) {
    if (model_.tensors[id].is_constant()) continue;
    TensorPlan& t = plan_.tensors[id];
    t.rows = plan_.starts != nullptr && !pooled[id] ? Rows::kTokens : Rows::kSequences;
    MPQ_TRY(t.dims, dims_of(model_, id, Live{options_.tokens, options_.batch}.rows(t.rows)));
  }
  return Ok{};
}

// A tensor's halo is the widest that one of its consumers reads.
void Planner::plan_halos() {
  for (const format::Node& node : model_.nodes) {
    const OpDef& def = op_def(node.op());
    if (def.halo == nullptr) continue;
    const Halo need = def.halo(model_, node, dims(node.inputs[0]), dims(node.outputs[0]));
    Halo& halo = plan_.tensors[node.inputs[0]].halo;
    halo = {std::max(halo.top, need.top), std::max(halo.left, need.left),
            std::max(halo.bottom, need.bottom), std::max(halo.right, need.right)};
  }
}

// Before any layout is computed, so that none of it can overflow.
Checked Planner::check_bytes() const {
  for (format::TensorId id = 0; id < model_.tensors.size(); ++id) {
    const TensorPlan& t = plan_.tensors[id];
    const uint64_t height = uint64_t{t.dims.h} + t.halo.top + t.halo.bottom;
    const uint64_t width = uint64_t{t.dims.w} + t.halo.left + t.halo.right;
    if (saturating_product({t.dims.n, uint64_t{t.dims.c} + 64, height, width}) > kMaxTensorBytes)
      return Error{Status::kLimit, "tensor " + model_.tensors[id].name + ": " +
                                       to_string(model_.tensors[id].shape) +
                                       " with its padding is too large"};
  }
  return Ok{};
}

// The buffer of a tensor in a form, alive in the step in progress.
uint32_t Planner::use(format::TensorId id, Form form, bool writes) {
  TensorPlan& t = plan_.tensors[id];
  uint32_t& buffer = t.buffers[static_cast<int>(form)];
  const auto step = static_cast<uint32_t>(plan_.steps.empty() ? 0 : plan_.steps.size() - 1);
  if (buffer == kNoBuffer) {
    assert(writes);
    static_cast<void>(writes);
    const bool code = is_code(model_.tensors[id].dtype);
    const size_t bytes = form == Form::kPlanes ? planes_layout(t.dims, t.halo).bytes
                                               : t.dims.elements() * (code ? 1 : 4);
    buffer = static_cast<uint32_t>(plan_.lifetimes.size());
    plan_.lifetimes.push_back({bytes, step, step});
  }
  plan_.lifetimes[buffer].last = std::max(plan_.lifetimes[buffer].last, step);
  return buffer;
}

void Planner::begin_step(uint32_t node, const char* kernel, kernels::IsaMask isa, StepFn run,
                         std::shared_ptr<void> args) {
  Step step;
  step.run = run;
  step.args = std::move(args);
  step.parts = {{0, 1, 0, 1}};
  step.node = node;
  step.kernel = kernel;
  step.kernel_isa = isa;
  if (node != UINT32_MAX) {
    const format::Node& n = model_.nodes[node];
    const format::TensorId x = n.inputs[0], y = n.outputs[0];
    step.name = n.name;
    step.op = to_string(n.op());
    step.input_bits = static_cast<uint32_t>(bits_of(tensor(x).dtype));
    step.output_bits = static_cast<uint32_t>(bits_of(tensor(y).dtype));
    const auto bytes = [&](format::TensorId id) {
      return dims(id).elements() * (is_code(tensor(id).dtype) ? 1 : 4);
    };
    step.activation_bytes = bytes(x);
    for (const format::TensorId id : n.outputs)
      if (id != format::kNoTensor) step.activation_bytes += bytes(id);
  }
  plan_.steps.push_back(std::move(step));
}

kernels::Planes Planner::planes_of(format::TensorId id) const {
  return planes_layout(plan_.tensors[id].dims, plan_.tensors[id].halo).planes;
}

void Planner::read(format::TensorId id, kernels::Planes* planes, ptrdiff_t shift) {
  const PlanesLayout layout = planes_layout(plan_.tensors[id].dims, plan_.tensors[id].halo);
  *planes = layout.planes;
  const auto offset = static_cast<size_t>(static_cast<ptrdiff_t>(layout.origin) + shift);
  plan_.patches.push_back({&planes->data, use(id, Form::kPlanes, false), offset});
}

void Planner::write(format::TensorId id, kernels::Planes* planes) {
  const TensorPlan& t = plan_.tensors[id];
  const PlanesLayout layout = planes_layout(t.dims, t.halo);
  *planes = layout.planes;
  const uint32_t buffer = use(id, Form::kPlanes, true);
  plan_.patches.push_back({&planes->data, buffer, layout.origin});
  if (t.halo.empty()) return;
  auto args = std::make_unique<kernels::HaloArgs>();
  *args = {.shape = {t.dims.n, t.dims.c, t.dims.h, t.dims.w},
           .y = layout.planes,
           .top = t.halo.top,
           .left = t.halo.left,
           .bottom = t.halo.bottom,
           .right = t.halo.right,
           .code = static_cast<uint8_t>(tensor(id).quant.zero_point)};
  plan_.patches.push_back({&args->y.data, buffer, layout.origin});
  step().halos.push_back(std::move(args));
}

void Planner::read(format::TensorId id, Form form, void* field) {
  plan_.patches.push_back({field, use(id, form, false), 0});
}

void Planner::write(format::TensorId id, Form form, void* field) {
  plan_.patches.push_back({field, use(id, form, true), 0});
}

void Planner::may_overwrite(format::TensorId to, format::TensorId from) {
  const TensorPlan &y = plan_.tensors[to], &x = plan_.tensors[from];
  if (y.halo != x.halo) return;  // pixels would lie at other places
  constexpr int kForm = static_cast<int>(Form::kPlanes);
  plan_.overwrites.push_back({y.buffers[kForm], x.buffers[kForm]});
}

void Planner::add_weights(WeightsRequest request) {
  plan_.weight_bytes += request.bytes;
  step().weight_bytes = request.bytes;
  plan_.weights.push_back(std::move(request));
}

void Planner::on_resize(Rows rows, std::function<uint32_t(const Live&)> resize, Work work) {
  if (plan_.starts == nullptr) return;
  Step& s = step();
  if (work.unit_bytes == 0) work.unit_bytes = s.activation_bytes;
  const uint32_t all_rows = rows == Rows::kTokens ? options_.tokens : options_.batch;
  s.parts.reserve(options_.threads);
  s.resize = [=, resize = std::move(resize), threads = options_.threads, macs = s.macs,
              bytes = s.activation_bytes](Step& to, const Live& live) {
    const auto share = [&](uint64_t all) { return all * live.rows(rows) / all_rows; };
    Work part = work;
    part.units = resize(live);
    part.macs = share(work.macs);
    part.unit_bytes = share(work.unit_bytes);
    split_work(part, threads, &to.parts);
    to.macs = share(macs);
    to.activation_bytes = share(bytes);
  };
}

}  // namespace mpq::runtime
