#include "integrations/server/api.h"

#include <charconv>

#include "integrations/server/log.h"
#include "integrations/server/repository.h"

namespace mpq::serve {

namespace {

constexpr size_t kMaxMessage = 1000, kMaxTrace = 64;
constexpr uint64_t kSmallBody = uint64_t{1} << 20;
const Failure kNoToken{401, "a bearer token is needed"};

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

// A question that the status answers; the protocol's clients read either.
Response yes_or_no(const char* question, bool answer) {
  return json_response({{question, answer}}, answer ? 200 : 503);
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

uint64_t Api::largest_body() const {
  uint64_t largest = kSmallBody;
  for (const auto& served : repository_->all())
    largest = std::max(largest, served->facts->body_limit());
  return largest;
}

bool Api::authorized(const std::optional<std::string>& authorization) const {
  if (options_.token.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  const std::string given = authorization.value_or("");
  return given.starts_with(kScheme) &&
         equal_in_constant_time(std::string_view(given).substr(kScheme.size()), options_.token);
}

void Api::handle(Request request, std::function<void(Response)> done) {
  const Target target = parse(request.target);
  // Health needs no token: it says nothing, and those who ask for it have none.
  const bool health = target.kind == Target::Kind::kLive || target.kind == Target::Kind::kReady;
  if (!health && !authorized(request.authorization)) return done(failed(kNoToken));
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
      return yes_or_no("live", true);
    case Kind::kReady:
      return yes_or_no("ready", !draining_ && repository_->all_served());
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
  if (target.action == "ready") return yes_or_no("ready", served && !draining_);
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
  Json asked = Json::object();
  if (!request.body.empty() && (parse_json(request.body, &asked) || !asked.is_object()))
    return failed(400, "the request is no JSON object");
  if (target.kind == Target::Kind::kIndex) {
    const bool only_ready = asked.value("ready", Json()) == true;
    Json rows = Json::array();
    for (const IndexRow& row : repository_->index())
      if (!only_ready || row.reason.empty())
        rows.push_back({{"name", row.name},
                        {"version", row.version},
                        {"state", row.state},
                        {"reason", row.reason.empty() ? "" : "cannot be loaded, see the log"}});
    return json_response(rows);
  }
  if (!options_.model_control)
    return failed(501, "models are not loaded or unloaded by requests here");
  if (target.action == "load") {
    if (asked.contains("parameters") && !asked["parameters"].empty())
      return failed(400, "a model is loaded as it lies in the repository, without parameters");
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
  size_t json_bytes = request.body.size();
  if (request.json_bytes) {
    const std::string& text = *request.json_bytes;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), json_bytes);
    if (error != std::errc() || end != text.data() + text.size())
      return done(failed(400, "Inference-Header-Content-Length is no number"));
  }
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  Inference inference{.model = target.model,
                      .version = target.version,
                      .authorization = std::move(request.authorization),
                      .trace = std::move(request.trace),
                      .cancelled = std::move(request.cancelled),
                      .source = body,
                      .read = [body, json_bytes, whole = request.json_bytes.has_value()](
                                  const Facts& facts, Job* job, Wanted* wanted) -> MaybeFailure {
                        if (body->empty() && !whole) return Failure{400, "the request has no body"};
                        return read_body(facts, *body, json_bytes, job, wanted);
                      }};
  infer(std::move(inference), [done = std::move(done)](MaybeFailure failure, Inferred inferred) {
    if (failure) return done(failed(*failure));
    Answer answer = write_body(*inferred.facts, inferred.wanted, *inferred.job);
    Response response;
    response.body = std::move(answer.body);
    response.json_bytes = answer.json_bytes;
    if (answer.json_bytes) response.content_type = "application/octet-stream";
    done(std::move(response));
  });
}

void Api::infer(Inference inference, std::function<void(MaybeFailure, Inferred)> done) {
  if (!authorized(inference.authorization)) return done(kNoToken, {});
  if (refusing_) return done(Failure{503, "the server is stopping"}, {});
  auto job = std::make_unique<Job>();
  job->source = std::move(inference.source);
  job->trace = inference.trace.substr(0, kMaxTrace);
  job->arrived = Clock::now();
  job->cancelled =
      inference.cancelled ? inference.cancelled : std::make_shared<std::atomic<bool>>();
  active_.fetch_add(1);
  const auto end = [this, done = std::move(done)](MaybeFailure failure, Inferred inferred) {
    active_.fetch_sub(1);
    done(std::move(failure), std::move(inferred));
  };
  // A version that is being replaced takes no more jobs: then the next one is there.
  constexpr int kTries = 3;
  for (int i = 0; i < kTries; ++i) {
    const auto served = repository_->find(inference.model, inference.version);
    if (served == nullptr) return end(Failure{404, "no such model or version"}, {});
    const std::shared_ptr<const Facts> facts = served->facts;
    Metrics* const metrics = &served->batcher->metrics();
    Wanted wanted;
    job->inputs.clear();
    job->owned.clear();
    job->ids.clear();
    job->types.clear();
    job->lengths.clear();
    job->samples = 0;
    // What would be refused need not be read.
    MaybeFailure failure = served->batcher->refusal();
    if (!failure) failure = inference.read(*facts, job.get(), &wanted);
    if (failure) {
      Inferred inferred{facts, wanted, std::move(job)};
      finished(failure, inferred, metrics);
      return end(std::move(failure), std::move(inferred));
    }
    job->deadline = std::min(job->deadline, inference.deadline);
    // The callee must not own the batcher: it is called by the batcher's own threads, or by this
    // one.
    job->done = [this, facts, wanted, end, metrics](JobPtr job_done, MaybeFailure failed_by) {
      Inferred inferred{facts, wanted, std::move(job_done)};
      finished(failed_by, inferred, metrics);
      end(std::move(failed_by), std::move(inferred));
    };
    if (served->batcher->submit(&job)) return;
  }
  end(Failure{503, "the model is being replaced"}, {});
}

void Api::finished(const MaybeFailure& failure, const Inferred& inferred, Metrics* metrics) const {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  const Job& job = *inferred.job;
  const auto us =
      static_cast<uint64_t>(duration_cast<microseconds>(Clock::now() - job.arrived).count());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  metrics->count(ended_by(failure));
  metrics->last_inference_ms.store(
      static_cast<uint64_t>(duration_cast<std::chrono::milliseconds>(now).count()));
  if (!failure) metrics->request.observe(us);
  if (!options_.log_requests) return;
  Json fields = {{"model", inferred.facts->name}, {"version", inferred.facts->version},
                 {"id", inferred.wanted.id},      {"status", failure ? failure->status : 200},
                 {"samples", job.samples},        {"queue_us", job.queue_us},
                 {"compute_us", job.compute_us},  {"total_us", us}};
  if (!job.trace.empty()) fields["traceparent"] = job.trace;
  log(failure ? Level::kWarning : Level::kInfo, "request", fields);
}

}  // namespace mpq::serve
