#include "runtime/front.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

namespace mpq::runtime {
namespace {

constexpr size_t kCacheBytes = size_t{1} << 20;  // that a batch's activations may have in L2

// Leading steps whose activations, of one image, outweigh their weights.
uint32_t front_steps(const Plan& batch, const PlanOptions& options) {
  uint32_t count = 0;
  size_t largest = 0;
  for (const Step& step : batch.steps) {
    const uint64_t image_bytes = step.activation_bytes / options.batch;
    if (step.weight_bytes > image_bytes) break;
    largest = std::max<size_t>(largest, step.activation_bytes);
    ++count;
  }
  return largest > kCacheBytes ? count : 0;
}

bool crosses(const Lifetime& lifetime, uint32_t cut) {
  return lifetime.first < cut && cut <= lifetime.last;
}

// Whether the images of a tensor lie one behind the other in this form.
bool by_image(const TensorPlan& one, const TensorPlan& whole, uint32_t images, Form form) {
  if (form != Form::kPlanes) return true;
  const PlanesLayout layout = planes_layout(whole.dims, whole.halo);
  return layout.planes.image * static_cast<ptrdiff_t>(images) ==
             static_cast<ptrdiff_t>(layout.bytes) &&
         planes_layout(one.dims, one.halo).bytes * images == layout.bytes;
}

// Buffers that live across the cut; nothing when one of them has no place for each image.
std::optional<std::vector<Front::Shared>> shared_buffers(const Plan& one, const Plan& batch,
                                                         uint32_t images, uint32_t cut) {
  std::vector<Front::Shared> shared;
  for (size_t id = 0; id < batch.tensors.size(); ++id)
    for (int form = 0; form < kFormCount; ++form) {
      const uint32_t whole = batch.tensors[id].buffers[form];
      if (whole == kNoBuffer || !crosses(batch.lifetimes[whole], cut)) continue;
      const uint32_t image = one.tensors[id].buffers[form];
      if (image == kNoBuffer ||
          !by_image(one.tensors[id], batch.tensors[id], images, static_cast<Form>(form)))
        return std::nullopt;
      shared.push_back({image, whole, one.lifetimes[image].bytes});
    }
  return shared;
}

bool same_steps(const Plan& a, const Plan& b, uint32_t count) {
  return a.steps.size() == b.steps.size() &&
         std::equal(a.steps.begin(), a.steps.begin() + count, b.steps.begin(),
                    [](const Step& x, const Step& y) { return x.node == y.node; });
}

// Only steps [begin, end) stay, with the memory and the weights that they need.
void keep_steps(Plan* plan, uint32_t begin, uint32_t end) {
  for (Lifetime& lifetime : plan->lifetimes)
    if (lifetime.last < begin || lifetime.first >= end) lifetime.bytes = 0;
  std::erase_if(plan->weights, [&](const WeightsRequest& w) {
    const auto step = std::find_if(plan->steps.begin(), plan->steps.end(),
                                   [&](const Step& s) { return s.node == w.node; });
    const auto at = static_cast<uint32_t>(step - plan->steps.begin());
    return at < begin || at >= end;
  });
  plan->assign_memory();
}

}  // namespace

void Front::take(Plan* plan, uint32_t image, const Plan& batch, std::byte* whole) const {
  for (const Patch& patch : plan->patches)
    for (const Shared& s : shared)
      if (patch.buffer == s.one) {
        const std::byte* address =
            whole + batch.arena.offsets[s.whole] + image * s.image_bytes + patch.offset;
        std::memcpy(patch.field, &address, sizeof address);
      }
}

Result<Front> plan_front(const format::Model& model, const PlanOptions& options, uint32_t steps,
                         Plan* batch) {
  Front front;
  const bool fair = options.batch % options.threads == 0 || options.batch >= 4 * options.threads;
  if (options.batch == 1 || !fair || options.keep_tensors || batch->starts != nullptr) return front;
  if (steps == kChosenFront) steps = front_steps(*batch, options);
  if (steps == 0 || steps > batch->steps.size()) return front;
  PlanOptions one = options;
  one.batch = one.threads = 1;
  std::set<uint32_t> nodes;
  for (uint32_t i = 0; i < steps; ++i) nodes.insert(batch->steps[i].node);
  if (options.choose_conv)  // nobody chooses for layers that this plan never runs
    one.choose_conv = [&](const DenseLayer& layer) -> const kernels::ConvKernel& {
      return nodes.contains(layer.node)
                 ? options.choose_conv(layer)
                 : kernels::select_conv(layer.shape, layer.cb, layer.weights, layer.max_activation,
                                        options.isa, options.family);
    };
  MPQ_TRY(Plan first, make_plan(model, one));
  if (!same_steps(first, *batch, steps)) return front;
  auto shared = shared_buffers(first, *batch, options.batch, steps);
  if (!shared) return front;
  front.shared = *std::move(shared);
  front.plans.push_back(std::move(first));
  while (front.plans.size() < options.threads) {
    MPQ_TRY(Plan plan, make_plan(model, one));
    front.plans.push_back(std::move(plan));
  }
  front.steps = steps;
  for (Plan& plan : front.plans) {
    for (const Front::Shared& s : front.shared) plan.lifetimes[s.one].bytes = 0;
    keep_steps(&plan, 0, steps);
  }
  keep_steps(batch, steps, UINT32_MAX);
  const Plan& image = front.plans[0];
  for (uint32_t i = 0; i < steps; ++i) {  // for people
    batch->steps[i].kernel = image.steps[i].kernel;
    batch->steps[i].kernel_isa = image.steps[i].kernel_isa;
  }
  batch->scratch_bytes = std::max(batch->scratch_bytes, image.scratch_bytes);
  return front;
}

}  // namespace mpq::runtime
