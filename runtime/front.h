// The first layers of a batch of images, run image by image.
//
// Where activations are larger than weights, a batch that goes through layer by layer throws each
// layer's output out of L2 before the next one reads it; one image's stays. So these layers belong
// to plans of one image, one a thread, and threads take images of their own: no thread waits for
// another until all images are through. The other layers run on the whole batch, whose weights they
// read once. ResNet-50 with 16 images: 1.04 times as fast (DECISIONS.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/status.h"
#include "runtime/plan.h"

namespace mpq::runtime {

struct Front {
  // A buffer that the rest needs, too: an image's part of the whole batch's.
  struct Shared {
    uint32_t one = 0, whole = 0;  // buffers of the plans
    size_t image_bytes = 0;
  };

  uint32_t steps = 0;       // that run image by image, of the whole batch's plan
  std::vector<Plan> plans;  // of one image, one a thread
  std::vector<Shared> shared;

  size_t arena_bytes() const { return plans.empty() ? 0 : plans[0].arena.bytes; }  // of one plan
  // Points a plan, which has its own arena already, to an image. `whole` is the arena of the batch.
  void take(Plan* plan, uint32_t image, const Plan& batch, std::byte* whole) const;
};

inline constexpr uint32_t kChosenFront = UINT32_MAX;

// Takes the front's memory and weights out of `batch`, the plan with these options. `steps`:
// kChosenFront for as many as pay. The result has none where images do not lie one behind the
// other.
Result<Front> plan_front(const format::Model& model, const PlanOptions& options, uint32_t steps,
                         Plan* batch);

}  // namespace mpq::runtime
