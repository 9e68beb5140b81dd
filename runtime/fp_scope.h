// The floating-point mode every kernel relies on: round to nearest even, denormals kept, exceptions
// masked. Hosts change it (loading any library linked with -ffast-math does), so each entry point
// and each worker sets it and gives the caller's back.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mpq::runtime {

#if defined(__SSE__)
class FpScope {
 public:
  FpScope() : saved_(_mm_getcsr()) { _mm_setcsr(kDefaultMxcsr); }
  ~FpScope() { _mm_setcsr(saved_); }
  FpScope(const FpScope&) = delete;
  FpScope& operator=(const FpScope&) = delete;

 private:
  static constexpr unsigned kDefaultMxcsr = 0x1F80;  // all six masks, nothing else
  const unsigned saved_;
};
#else
class FpScope {};
#endif

}  // namespace mpq::runtime
