#include "integrations/server/api.h"

#include <charconv>

#include "integrations/server/infer.h"
#include "integrations/server/log.h"
#include "integrations/server/repository.h"

namespace mpq::serve {

namespace {

constexpr size_t kMaxMessage = 1000;
constexpr uint64_t kSmallBody = uint64_t{1} << 20;

Response json_response(const Json& json, unsigned status = 200) {
  Response response;
  response.status = status;
  response.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

Response failed(unsigned status, const std::string& message) {
  Response response = json_response({{"error", message.substr(0, kMaxMessage)}}, status);
  response.retry_after = status == 503;
  return response;
}

Response failed(const Failure& failure) { return failed(failure.status, failure.message); }

Response empty_response(unsigned status) {
  Response response;
  response.status = status;
  return response;
}

Json tensors_of(const std::vector<TensorFacts>& tensors, bool sequences) {
  Json list = Json::array();
  for (const TensorFacts& tensor : tensors) {
    Json shape = {-1};
    if (tensor.per_token || (sequences && tensor.shape.empty())) shape.push_back(-1);
    for (const int64_t dimension : tensor.shape) shape.push_back(dimension);
    list.push_back({{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", shape}});
  }
  return list;
}

Json inputs_of(const Facts& facts) {
  Json inputs = tensors_of(facts.inputs, facts.sequences());
  if (facts.takes_text)
    inputs.push_back({{"name", "text"}, {"datatype", "BYTES"}, {"shape", {-1}}});
  return inputs;
}

Json metadata_of(const Facts& facts, const std::vector<std::string>& versions) {
  return {{"name", facts.name},
          {"versions", versions},
          {"platform", "mpq"},
          {"inputs", inputs_of(facts)},
          {"outputs", tensors_of(facts.outputs, facts.sequences())}};
}

// As Triton names types in a model's configuration.
Json config_tensors(const Json& tensors) {
  Json list = Json::array();
  for (const Json& tensor : tensors) {
    std::string type = tensor["datatype"];
    type = type == "BYTES" ? "STRING" : type;
    Json dims = tensor["shape"];
    dims.erase(0);
    if (dims.empty()) dims = {1};
    list.push_back({{"name", tensor["name"]}, {"data_type", "TYPE_" + type}, {"dims", dims}});
  }
  return list;
}

Json config_of(const Facts& facts) {
  Json config = to_json(facts.config);
  config["name"] = facts.name;
  config["platform"] = "mpq";
  config["backend"] = "mpq";
  config["input"] = config_tensors(inputs_of(facts));
  config["output"] = config_tensors(tensors_of(facts.outputs, facts.sequences()));
  return config;
}

Json duration_of(uint64_t count, uint64_t us) { return {{"count", count}, {"ns", us * 1000}}; }

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned char different = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    different |= static_cast<unsigned char>(a[i] ^ b[b.empty() ? 0 : i % b.size()]);
  return different == 0 && !b.empty();
}

struct StatusWord {
  unsigned status;
  Ended ended;
};
constexpr StatusWord kWords[] = {{400, Ended::kInvalid},
                                 {503, Ended::kQueueFull},
                                 {504, Ended::kExpired},
                                 {499, Ended::kCancelled},
                                 {500, Ended::kFailed}};

Ended ended_by(const MaybeFailure& failure) {
  if (!failure) return Ended::kOk;
  for (const StatusWord& word : kWords)
    if (word.status == failure->status) return word.ended;
  return Ended::kFailed;
}

}  // namespace

// What a target names: /v2/models/MODEL/versions/VERSION/ACTION.
struct Api::Target {
  enum class Kind { kNone, kServer, kLive, kReady, kAllStats, kModel, kIndex, kControl };
  Kind kind = Kind::kNone;
  std::string model, version, action;
};

Api::Target Api::parse(const std::string& target) {
  std::vector<std::string> parts;
  const std::string_view path = std::string_view(target).substr(0, target.find('?'));
  if (path.size() > 1024 || path.empty() || path[0] != '/') return {};
  for (size_t from = 1; from <= path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    parts.emplace_back(path.substr(from, end - from));
    from = end + 1;
  }
  const auto is = [&parts](std::initializer_list<const char*> words) {
    return parts.size() == words.size() && std::equal(words.begin(), words.end(), parts.begin());
  };
  using Kind = Target::Kind;
  if (is({"v2"}) || is({"v2", ""})) return {Kind::kServer, "", "", ""};
  if (is({"v2", "health", "live"})) return {Kind::kLive, "", "", ""};
  if (is({"v2", "health", "ready"})) return {Kind::kReady, "", "", ""};
  if (is({"v2", "models", "stats"})) return {Kind::kAllStats, "", "", ""};
  if (is({"v2", "repository", "index"})) return {Kind::kIndex, "", "", ""};
  if (parts.size() == 5 && parts[0] == "v2" && parts[1] == "repository" && parts[2] == "models" &&
      is_model_name(parts[3]))
    return {Kind::kControl, parts[3], "", parts[4]};
  if (parts.size() < 3 || parts[0] != "v2" || parts[1] != "models" || !is_model_name(parts[2]))
    return {};
  Target found{Kind::kModel, parts[2], "", ""};
  size_t next = 3;
  if (parts.size() >= 5 && parts[3] == "versions") {
    found.version = parts[4];
    next = 5;
  }
  if (parts.size() > next + 1) return {};
  if (parts.size() == next + 1) found.action = parts[next];
  return found;
}

uint64_t Api::body_limit(const std::string& text) const {
  const Target target = parse(text);
  if (target.kind != Target::Kind::kModel || target.action != "infer") return kSmallBody;
  const auto served = repository_->find(target.model, target.version);
  return served == nullptr ? kSmallBody : served->facts->body_limit();
}

std::string Api::metrics() const {
  std::vector<NamedMetrics> models;
  const auto all = repository_->all();
  for (const auto& served : all)
    models.push_back({served->facts->name, served->facts->version, &served->batcher->metrics(),
                      served->batcher->memory_bytes()});
  return prometheus_text(models);
}

// Health needs no token: it says nothing, and those who ask for it have none.
bool Api::may_pass(const Request& request) const {
  if (options_.token.empty()) return true;
  const auto kind = parse(request.target).kind;
  if (kind == Target::Kind::kLive || kind == Target::Kind::kReady) return true;
  constexpr std::string_view kScheme = "Bearer ";
  const std::string given = request.authorization.value_or("");
  return given.starts_with(kScheme) &&
         equal_in_constant_time(std::string_view(given).substr(kScheme.size()), options_.token);
}

void Api::handle(Request request, std::function<void(Response)> done) {
  if (!may_pass(request)) return done(failed(401, "a bearer token is needed"));
  const Target target = parse(request.target);
  if (target.kind == Target::Kind::kModel && target.action == "infer" && request.method == "POST")
    return infer(std::move(request), target, std::move(done));
  done(answer(request, target));
}

Response Api::answer(const Request& request, const Target& target) {
  using Kind = Target::Kind;
  if (target.kind == Kind::kNone) return failed(404, "no such path");
  const bool post =
      target.kind == Kind::kControl || target.kind == Kind::kIndex || target.action == "infer";
  if (request.method != (post ? "POST" : "GET"))
    return failed(405, std::string("this path takes ") + (post ? "POST" : "GET"));
  switch (target.kind) {
    case Kind::kLive:
      return empty_response(200);
    case Kind::kReady:
      return empty_response(!draining_ && repository_->all_served() ? 200 : 503);
    case Kind::kServer:
      return json_response({{"name", "mpqserve"},
                            {"version", mpq_version_string()},
                            {"extensions",
                             {"binary_tensor_data", "classification", "model_configuration",
                              "model_repository", "schedule_policy", "statistics"}}});
    case Kind::kAllStats:
      return statistics(repository_->all());
    case Kind::kIndex:
    case Kind::kControl:
      return control(request, target);
    default:
      break;
  }
  const auto served = repository_->find(target.model, target.version);
  if (target.action == "ready") return empty_response(served && !draining_ ? 200 : 503);
  if (served == nullptr) return failed(404, "no such model or version");
  if (target.action.empty()) {
    std::vector<std::string> versions;
    for (const auto& other : repository_->all())
      if (other->facts->name == target.model) versions.push_back(other->facts->version);
    return json_response(metadata_of(*served->facts, versions));
  }
  if (target.action == "config") return json_response(config_of(*served->facts));
  if (target.action == "stats") return statistics({served});
  return failed(404, "no such path");
}

Response Api::control(const Request& request, const Target& target) {
  if (target.kind == Target::Kind::kIndex) {
    Json rows = Json::array();
    for (const IndexRow& row : repository_->index())
      rows.push_back({{"name", row.name},
                      {"version", row.version},
                      {"state", row.state},
                      {"reason", row.reason.empty() ? "" : "cannot be loaded, see the log"}});
    return json_response(rows);
  }
  if (!options_.model_control)
    return failed(501, "models are not loaded or unloaded by requests here");
  if (target.action == "load") {
    Json ignored;
    if (!request.body.empty() && parse_json(request.body, &ignored))
      return failed(400, "the request is no JSON");
    return repository_->load(target.model) ? json_response(Json::object())
                                           : failed(400, "cannot be loaded, see the log");
  }
  if (target.action == "unload")
    return repository_->unload(target.model) ? json_response(Json::object())
                                             : failed(404, "no such model");
  return failed(404, "no such path");
}

Response Api::statistics(const std::vector<std::shared_ptr<Served>>& served) const {
  Json list = Json::array();
  for (const auto& one : served) {
    const Metrics& m = one->batcher->metrics();
    const uint64_t ok = m.requests[static_cast<size_t>(Ended::kOk)].load();
    uint64_t all = 0;
    for (const auto& count : m.requests) all += count.load();
    list.push_back({{"name", one->facts->name},
                    {"version", one->facts->version},
                    {"last_inference", m.last_inference_ms.load()},
                    {"inference_count", m.samples.load()},
                    {"execution_count", m.runs.load()},
                    {"inference_stats",
                     {{"success", duration_of(ok, m.request.sum())},
                      {"fail", duration_of(all - ok, 0)},
                      {"queue", duration_of(m.queue.count(), m.queue.sum())},
                      {"compute_input", duration_of(m.compute.count(), 0)},
                      {"compute_infer", duration_of(m.compute.count(), m.compute.sum())},
                      {"compute_output", duration_of(m.compute.count(), 0)}}},
                    {"batch_stats", Json::array()}});
  }
  return json_response({{"model_stats", list}});
}

void Api::infer(Request request, const Target& target, std::function<void(Response)> done) {
  if (refusing_) return done(failed(503, "the server is stopping"));
  if (repository_->find(target.model, target.version) == nullptr)
    return done(failed(404, "no such model or version"));
  size_t json_bytes = request.body.size();
  if (request.json_bytes) {
    const std::string& text = *request.json_bytes;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), json_bytes);
    if (error != std::errc() || end != text.data() + text.size())
      return done(failed(400, "Inference-Header-Content-Length is no number"));
  } else if (json_bytes == 0) {
    return done(failed(400, "the request has no body"));
  }
  // A version that is being replaced takes no more jobs: then the next one is there.
  constexpr int kTries = 3;
  auto job = std::make_unique<Job>();
  job->body = std::move(request.body);
  job->arrived = Clock::now();
  job->cancelled = request.cancelled ? request.cancelled : std::make_shared<std::atomic<bool>>();
  active_.fetch_add(1);
  const auto answer_once = [this, done = std::move(done)](Response response) {
    active_.fetch_sub(1);
    done(std::move(response));
  };
  for (int i = 0; i < kTries; ++i) {
    const auto served = repository_->find(target.model, target.version);
    if (served == nullptr) return answer_once(failed(404, "no such model or version"));
    const std::shared_ptr<const Facts> facts = served->facts;
    Wanted wanted;
    job->inputs.clear();
    job->owned.clear();
    job->ids.clear();
    job->types.clear();
    job->lengths.clear();
    job->samples = 0;
    if (MaybeFailure failure = read_request(*facts, json_bytes, job.get(), &wanted)) {
      served->batcher->metrics().count(ended_by(failure));
      return answer_once(failed(*failure));
    }
    // The callee must not own the batcher: it is called by the batcher's own threads, or by this
    // one.
    job->done = [this, facts, wanted, answer_once, metrics = &served->batcher->metrics()](
                    JobPtr finished, MaybeFailure failure) {
      using std::chrono::duration_cast;
      using std::chrono::microseconds;
      const auto us = static_cast<uint64_t>(
          duration_cast<microseconds>(Clock::now() - finished->arrived).count());
      metrics->count(ended_by(failure));
      metrics->last_inference_ms.store(
          static_cast<uint64_t>(duration_cast<std::chrono::milliseconds>(
                                    std::chrono::system_clock::now().time_since_epoch())
                                    .count()));
      if (options_.log_requests)
        log(failure ? Level::kWarning : Level::kInfo, "request",
            {{"model", facts->name},
             {"version", facts->version},
             {"id", wanted.id},
             {"status", failure ? failure->status : 200},
             {"samples", finished->samples},
             {"queue_us", finished->queue_us},
             {"compute_us", finished->compute_us},
             {"total_us", us}});
      if (failure) return answer_once(failed(*failure));
      metrics->request.observe(us);
      Answer answer = write_answer(*facts, wanted, *finished);
      Response response;
      response.body = std::move(answer.body);
      response.json_bytes = answer.json_bytes;
      if (answer.json_bytes) response.content_type = "application/octet-stream";
      answer_once(std::move(response));
    };
    if (served->batcher->submit(&job)) return;
  }
  answer_once(failed(503, "the model is being replaced"));
}

}  // namespace mpq::serve
