// A file of kernel times that people can read:
//
//   mpq kernel times 1
//   library 0.1.0
//   cpu Intel(R) Xeon(R) Processor, family 6 model 207 stepping 2
//   LAYER<tab>KERNEL NANOSECONDS<tab>KERNEL NANOSECONDS ...        fastest first
//
// A wrong file costs speed and nothing else: whatever it says, rows that do not serve a layer are
// never chosen, and those that do are equal to the bit.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::runtime {

struct KernelTime {
  std::string kernel;
  uint64_t ns = 0;
  bool operator==(const KernelTime&) const = default;
};
using KernelTimes = std::map<std::string, std::vector<KernelTime>>;  // by layer

// Empty when there is no such file. kUnsupported: of another CPU, version or format of file;
// kCorrupt: names the line.
Result<KernelTimes> load_kernel_times(const std::string& path);

// Replaces the file by a complete one, or leaves it as it was.
Checked save_kernel_times(const std::string& path, const KernelTimes& times);

}  // namespace mpq::runtime
