#include "integrations/server/config.h"

#include <functional>
#include <set>
#include <utility>

namespace mpq::serve {

namespace {

constexpr int kMaxDepth = 32;

using Complaint = std::optional<std::string>;

// One key of an object: how its value is taken.
struct Key {
  const char* name;
  std::function<Complaint(const Json&)> take;
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
std::function<Complaint(const Json&)> whole(T* target, uint64_t low, uint64_t high) {
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
  const auto plain = [](std::function<Complaint(const Json&)> take) {
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

Complaint take_batching(const Json& json, ModelConfig* config) {
  const auto policy = [config](const Json& value) {
    return take_object(
        value, "",
        {{"timeout_action",
          [config](const Json& v) { return take_action(v, &config->timeout_action); }},
         {"default_timeout_microseconds", whole(&config->default_timeout_us, 0, UINT32_MAX)},
         {"allow_timeout_override",
          [config](const Json& v) -> Complaint {
            if (!v.is_boolean()) return "true or false";
            config->allow_timeout_override = v.get<bool>();
            return std::nullopt;
          }},
         {"max_queue_size", whole(&config->max_queue_size, 0, 1U << 20)}});
  };
  return take_object(
      json, "",
      {{"max_queue_delay_microseconds", whole(&config->max_queue_delay_us, 0, 60000000)},
       {"priority_levels", whole(&config->priority_levels, 1, 100)},
       {"default_priority_level", whole(&config->default_priority_level, 1, 100)},
       {"default_queue_policy", policy}});
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
       {"max_batch_size", whole(&config->max_batch_size, 1, 1024)},
       {"dynamic_batching", [config](const Json& v) { return take_batching(v, config); }},
       {"instance_group", [config](const Json& v) { return take_instances(v, config); }},
       {"version_policy", [config](const Json& v) { return take_versions(v, config); }},
       {"parameters", [config](const Json& v) { return take_parameters(v, config); }}});
  if (!complaint && config->default_priority_level > config->priority_levels)
    complaint = "config.json: default_priority_level " +
                std::to_string(config->default_priority_level) + " of " +
                std::to_string(config->priority_levels);
  return complaint;
}

Json to_json(const ModelConfig& c) {
  return {{"max_batch_size", c.max_batch_size},
          {"dynamic_batching",
           {{"max_queue_delay_microseconds", c.max_queue_delay_us},
            {"priority_levels", c.priority_levels},
            {"default_priority_level", c.default_priority_level},
            {"default_queue_policy",
             {{"timeout_action", c.timeout_action == TimeoutAction::kReject ? "REJECT" : "DELAY"},
              {"default_timeout_microseconds", c.default_timeout_us},
              {"allow_timeout_override", c.allow_timeout_override},
              {"max_queue_size", c.max_queue_size}}}}},
          {"instance_group", {{{"count", c.instances}, {"kind", "KIND_CPU"}}}},
          {"parameters",
           {{"threads", {{"string_value", std::to_string(c.threads)}}},
            {"max_batch_tokens", {{"string_value", std::to_string(c.max_batch_tokens)}}},
            {"isa", {{"string_value", c.isa}}}}}};
}

}  // namespace mpq::serve
