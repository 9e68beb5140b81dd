#include <doctest/doctest.h>
#include <sched.h>

#include <string>
#include <vector>

#include "runtime/cpu_limit.h"
#include "runtime/thread_pool.h"
#include "tests/support/temp_folder.h"

namespace mpq::runtime {

TEST_CASE("cpu limit: the least quota of the group and of the groups around it, rounded up") {
  struct File {
    const char *path, *text;
  };
  struct Machine {
    std::vector<File> files;
    uint32_t cpus;
  };
  constexpr const char* kTable = "proc/self/cgroup";
  const Machine machines[] = {
      {{}, kNoCpuLimit},
      {{{kTable, "0::/\n"}}, kNoCpuLimit},
      {{{kTable, "0::/\n"}, {"sys/fs/cgroup/cpu.max", "max 100000\n"}}, kNoCpuLimit},
      {{{kTable, "0::/\n"}, {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}, 2},
      {{{kTable, "0::/\n"}, {"sys/fs/cgroup/cpu.max", "150000 100000\n"}}, 2},
      {{{kTable, "0::/\n"}, {"sys/fs/cgroup/cpu.max", "1000 100000\n"}}, 1},
      {{{kTable, "0::/a/b\n"},
        {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"},
        {"sys/fs/cgroup/a/b/cpu.max", "max 100000\n"}},
       3},
      {{{kTable, "0::/a/b\n"},
        {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"},
        {"sys/fs/cgroup/a/b/cpu.max", "100000 100000\n"}},
       1},
      {{{kTable, "5:memory:/m\n4:cpu,cpuacct:/a\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "400000\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"}},
       4},
      {{{kTable, "4:cpu,cpuacct:/a\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"}},
       kNoCpuLimit},
  };
  for (const Machine& machine : machines) {
    const tests::TempFolder root;
    for (const File& file : machine.files) root.write(file.path, file.text);
    CAPTURE(machine.files.empty() ? "" : machine.files.back().text);
    CHECK(quota_cpus(root.path.string()) == machine.cpus);
  }
}

TEST_CASE("cpu limit: threads by default follow the affinity of the process") {
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  CHECK(affinity_cpus() == static_cast<uint32_t>(CPU_COUNT(&before)));
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(affinity_cpus() == 1);
  CHECK(default_threads() == 1);
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
}

}  // namespace mpq::runtime
