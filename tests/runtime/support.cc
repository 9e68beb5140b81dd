#include "tests/runtime/support.h"

#include <cstdio>

namespace mpq::test {

std::vector<kernels::IsaMask> machine_levels() {
  std::vector<kernels::IsaMask> levels;
  for (const char* name : {"scalar", "avx2", "avx512vnni", "amx"}) {
    kernels::IsaMask mask = 0;
    kernels::parse_isa(name, &mask);
    if ((mask & ~runtime::available_isa()) == 0)
      levels.push_back(mask);
    else
      std::printf("SKIPPED: runtime on %s: this machine lacks it\n", name);
  }
  return levels;
}

}  // namespace mpq::test
