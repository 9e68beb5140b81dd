// What limits this process to fewer CPUs than the machine has; see default_threads().
#pragma once

#include <cstdint>
#include <string>

namespace mpq::runtime {

inline constexpr uint32_t kNoCpuLimit = 1024;

// CPUs of the affinity mask.
uint32_t affinity_cpus();

// CPUs that the quotas of the cgroup (versions 2 and 1) and of the groups around it grant, rounded
// up. `root`: where /proc and /sys are, "" but in tests.
uint32_t quota_cpus(const std::string& root);

}  // namespace mpq::runtime
