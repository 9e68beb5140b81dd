// The rows of the family, defined one instruction set a file, and the loop that they share.
#pragma once

#include "kernels/math/functions.h"
#include "kernels/math/map.h"

namespace mpq::kernels {

extern const MapKernel map_f32_ref, map_f32_avx2, map_f32_avx512vnni;

namespace {

// Whole vectors, then the rest through a buffer: lanes do not depend on each other.
template <typename L, typename L::F (*F)(typename L::F)>
static void map_array(const float* x, float* y, size_t n) {
  constexpr size_t kWidth = L::kWidth;
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) L::store(y + i, F(L::load(x + i)));
  if (i == n) return;
  float rest[kWidth] = {};
  for (size_t j = i; j < n; ++j) rest[j - i] = x[j];
  L::store(rest, F(L::load(rest)));
  for (size_t j = i; j < n; ++j) y[j] = rest[j - i];
}

template <typename L>
constexpr MapKernel map_kernel(const char* name, IsaMask isa) {
  return {name,
          isa,
          {map_array<L, exp_nonpositive<L>>, map_array<L, parts_of_255<L>>,
           map_array<L, tanh_of<L>>, map_array<L, gelu<L>>, map_array<L, gelu_tanh<L>>}};
}

}  // namespace
}  // namespace mpq::kernels
