// A plain parallel loop for the converter's own passes over tensors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

namespace mpq::convert {

// All cores, or what OMP_NUM_THREADS leaves of them: the same as oneDNN takes.
inline size_t loop_threads() {
  static const size_t count = [] {
    const char* const set = std::getenv("OMP_NUM_THREADS");
    const long most = set == nullptr ? 0 : std::strtol(set, nullptr, 10);
    const size_t cores = std::max<size_t>(std::thread::hardware_concurrency(), 1);
    return most > 0 ? std::min(cores, static_cast<size_t>(most)) : cores;
  }();
  return count;
}

// Calls body(begin, end) on disjoint ranges that cover [0, count), on loop_threads() threads.
// Ranges hold at least `grain` items, so that small loops stay on the calling thread.
template <typename Body>
void parallel_for(size_t count, size_t grain, const Body& body) {
  const size_t parts = std::clamp<size_t>(count / std::max<size_t>(grain, 1), 1, loop_threads());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < parts; ++i)
    threads.emplace_back([&, i] { body(count * i / parts, count * (i + 1) / parts); });
  body(0, count / parts);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace mpq::convert
