#include "runtime/arena.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "runtime/aligned_block.h"

namespace mpq::runtime {
namespace {

struct Placed {
  size_t begin, end;
  uint32_t buffer;
};

// `placed` is sorted by begin. Returns the start of the smallest gap of at least `bytes` among the
// buffers that live at the same time as `lifetime`; the end of the last one is a gap without end.
size_t best_gap(const std::vector<Placed>& placed, std::span<const Lifetime> lifetimes,
                const Lifetime& lifetime, size_t bytes) {
  size_t free_from = 0, best = 0, best_size = std::numeric_limits<size_t>::max();
  for (const Placed& p : placed) {
    if (!lifetimes[p.buffer].overlaps(lifetime)) continue;
    if (p.begin > free_from) {
      const size_t size = p.begin - free_from;
      if (size >= bytes && size < best_size) {
        best = free_from;
        best_size = size;
      }
    }
    free_from = std::max(free_from, p.end);
  }
  return best_size == std::numeric_limits<size_t>::max() ? free_from : best;
}

}  // namespace

ArenaLayout assign_offsets(std::span<const Lifetime> lifetimes) {
  std::vector<uint32_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return lifetimes[a].bytes != lifetimes[b].bytes ? lifetimes[a].bytes > lifetimes[b].bytes
                                                    : a < b;
  });

  ArenaLayout layout;
  layout.offsets.resize(lifetimes.size());
  std::vector<Placed> placed;
  placed.reserve(lifetimes.size());
  for (const uint32_t i : order) {
    const size_t bytes = align_up(lifetimes[i].bytes);
    const size_t begin = best_gap(placed, lifetimes, lifetimes[i], bytes);
    const Placed entry = {begin, begin + bytes, i};
    const auto before = [](const Placed& a, const Placed& b) { return a.begin < b.begin; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), entry, before), entry);
    layout.offsets[i] = begin;
    layout.bytes = std::max(layout.bytes, entry.end);
  }
  return layout;
}

}  // namespace mpq::runtime
