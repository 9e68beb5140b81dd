// What a measurement must say about the machine it was taken on.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mpq::cli {

using Json = nlohmann::ordered_json;

struct Host {
  std::string cpu, kernel, system, governor, hypervisor, huge_pages, amx;
  std::string isa;                  // best level that mpq can use
  std::vector<std::string> levels;  // all of them
  uint32_t online = 0, usable = 0;  // CPUs; usable: affinity
  uint32_t threads = 0;             // what mpq would use: affinity and quota
  std::string affinity, quota;
  double load = 0.0, frequency_mhz = 0.0;
  uint64_t memory_bytes = 0;
};

Host inspect_host();
Json to_json(const Host& host);
// What makes timings unreliable here.
std::vector<std::string> host_warnings(const Host& host, uint32_t threads);

uint64_t peak_rss_bytes();  // of this process
std::string utc_now();      // "2026-01-31T12:00:00Z"

}  // namespace mpq::cli
