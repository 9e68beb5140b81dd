#include "runtime/prepack.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "format/writer.h"
#include "runtime/aligned_block.h"
#include "runtime/fp_scope.h"
#include "runtime/plan.h"

namespace mpq::runtime {
namespace {

Result<AlignedBlock> allocate(const format::Model& model, const WeightsRequest& w, size_t bytes) {
  AlignedBlock block(std::max<size_t>(bytes, 1));
  if (!block)
    return Error{Status::kOutOfMemory, model.nodes[w.node].name + ": no memory for " +
                                           std::to_string(bytes) + " bytes to pack weights"};
  return block;
}

}  // namespace

Result<std::vector<std::byte>> prepack(const format::Model& model, kernels::IsaMask isa) {
  const FpScope fp;  // kernels are chosen by costs
  format::Model packed = model;
  packed.prepacked.clear();  // so that weights are packed, not copied from the file
  MPQ_TRY(const Plan plan, make_plan(packed, {.isa = isa}));
  std::vector<AlignedBlock> blocks;  // what the new segments borrow
  std::vector<format::Prepacked> segments;
  for (const WeightsRequest& w : plan.weights) {
    MPQ_TRY(AlignedBlock block, allocate(model, w, w.bytes));
    MPQ_TRY(const AlignedBlock scratch, allocate(model, w, w.scratch_bytes));
    w.pack(packed, block.data(), scratch.data());
    segments.push_back({w.node, w.layout, block.bytes().first(w.packed_bytes)});
    blocks.push_back(std::move(block));
  }
  const auto key = [](const format::Prepacked& p) { return std::tie(p.node, p.layout); };
  const size_t made = segments.size();
  for (const format::Prepacked& old : model.prepacked)
    if (std::none_of(segments.begin(), segments.begin() + static_cast<ptrdiff_t>(made),
                     [&](const format::Prepacked& p) { return key(p) == key(old); }))
      segments.push_back(old);
  std::ranges::sort(segments, {}, key);
  packed.prepacked = std::move(segments);
  return format::write(packed);
}

}  // namespace mpq::runtime
