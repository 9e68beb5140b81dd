#include "integrations/server/config.h"

#include <functional>
#include <set>
#include <utility>

namespace mpq::serve {

namespace {

constexpr int kMaxDepth = 32;
constexpr uint32_t kMaxBatch = 1024, kMaxLevels = 100;

using Complaint = std::optional<std::string>;
using Take = std::function<Complaint(const Json&)>;

// One key of an object: how its value is taken.
struct Key {
  const char* name;
  Take take;
};

Complaint take_object(const Json& json, const std::string& where, const std::vector<Key>& keys) {
  if (!json.is_object()) return where + ": not an object";
  for (const auto& [name, value] : json.items()) {
    const Key* known = nullptr;
    for (const Key& key : keys)
      if (name == key.name) known = &key;
    if (known == nullptr) return where + ": unknown key " + name;
    if (Complaint complaint = known->take(value)) return where + "." + name + ": " + *complaint;
  }
  return std::nullopt;
}

template <typename T>
Take whole(T* target, uint64_t low, uint64_t high) {
  return [=](const Json& json) -> Complaint {
    uint64_t value = 0;
    if (json.is_number_unsigned()) {
      value = json.get<uint64_t>();
    } else if (!json.is_string() ||  // protobuf's JSON writes 64-bit numbers as strings
               json.get_ref<const std::string&>().find_first_not_of("0123456789") !=
                   std::string::npos ||
               json.get_ref<const std::string&>().empty() ||
               json.get_ref<const std::string&>().size() > 18) {
      return "not a whole number";
    } else {
      value = std::stoull(json.get<std::string>());
    }
    if (value < low || value > high)
      return std::to_string(value) + " is not in " + std::to_string(low) + " to " +
             std::to_string(high);
    *target = static_cast<T>(value);
    return std::nullopt;
  };
}

Take flag(bool* target) {
  return [target](const Json& json) -> Complaint {
    if (!json.is_boolean()) return "true or false";
    *target = json.get<bool>();
    return std::nullopt;
  };
}

Complaint take_action(const Json& json, TimeoutAction* action) {
  if (json == "REJECT")
    *action = TimeoutAction::kReject;
  else if (json == "DELAY")
    *action = TimeoutAction::kDelay;
  else
    return "REJECT or DELAY";
  return std::nullopt;
}

Complaint take_instances(const Json& json, ModelConfig* config) {
  if (!json.is_array() || json.size() != 1) return "an array of one group";
  const auto kind = [](const Json& value) -> Complaint {
    if (value == "KIND_CPU" || value == "KIND_AUTO") return std::nullopt;
    return "KIND_CPU or KIND_AUTO";
  };
  return take_object(json[0], "[0]",
                     {{"count", whole(&config->instances, 1, 256)}, {"kind", kind}});
}

Complaint take_versions(const Json& json, ModelConfig* config) {
  config->latest_versions = 0;
  const auto specific = [config](const Json& list) -> Complaint {
    if (!list.is_array() || list.empty()) return "a list of versions";
    for (const Json& version : list) {
      uint64_t number = 0;
      if (Complaint complaint = whole(&number, 1, UINT64_MAX)(version)) return complaint;
      config->versions.push_back(number);
    }
    return std::nullopt;
  };
  return take_object(
      json, "",
      {{"all", [](const Json&) -> Complaint { return std::nullopt; }},
       {"latest",
        [config](const Json& v) {
          return take_object(v, "", {{"num_versions", whole(&config->latest_versions, 1, 1000)}});
        }},
       {"specific", [&](const Json& v) {
          return take_object(v, "", {{"versions", specific}});
        }}});
}

// Triton's parameters are {"key": {"string_value": "text"}}; a plain text or number will do.
Complaint take_parameters(const Json& json, ModelConfig* config) {
  const auto plain = [](Take take) {
    return [take](const Json& value) {
      return take(value.is_object() && value.contains("string_value") ? value["string_value"]
                                                                      : value);
    };
  };
  const auto isa = [config](const Json& value) -> Complaint {
    if (!value.is_string()) return "not a text";
    config->isa = value.get<std::string>();
    return std::nullopt;
  };
  return take_object(json, "",
                     {{"threads", plain(whole(&config->threads, 0, 1024))},
                      {"max_batch_tokens", plain(whole(&config->max_batch_tokens, 0, 1U << 24))},
                      {"isa", plain(isa)}});
}

Complaint take_policy(const Json& json, QueuePolicy* policy) {
  return take_object(
      json, "",
      {{"timeout_action",
        [policy](const Json& v) { return take_action(v, &policy->timeout_action); }},
       {"default_timeout_microseconds", whole(&policy->default_timeout_us, 0, UINT32_MAX)},
       {"allow_timeout_override", flag(&policy->allow_timeout_override)},
       {"max_queue_size", whole(&policy->max_queue_size, 0, 1U << 20)}});
}

// {"level": policy}
Complaint take_level_policies(const Json& json, ModelConfig* config) {
  if (!json.is_object()) return "not an object";
  for (const auto& [name, value] : json.items()) {
    uint32_t level = 0;
    if (Complaint complaint = whole(&level, 1, kMaxLevels)(name))
      return "." + name + ": " + *complaint;
    if (config->level_policies.contains(level)) return "." + name + ": that level stands twice";
    if (Complaint complaint = take_policy(value, &config->level_policies[level]))
      return "." + name + ": " + *complaint;
  }
  return std::nullopt;
}

Complaint take_preferred(const Json& json, ModelConfig* config) {
  if (!json.is_array()) return "not a list";
  for (const Json& size : json)
    if (Complaint complaint =
            whole(&config->preferred_batch_sizes.emplace_back(), 1, kMaxBatch)(size))
      return complaint;
  return std::nullopt;
}

Complaint take_batching(const Json& json, ModelConfig* config) {
  return take_object(
      json, "",
      {{"preferred_batch_size", [config](const Json& v) { return take_preferred(v, config); }},
       {"max_queue_delay_microseconds", whole(&config->max_queue_delay_us, 0, 60000000)},
       {"preserve_ordering", flag(&config->preserve_ordering)},
       {"priority_levels", whole(&config->priority_levels, 1, kMaxLevels)},
       {"default_priority_level", whole(&config->default_priority_level, 1, kMaxLevels)},
       {"default_queue_policy",
        [config](const Json& v) { return take_policy(v, &config->default_policy); }},
       {"priority_queue_policy",
        [config](const Json& v) { return take_level_policies(v, config); }}});
}

// Whether a request may be put behind later ones.
bool delays(const QueuePolicy& policy) {
  return policy.timeout_action == TimeoutAction::kDelay &&
         (policy.default_timeout_us != 0 || policy.allow_timeout_override);
}

// What each value allows and all together do not.
Complaint contradiction(const ModelConfig& config) {
  const std::string levels = " of " + std::to_string(config.priority_levels);
  if (config.default_priority_level > config.priority_levels)
    return "default_priority_level " + std::to_string(config.default_priority_level) + levels;
  if (!config.level_policies.empty())
    if (const uint32_t last = config.level_policies.rbegin()->first; last > config.priority_levels)
      return "priority_queue_policy for level " + std::to_string(last) + levels;
  for (const uint32_t size : config.preferred_batch_sizes)
    if (size > config.max_batch_size)
      return "preferred_batch_size " + std::to_string(size) + ", max_batch_size is " +
             std::to_string(config.max_batch_size);
  if (!config.preserve_ordering) return std::nullopt;
  if (config.priority_levels > 1)
    return "preserve_ordering with priority_levels " + std::to_string(config.priority_levels);
  if (delays(config.policy(1))) return "preserve_ordering with timeout_action DELAY";
  return std::nullopt;
}

Json policy_json(const QueuePolicy& policy) {
  return {{"timeout_action", policy.timeout_action == TimeoutAction::kReject ? "REJECT" : "DELAY"},
          {"default_timeout_microseconds", policy.default_timeout_us},
          {"allow_timeout_override", policy.allow_timeout_override},
          {"max_queue_size", policy.max_queue_size}};
}

}  // namespace

std::optional<std::string> parse_json(std::string_view text, Json* json) {
  std::optional<std::string> wrong;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) wrong = "JSON of more than 32 levels";
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second)
      wrong = "a key of the JSON stands twice";
    return !wrong.has_value();  // what follows is thrown away
  };
  *json = Json::parse(text, watch, false);
  if (!wrong && json->is_discarded()) wrong = "not JSON";
  return wrong;
}

std::optional<std::string> parse_config(std::string_view text, ModelConfig* config) {
  Json json;
  if (Complaint complaint = parse_json(text, &json)) return "config.json: " + *complaint;
  const auto ignored = [](const Json&) -> Complaint { return std::nullopt; };
  Complaint complaint = take_object(
      json, "config.json",
      {{"name", ignored},
       {"backend", ignored},
       {"platform", ignored},
       {"max_batch_size", whole(&config->max_batch_size, 1, kMaxBatch)},
       {"dynamic_batching", [config](const Json& v) { return take_batching(v, config); }},
       {"instance_group", [config](const Json& v) { return take_instances(v, config); }},
       {"version_policy", [config](const Json& v) { return take_versions(v, config); }},
       {"parameters", [config](const Json& v) { return take_parameters(v, config); }}});
  if (!complaint)
    if (const Complaint wrong = contradiction(*config)) complaint = "config.json: " + *wrong;
  return complaint;
}

Json to_json(const ModelConfig& c) {
  Json levels = Json::object();
  for (const auto& [level, policy] : c.level_policies)
    levels[std::to_string(level)] = policy_json(policy);
  return {{"max_batch_size", c.max_batch_size},
          {"dynamic_batching",
           {{"preferred_batch_size", c.preferred_batch_sizes},
            {"max_queue_delay_microseconds", c.max_queue_delay_us},
            {"preserve_ordering", c.preserve_ordering},
            {"priority_levels", c.priority_levels},
            {"default_priority_level", c.default_priority_level},
            {"default_queue_policy", policy_json(c.default_policy)},
            {"priority_queue_policy", levels}}},
          {"instance_group", {{{"count", c.instances}, {"kind", "KIND_CPU"}}}},
          {"parameters",
           {{"threads", {{"string_value", std::to_string(c.threads)}}},
            {"max_batch_tokens", {{"string_value", std::to_string(c.max_batch_tokens)}}},
            {"isa", {{"string_value", c.isa}}}}}};
}

}  // namespace mpq::serve
