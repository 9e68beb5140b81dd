// A function of each element of an array: y[i] = f(x[i]), f of functions.h. x and y may be the same
// array. Single-threaded, re-entrant; touches n elements and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"

namespace mpq::kernels {

enum class Function : uint8_t { kExpNonpositive, kPartsOf255, kTanh, kGelu, kGeluTanh };
inline constexpr int kFunctionCount = 5;

struct MapKernel {
  const char* name;  // "map_f32_avx2"
  IsaMask isa;
  void (*run[kFunctionCount])(const float* x, float* y, size_t n);  // by Function
};

std::span<const MapKernel> map_kernels();  // best first, reference last

}  // namespace mpq::kernels
