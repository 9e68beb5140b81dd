// What a model's config.json says, in Triton's vocabulary.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mpq::serve {

using Json = nlohmann::json;

enum class TimeoutAction { kReject, kDelay };

/// How requests of one priority level wait.
struct QueuePolicy {
  TimeoutAction timeout_action = TimeoutAction::kReject;
  uint64_t default_timeout_us = 1000000;  // in the queue; 0: none
  bool allow_timeout_override = true;     // a request may ask for less
  uint32_t max_queue_size = 64;           // requests; 0: no limit
};

struct ModelConfig {
  uint32_t max_batch_size = 8;                  // samples (or sequences) of one run
  uint32_t max_batch_tokens = 0;                // of all sequences of one run; 0: see Facts
  uint64_t max_queue_delay_us = 0;              // a run waits so long for more requests
  std::vector<uint32_t> preferred_batch_sizes;  // does not wait once it has one of these
  bool preserve_ordering = false;               // answers in the order of the requests
  uint32_t priority_levels = 1;                 // 1 is the first to run
  uint32_t default_priority_level = 1;
  QueuePolicy default_policy;  // of levels that have none of their own
  std::map<uint32_t, QueuePolicy> level_policies;
  uint32_t instances = 1;        // sessions that run at the same time, weights shared
  uint32_t threads = 0;          // of each; 0: all cores divided by the instances
  std::string isa;               // "": the best
  uint32_t latest_versions = 1;  // 0: every version, or those of `versions`
  std::vector<uint64_t> versions;

  const QueuePolicy& policy(uint32_t level) const {
    const auto found = level_policies.find(level);
    return found == level_policies.end() ? default_policy : found->second;
  }
};

/// Reads config.json; names of Triton's model configuration. Keys that are not known are errors.
/// Returns what is wrong, or nothing.
std::optional<std::string> parse_config(std::string_view text, ModelConfig* config);

/// As Triton's model configuration extension gives it.
Json to_json(const ModelConfig& config);

/// Parses JSON of at most 32 levels without duplicate keys. Returns what is wrong, or nothing.
std::optional<std::string> parse_json(std::string_view text, Json* json);

}  // namespace mpq::serve
