// Random numbers that repeat: the same on every machine and compiler. MPQ_TEST_SEED=n chooses
// others.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace mpq::test {

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 32) * n >> 32); }
  int32_t between(int32_t lo, int32_t hi) {
    return static_cast<int32_t>(lo + int64_t{below(static_cast<uint32_t>(int64_t{hi} - lo + 1))});
  }
  float uniform(float lo, float hi) {
    return lo + (hi - lo) * (static_cast<float>(next() >> 40) * 0x1p-24F);
  }
  bool chance(uint32_t one_in) { return below(one_in) == 0; }
  template <typename T, uint32_t N>
  T pick(const T (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  uint64_t state_;
};

inline uint64_t test_seed() {
  const char* text = std::getenv("MPQ_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 1;
}

// MPQ_TEST_LONG=1: hours instead of seconds.
inline bool long_tests() { return std::getenv("MPQ_TEST_LONG") != nullptr; }

// How many cases of a random test to run: fewer where each is slow.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define MPQ_TEST_SLOW 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define MPQ_TEST_SLOW 1
#endif
inline uint32_t test_cases(uint32_t quick) {
#ifdef MPQ_TEST_SLOW
  quick = (quick + 3) / 4;
#endif
  return long_tests() ? quick * 100 : quick;
}

}  // namespace mpq::test
