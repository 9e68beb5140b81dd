#include "runtime/cpu_limit.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/thread_pool.h"

namespace mpq::runtime {
namespace {

// The start of a small text file; empty when it cannot be read.
std::string read_text(const std::string& path) {
  std::string text;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    char buffer[4096];
    text.assign(buffer, std::fread(buffer, 1, sizeof buffer, file));
    std::fclose(file);
  }
  return text;
}

// The path of this process below the mount of a controller: "4:cpu,cpuacct:/a/b", or "0::/a/b"
// (version 2, no controller).
std::string cgroup_path(const std::string& table, const std::string& controller) {
  std::string wanted = ",";
  wanted += controller;
  wanted += ',';
  size_t line = 0;
  while (line < table.size()) {
    const size_t end = std::min(table.find('\n', line), table.size());
    const size_t first = table.find(':', line), second = table.find(':', first + 1);
    if (second < end) {
      std::string names = ",";
      names.append(table, first + 1, second - first - 1);
      names += ',';
      if (names.find(wanted) != std::string::npos)
        return table.substr(second + 1, end - second - 1);
    }
    line = end + 1;
  }
  return "";
}

uint32_t cpus(double quota_us, double period_us) {
  if (quota_us <= 0 || period_us <= 0) return kNoCpuLimit;
  const double count = quota_us / period_us;
  return static_cast<uint32_t>(std::clamp(count + 0.999, 1.0, double{kNoCpuLimit}));
}

}  // namespace

uint32_t affinity_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on machines with more than 1024 CPUs; then the quota alone decides.
  if (sched_getaffinity(0, sizeof set, &set) != 0) return kNoCpuLimit;
  return static_cast<uint32_t>(std::max(CPU_COUNT(&set), 1));
}

uint32_t quota_cpus(const std::string& root) {
  const std::string table = read_text(root + "/proc/self/cgroup");
  uint32_t least = kNoCpuLimit;
  for (std::string path = cgroup_path(table, "");;) {
    double quota = 0, period = 0;
    const std::string text = read_text(root + "/sys/fs/cgroup" + path + "/cpu.max");
    if (std::sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2)  // "max 100000": no limit
      least = std::min(least, cpus(quota, period));
    const size_t parent = path.find_last_of('/');
    if (path.empty() || parent == std::string::npos) break;
    path.resize(parent);
  }
  for (std::string path = cgroup_path(table, "cpu");;) {
    const std::string folder = root + "/sys/fs/cgroup/cpu" + path;
    double quota = 0, period = 0;
    if (std::sscanf(read_text(folder + "/cpu.cfs_quota_us").c_str(), "%lf", &quota) == 1 &&
        std::sscanf(read_text(folder + "/cpu.cfs_period_us").c_str(), "%lf", &period) == 1)
      least = std::min(least, cpus(quota, period));
    const size_t parent = path.find_last_of('/');
    if (path.empty() || parent == std::string::npos) break;
    path.resize(parent);
  }
  return least;
}

uint32_t default_threads() { return std::min(affinity_cpus(), quota_cpus("")); }

}  // namespace mpq::runtime
