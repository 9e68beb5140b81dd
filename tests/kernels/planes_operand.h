// Activation planes as operands of a problem: with gaps between rows, planes and images, with a
// halo, and ending on the last byte of the last pixel.
#pragma once

#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "tests/kernels/harness.h"

namespace mpq::test {

struct PlanesSpec {
  uint32_t n = 1, c = 1, h = 1, w = 1, cb = 64;
  uint32_t halo = 0;  // pixels on each side, present but not part of the tensor
  uint32_t row_gap = 0, plane_gap = 0, image_gap = 0;  // in pixels
};

// An operand with its geometry: `at(base)` is the Planes for an operand that lies at base.
struct PlanesOperand {
  size_t index = 0;
  kernels::Planes geometry;  // data unset
  ptrdiff_t origin = 0;      // of pixel (0, 0)

  kernels::Planes at(Pointers pointers) const {
    kernels::Planes p = geometry;
    p.data = pointers[index] + origin;
    return p;
  }
};

// Gaps drawn at random: half the time none.
inline PlanesSpec with_random_gaps(PlanesSpec s, Rng& rng) {
  if (rng.chance(2)) return s;
  s.row_gap = rng.below(3);
  s.plane_gap = rng.below(5);
  s.image_gap = rng.below(5);
  return s;
}

// Channels of the tensor get `role` and, if read, codes from code(n, c, y, x). The channels above
// are unspecified in inputs and scratch in outputs; halo and gaps are unspecified.
template <typename Code>
PlanesOperand add_planes(Problem* problem, std::string name, const PlanesSpec& s, Role role,
                         Code code) {
  const uint32_t blocks = (s.c + s.cb - 1) / s.cb, columns = s.w + 2 * s.halo,
                 rows = s.h + 2 * s.halo;
  kernels::Planes p;
  p.cb = s.cb;
  p.row = ptrdiff_t{columns + s.row_gap} * s.cb;
  p.plane = p.row * rows + ptrdiff_t{s.plane_gap} * s.cb;
  p.image = p.plane * blocks + ptrdiff_t{s.image_gap} * s.cb;
  const ptrdiff_t size =
      (s.n - 1) * p.image + (blocks - 1) * p.plane + (rows - 1) * p.row + ptrdiff_t{columns} * s.cb;
  const ptrdiff_t origin = s.halo * p.row + ptrdiff_t{s.halo} * s.cb;

  Operand o = {std::move(name), std::vector<uint8_t>(static_cast<size_t>(size)),
               std::vector<Role>(static_cast<size_t>(size), Role::kUnspecified), 1, nullptr};
  for (uint32_t n = 0; n < s.n; ++n)
    for (uint32_t c = 0; c < blocks * s.cb; ++c)
      for (uint32_t y = 0; y < s.h; ++y)
        for (uint32_t x = 0; x < s.w; ++x) {
          const auto i = static_cast<size_t>(origin + n * p.image + c / s.cb * p.plane + y * p.row +
                                             ptrdiff_t{x} * s.cb + c % s.cb);
          const Role padding = role == Role::kInput ? Role::kUnspecified : Role::kScratch;
          o.roles[i] = c < s.c ? role : padding;
          if (c < s.c && role != Role::kOutput) o.bytes[i] = static_cast<uint8_t>(code(n, c, y, x));
        }
  o.coordinates = [p, s](size_t at) {
    ptrdiff_t rest = static_cast<ptrdiff_t>(at);
    const ptrdiff_t n = rest / p.image, block = (rest %= p.image) / p.plane;
    const ptrdiff_t y = (rest %= p.plane) / p.row - s.halo;
    const ptrdiff_t x = (rest %= p.row) / s.cb - s.halo;
    return "n " + std::to_string(n) + " c " + std::to_string(block * s.cb + rest % s.cb) + " y " +
           std::to_string(y) + " x " + std::to_string(x);
  };
  problem->operands.push_back(std::move(o));
  return {problem->operands.size() - 1, p, origin};
}

inline PlanesOperand add_output_planes(Problem* problem, std::string name, const PlanesSpec& s) {
  return add_planes(problem, std::move(name), s, Role::kOutput,
                    [](uint32_t, uint32_t, uint32_t, uint32_t) { return 0; });
}

}  // namespace mpq::test
