#include "integrations/server/grpc_methods.h"

#include <google/protobuf/util/json_util.h>

#include "integrations/server/health.pb.h"
#include "integrations/server/infer_message.h"
#include "integrations/server/inference.pb.h"
#include "integrations/server/repository.h"

namespace mpq::serve {

namespace {

using google::protobuf::util::JsonStringToMessage;
using google::protobuf::util::MessageToJsonString;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr const char* kService = "inference.GRPCInferenceService";

struct Code {
  unsigned http;
  GrpcCode grpc;
};
constexpr Code kCodes[] = {{400, GrpcCode::kInvalidArgument}, {401, GrpcCode::kUnauthenticated},
                           {404, GrpcCode::kNotFound},        {413, GrpcCode::kResourceExhausted},
                           {499, GrpcCode::kCancelled},       {501, GrpcCode::kUnimplemented},
                           {503, GrpcCode::kUnavailable},     {504, GrpcCode::kDeadlineExceeded}};

GrpcStatus status_of(const Failure& failure) {
  for (const Code& code : kCodes)
    if (code.http == failure.status) return {code.grpc, failure.message};
  return {GrpcCode::kInternal, failure.message};
}

const GrpcStatus kNoMessage{GrpcCode::kInternal, "the message is not one of this method"};
const GrpcStatus kNoName{GrpcCode::kNotFound, "nothing of that name is served here"};

// ---- Methods that are paths of HTTP, too ----

// How an answer in JSON becomes that of a message's JSON form: before + body + after, or, for
// questions that the status answers, yes or no.
struct Form {
  const char* method;
  const char *before = "", *after = "";
  const char *yes = nullptr, *no = nullptr;
};

template <typename Message>
void send(const Message& message, const GrpcReply& reply) {
  reply({}, message.SerializeAsString());
}

// target: the path that a request stands for; "": none.
template <typename Ask, typename Say>
auto as_http(Form form, std::string (*target)(const Ask&)) {
  return [form, target](Api* api, GrpcCall call, GrpcReply reply) {
    Ask ask;
    if (!ask.ParseFromString(call.message)) return reply(kNoMessage, "");
    Request request{.method = form.method,
                    .target = target(ask),
                    .body = "",
                    .json_bytes = {},
                    .authorization = std::move(call.authorization),
                    .trace = std::move(call.trace),
                    .cancelled = std::move(call.cancelled)};
    if (request.target.empty()) return reply(kNoName, "");
    if (std::string_view(form.method) == "POST" && !MessageToJsonString(ask, &request.body).ok())
      return reply(kNoMessage, "");
    api->handle(std::move(request), [form, reply = std::move(reply)](const Response& response) {
      std::string json = form.before + response.body + form.after;
      if (form.yes != nullptr && (response.status == 200 || response.status == 503)) {
        json = response.status == 200 ? form.yes : form.no;
      } else if (response.status != 200) {
        const Json said = Json::parse(response.body, nullptr, false);
        return reply(status_of({response.status, said.value("error", "")}), "");
      }
      Say say;
      if (!JsonStringToMessage(json, &say).ok())
        return reply({GrpcCode::kInternal, "an answer that is no message"}, "");
      send(say, reply);
    });
  };
}

// Parts of a path hold no slash.
std::string model_path(const std::string& name, const std::string& version, const char* action) {
  if (!is_model_name(name) || !(version.empty() || is_model_name(version))) return "";
  return "/v2/models/" + name + (version.empty() ? "" : "/versions/" + version) + action;
}

std::string control_path(const std::string& name, const char* action) {
  return is_model_name(name) ? "/v2/repository/models/" + name + action : "";
}

// ---- Inference ----

using Answered = std::function<void(GrpcStatus, inference::ModelInferResponse)>;

void infer(Api* api, GrpcCall call, Answered answered) {
  const auto message = std::make_shared<inference::ModelInferRequest>();
  if (!message->ParseFromString(call.message)) return answered(kNoMessage, {});
  call.message = {};
  const bool raw = message->raw_input_contents_size() != 0;
  Inference inference{.model = message->model_name(),
                      .version = message->model_version(),
                      .authorization = std::move(call.authorization),
                      .trace = std::move(call.trace),
                      .cancelled = std::move(call.cancelled),
                      .source = message,
                      .deadline = call.deadline,
                      .read = [message, raw](const Facts& facts, Job* job, Wanted* wanted) {
                        return read_message(facts, raw, message.get(), job, wanted);
                      }};
  api->infer(std::move(inference), [answered = std::move(answered), id = message->id()](
                                       MaybeFailure failure, const Inferred& inferred) {
    inference::ModelInferResponse response;
    response.set_id(id);
    if (failure) return answered(status_of(*failure), std::move(response));
    write_message(*inferred.facts, inferred.wanted, *inferred.job, &response);
    answered({}, std::move(response));
  });
}

void infer_once(Api* api, GrpcCall call, GrpcReply reply) {
  infer(api, std::move(call),
        [reply = std::move(reply)](GrpcStatus status, inference::ModelInferResponse response) {
          if (status.code != GrpcCode::kOk) return reply(std::move(status), "");
          send(response, reply);
        });
}

// What is wrong with one message of a stream is said in its answer; the stream goes on.
void infer_in_stream(Api* api, GrpcCall call, GrpcReply reply) {
  infer(api, std::move(call),
        [reply = std::move(reply)](GrpcStatus status, inference::ModelInferResponse response) {
          inference::ModelStreamInferResponse answer;
          answer.set_error_message(status.message);
          *answer.mutable_infer_response() = std::move(response);
          send(answer, reply);
        });
}

std::string in_service(const char* name) { return std::string("/") + kService + "/" + name; }

const std::vector<GrpcMethod>& methods() {
  using namespace inference;  // NOLINT(google-build-using-namespace): fifteen of its messages
  static const std::vector<GrpcMethod> kMethods = {
      {in_service("ModelInfer"), true, false, infer_once},
      {in_service("ModelStreamInfer"), true, true, infer_in_stream},
      {in_service("ServerLive"), false, false,
       as_http<ServerLiveRequest, ServerLiveResponse>(
           {.method = "GET", .yes = R"({"live":true})", .no = R"({"live":false})"},
           [](const ServerLiveRequest&) -> std::string { return "/v2/health/live"; })},
      {in_service("ServerReady"), false, false,
       as_http<ServerReadyRequest, ServerReadyResponse>(
           {.method = "GET", .yes = R"({"ready":true})", .no = R"({"ready":false})"},
           [](const ServerReadyRequest&) -> std::string { return "/v2/health/ready"; })},
      {"/grpc.health.v1.Health/Check", false, false,
       as_http<HealthCheckRequest, HealthCheckResponse>(
           {.method = "GET", .yes = R"({"status":"SERVING"})", .no = R"({"status":"NOT_SERVING"})"},
           [](const HealthCheckRequest& r) -> std::string {
             const bool all = r.service().empty() || r.service() == kService;
             return all ? "/v2/health/ready" : "";
           })},
      {in_service("ModelReady"), false, false,
       as_http<ModelReadyRequest, ModelReadyResponse>(
           {.method = "GET", .yes = R"({"ready":true})", .no = R"({"ready":false})"},
           [](const ModelReadyRequest& r) { return model_path(r.name(), r.version(), "/ready"); })},
      {in_service("ServerMetadata"), false, false,
       as_http<ServerMetadataRequest, ServerMetadataResponse>(
           {.method = "GET"}, [](const ServerMetadataRequest&) -> std::string { return "/v2"; })},
      {in_service("ModelMetadata"), false, false,
       as_http<ModelMetadataRequest, ModelMetadataResponse>(
           {.method = "GET"},
           [](const ModelMetadataRequest& r) { return model_path(r.name(), r.version(), ""); })},
      {in_service("ModelConfig"), false, false,
       as_http<ModelConfigRequest, ModelConfigResponse>(
           {.method = "GET", .before = R"({"config":)", .after = "}"},
           [](const ModelConfigRequest& r) {
             return model_path(r.name(), r.version(), "/config");
           })},
      {in_service("ModelStatistics"), false, false,
       as_http<ModelStatisticsRequest, ModelStatisticsResponse>(
           {.method = "GET"},
           [](const ModelStatisticsRequest& r) {
             return r.name().empty() ? "/v2/models/stats"
                                     : model_path(r.name(), r.version(), "/stats");
           })},
      {in_service("RepositoryIndex"), false, false,
       as_http<RepositoryIndexRequest, RepositoryIndexResponse>(
           {.method = "POST", .before = R"({"models":)", .after = "}"},
           [](const RepositoryIndexRequest&) -> std::string { return "/v2/repository/index"; })},
      {in_service("RepositoryModelLoad"), false, false,
       as_http<RepositoryModelLoadRequest, RepositoryModelLoadResponse>(
           {.method = "POST"},
           [](const RepositoryModelLoadRequest& r) {
             return control_path(r.model_name(), "/load");
           })},
      {in_service("RepositoryModelUnload"), false, false,
       as_http<RepositoryModelUnloadRequest, RepositoryModelUnloadResponse>(
           {.method = "POST"},
           [](const RepositoryModelUnloadRequest& r) {
             return control_path(r.model_name(), "/unload");
           })},
  };
  return kMethods;
}

}  // namespace

const GrpcMethod* find_grpc_method(std::string_view path) {
  for (const GrpcMethod& method : methods())
    if (method.path == path) return &method;
  return nullptr;
}

}  // namespace mpq::serve
