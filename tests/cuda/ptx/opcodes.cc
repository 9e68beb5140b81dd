#include "tests/cuda/ptx/opcodes.h"

#include <algorithm>

namespace mpq::ptx {

Opcodes::Opcodes() {
  add_integer(*this);
  add_real(*this);
  add_convert(*this);
  add_memory(*this);
  add_warp(*this);
  add_mma(*this);
}

std::vector<std::string> Opcodes::names() const {
  std::vector<std::string> names;
  for (const auto& [name, forms] : forms_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

const Opcodes& opcodes() {
  static const Opcodes table;
  return table;
}

std::string_view reason_absent(std::string_view opcode) {
  constexpr struct {
    std::string_view part, reason;
  } kReasons[] = {
      {".approx", "the ISA gives a bound on its error, not its bits"},
      {".ftz", "denormals are kept (numerics: kernels/README.md)"},
      {"atom.add.f32", "the sum depends on the order"},
      {"call", "kernels are inlined whole"},
  };
  for (const auto& [part, reason] : kReasons)
    if (opcode.find(part) != std::string_view::npos) return reason;
  for (const std::string_view name :
       {"add.f32", "sub.f32", "mul.f32", "add.sat.f32", "mul.sat.f32"})
    if (opcode == name)
      return "without a rounding mode ptxas may fuse it with its neighbour (nvcc -fmad=false)";
  return "not implemented";
}

}  // namespace mpq::ptx
