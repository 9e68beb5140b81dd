#include "runtime/cli/host.h"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include "runtime/cli/text.h"
#include "runtime/mpq.h"

namespace mpq::cli {

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return std::string(trim(line));
}

// The value of "key : value" or "key: value" in /proc files.
std::string proc_field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const size_t colon = line.find(':');
        colon != std::string::npos && trim(line.substr(0, colon)) == key)
      return std::string(trim(line.substr(colon + 1)));
  return "";
}

uint64_t kilobytes(const std::string& text) {
  uint64_t value = 0;
  std::istringstream(text) >> value;
  return value * 1024;
}

// "0-3,6" of the CPUs in the mask.
std::string cpu_list(const cpu_set_t& mask) {
  std::string text;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    int last = cpu;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &mask)) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(cpu) +
            (last > cpu ? "-" + std::to_string(last) : "");
    cpu = last;
  }
  return text;
}

std::string quota_text() {
  std::istringstream limit(first_line("/sys/fs/cgroup/cpu.max"));
  double quota = 0.0, period = 0.0;
  return limit >> quota >> period && period > 0.0 ? format("%.2f CPUs", quota / period) : "none";
}

// AMX needs the processor's bits and the system's permission, which a process asks for by
// arch_prctl.
std::string amx_text() {
  if (proc_field("/proc/cpuinfo", "flags").find(" amx_int8") == std::string::npos)
    return "not in this CPU";
  constexpr long kGetSupportedXcomp = 0x1021;
  constexpr unsigned long kTileData = 1UL << 18;
  unsigned long features = 0;
  if (syscall(SYS_arch_prctl, kGetSupportedXcomp, &features) != 0 || (features & kTileData) == 0)
    return "in this CPU, not supported by the kernel";
  return (mpq_isa_available() & MPQ_ISA_AMX) != 0 ? "granted"
                                                  : "in this CPU, not granted to this process";
}

std::string system_name() {
  std::ifstream file("/etc/os-release");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("PRETTY_NAME=")) {
      std::string name = line.substr(12);
      std::erase(name, '"');
      return name;
    }
  return "";
}

}  // namespace

Host inspect_host() {
  Host host;
  host.cpu = proc_field("/proc/cpuinfo", "model name");
  host.hypervisor =
      proc_field("/proc/cpuinfo", "flags").find(" hypervisor") != std::string::npos ? "yes" : "no";
  std::istringstream(proc_field("/proc/cpuinfo", "cpu MHz")) >> host.frequency_mhz;
  std::istringstream(first_line("/proc/loadavg")) >> host.load;
  host.memory_bytes = kilobytes(proc_field("/proc/meminfo", "MemTotal"));
  host.huge_pages = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  host.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  if (host.governor.empty()) host.governor = "unknown";
  host.system = system_name();
  utsname name{};
  if (uname(&name) == 0) host.kernel = std::string(name.sysname) + " " + name.release;
  host.online = static_cast<uint32_t>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    host.usable = static_cast<uint32_t>(CPU_COUNT(&mask));
    host.affinity = cpu_list(mask);
  }
  host.quota = quota_text();
  host.threads = mpq_default_threads();
  const uint32_t available = mpq_isa_available();
  host.isa = mpq_isa_name(available);
  host.levels = {"scalar"};
  for (const uint32_t level : {MPQ_ISA_AVX2, MPQ_ISA_AVX512VNNI, MPQ_ISA_AMX})
    if ((available & level) != 0) host.levels.emplace_back(mpq_isa_name(level));
  host.amx = amx_text();
  return host;
}

Json to_json(const Host& host) {
  return {{"cpu", host.cpu},
          {"isa", host.isa},
          {"isa_levels", host.levels},
          {"cpus_online", host.online},
          {"cpus_usable", host.usable},
          {"affinity", host.affinity},
          {"cpu_quota", host.quota},
          {"default_threads", host.threads},
          {"governor", host.governor},
          {"mhz", host.frequency_mhz},
          {"hypervisor", host.hypervisor},
          {"kernel", host.kernel},
          {"system", host.system},
          {"load_1min", host.load},
          {"memory_bytes", host.memory_bytes},
          {"huge_pages", host.huge_pages},
          {"amx", host.amx}};
}

std::vector<std::string> host_warnings(const Host& host, uint32_t threads) {
  std::vector<std::string> warnings;
  if (threads > host.usable)
    warnings.push_back(format("%u threads on %u usable CPUs", threads, host.usable));
  if (host.load > 0.3 * host.usable)
    warnings.push_back(
        format("other work on this machine: load %.2f over the last minute", host.load));
  if (host.governor != "performance" && host.governor != "unknown")
    warnings.push_back("frequency governor \"" + host.governor + "\": the clock may vary");
  if (host.quota != "none")
    warnings.push_back("CPU quota of " + host.quota + ": runs may be throttled");
  return warnings;
}

uint64_t peak_rss_bytes() { return kilobytes(proc_field("/proc/self/status", "VmHWM")); }

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace mpq::cli
