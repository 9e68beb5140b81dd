// Lifetimes -> offsets: which buffers may share memory because they are never needed together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mpq::runtime {

// A buffer is written at step `first` at the earliest and read at step `last` at the latest.
struct Lifetime {
  size_t bytes = 0;
  uint32_t first = 0, last = 0;  // inclusive
  bool overlaps(const Lifetime& other) const { return first <= other.last && other.first <= last; }
};

struct ArenaLayout {
  std::vector<size_t> offsets;  // 64-byte aligned, one per lifetime
  size_t bytes = 0;
};

// Pure. Buffers whose lifetimes overlap do not overlap in memory. Greedy: the largest first, each
// into the smallest gap it fits (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
// Net Inference", 2020, greedy by size). n buffers take O(n^2) time. The sum of all bytes must be
// below SIZE_MAX / 2; the planner has checked that.
ArenaLayout assign_offsets(std::span<const Lifetime> lifetimes);

}  // namespace mpq::runtime
