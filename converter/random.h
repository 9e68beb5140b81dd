// SplitMix64 (Steele, Lea, Flood): choices that are the same on every platform.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace mpq::convert {

inline uint64_t next_random(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// `count` of `total` indices, or all, in the order of the draw.
inline std::vector<size_t> choose(size_t total, size_t count, uint64_t seed) {
  std::vector<size_t> indices(total);
  std::iota(indices.begin(), indices.end(), size_t{0});
  count = std::min(count, total);
  for (size_t i = 0; i < count; ++i)
    std::swap(indices[i], indices[i + next_random(&seed) % (total - i)]);
  indices.resize(count);
  return indices;
}

}  // namespace mpq::convert
