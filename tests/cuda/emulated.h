// The CUDA kernels compiled for the emulator, once for each family of architectures that they
// differ for: sm_75 (no asynchronous copies), sm_80 to sm_89 (4-bit products), sm_90 on (8-bit ones
// only).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace mpq::test {

struct EmulatedKernel {
  const char* name;
  void (*run)(const void* params);
};
std::span<const EmulatedKernel> emulated_sm75();
std::span<const EmulatedKernel> emulated_sm80();
std::span<const EmulatedKernel> emulated_sm90();

struct Architecture {
  uint32_t arch;
  std::span<const EmulatedKernel> (*kernels)();
};
inline constexpr Architecture kArchitectures[] = {
    {75, emulated_sm75}, {80, emulated_sm80}, {90, emulated_sm90}};

// Null if there is no such kernel.
inline void (*emulated(const Architecture& arch, std::string_view name))(const void*) {
  for (const EmulatedKernel& k : arch.kernels())
    if (name == k.name) return k.run;
  return nullptr;
}

}  // namespace mpq::test
