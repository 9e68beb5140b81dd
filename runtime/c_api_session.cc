// The C API of sessions: unwrap, call, convert.

#include <cstdio>
#include <cstring>

#include "runtime/c_api.h"
#include "runtime/isa_choice.h"
#include "runtime/tune.h"

namespace mpq::runtime {
namespace {

constexpr uint32_t kMaxBatch = 1U << 16, kMaxThreads = 1024, kMaxTokens = 1U << 24;
constexpr uint64_t kDefaultMemoryLimit = uint64_t{2} << 30;

Result<SessionOptions> convert(const mpq_options& o) {
  if (o.batch > kMaxBatch) return out_of_range("options.batch", o.batch, kMaxBatch);
  if (o.threads > kMaxThreads) return out_of_range("options.threads", o.threads, kMaxThreads);
  if (o.profile > 1 || o.keep_tensors > 1 || o.tune > 1 || o.reserved != 0)
    return invalid("options: profile, keep_tensors and tune are 0 or 1, reserved is 0");
  if (o.tune == 0 && o.tune_cache != nullptr)
    return invalid("options.tune_cache: needs options.tune");
  if (o.max_tokens > kMaxTokens)
    return out_of_range("options.max_tokens", o.max_tokens, kMaxTokens);
  if ((o.allocate == nullptr) != (o.deallocate == nullptr))
    return invalid("options: allocate and deallocate come together");
  SessionOptions options;
  options.batch = std::max(o.batch, 1U);
  options.tokens = o.max_tokens;
  if (o.device != nullptr && std::strcmp(o.device, "cpu") != 0) {
    if (o.isa != nullptr || o.threads > 1 || o.parallel_for != nullptr || o.tune != 0)
      return invalid("options.device: isa, threads, parallel_for and tune are of the CPU");
    MPQ_TRY(const uint32_t ordinal, parse_cuda_device(o.device));
    options.device = "cuda:" + std::to_string(ordinal);
  } else {
    options.threads = o.threads != 0 ? o.threads : default_threads();
    MPQ_TRY(options.isa, choose_isa(o.isa));
  }
  options.keep_tensors = o.keep_tensors != 0;
  options.profile = o.profile != 0;
  options.memory_limit = o.memory_limit != 0 ? o.memory_limit : kDefaultMemoryLimit;
  options.parallel_for = o.parallel_for;
  options.parallel_for_user = o.parallel_for_user;
  options.step_done = o.step_done;
  options.step_done_user = o.step_done_user;
  if (o.step_done != nullptr) options.front_steps = 0;
  options.allocator = {o.allocate, o.deallocate, o.allocator_user};
  return options;
}

// Portable code although the session may use vectors.
bool is_fallback(const Session& session, const Step& step) {
  return step.kernel_isa == kernels::kIsaScalar && session.options().isa != kernels::kIsaScalar;
}

void report_fallbacks(const Session& session) {
  for (const Step& step : session.plan().steps)
    if (step.macs > 0 && is_fallback(session, step))
      log_message(MPQ_LOG_WARNING, (step.name + ": no " + kernels::isa_name(session.options().isa) +
                                    " kernel for this layer, " + step.kernel + " is slow")
                                       .c_str());
}

// As many tokens as sequences of the longest kind have, unless the options say otherwise.
Checked set_tokens(const format::Model& graph, SessionOptions* options) {
  if (graph.sequence_length == 0) {
    if (options->tokens > 1) return invalid("options.max_tokens: the model takes no sequences");
    options->tokens = 1;
  } else if (options->tokens == 0) {
    const uint64_t most = uint64_t{options->batch} * graph.sequence_length;
    options->tokens = static_cast<uint32_t>(std::min<uint64_t>(most, kMaxTokens));
  }
  return Ok{};
}

Checked choose_by_time(const Model& model, const char* cache, SessionOptions* options) {
  TuneReport report;
  MPQ_TRY(options->choose_conv, tune(model, *options, cache == nullptr ? "" : cache, &report));
  if (!report.warning.empty()) log_message(MPQ_LOG_WARNING, report.warning.c_str());
  char text[160];
  std::snprintf(
      text, sizeof text,
      "kernels by time: %zu layers, %zu of them timed now, %zu not as by the tables, %.2f s",
      report.layers, report.timed, report.other, report.seconds);
  log_message(MPQ_LOG_INFO, text);
  return Ok{};
}

Checked create(std::shared_ptr<const Model> model, const SessionOptions& options,
               mpq_session** handle) {
  auto entry = std::make_shared<SessionEntry>();
  MPQ_TRY(entry->session, Session::create(std::move(model), options));
  report_fallbacks(*entry->session);
  *handle = reinterpret_cast<mpq_session*>(sessions().add(std::move(entry)));
  return Ok{};
}

Checked write_tensor_info(const Session& session, format::TensorId id, mpq_tensor_info* info) {
  MPQ_TRY(const mpq_tensor_info value,
          tensor_info(session.model().graph(), id, session.plan().live_rows(id)));
  write_info(value, info);
  return Ok{};
}

Checked check_bytes(const char* what, size_t index, size_t bytes, size_t expected) {
  if (bytes == expected) return Ok{};
  return Error{Status::kInvalidArgument, std::string(what) + " " + std::to_string(index) + ": " +
                                             std::to_string(bytes) + " bytes, expected " +
                                             std::to_string(expected)};
}

Checked check_input(const Session& session, size_t index) {
  const size_t count = session.model().graph().inputs.size();
  if (index >= count) return out_of_range("input", index, count);
  return Ok{};
}

Checked check_output(const Session& session, size_t index) {
  const size_t count = session.model().graph().outputs.size();
  if (index >= count) return out_of_range("output", index, count);
  return Ok{};
}

// Ids index tables: they come in through mpq_session_set_sequences, which checks them.
Checked check_writable(const Session& session, size_t index) {
  MPQ_CHECK(check_input(session, index));
  const format::Model& graph = session.model().graph();
  if (format::embedding_of(graph) == nullptr ||
      graph.tensors[graph.inputs[index]].dtype != DType::kS32)
    return Ok{};
  return Error{Status::kUnsupported, "input " + std::to_string(index) + " (" +
                                         graph.tensors[graph.inputs[index]].name +
                                         "): use mpq_session_set_sequences"};
}

// An activation by name.
Result<format::TensorId> find_tensor(const Session& session, const char* name) {
  if (name == nullptr) return invalid("tensor name is NULL");
  if (!session.options().keep_tensors)
    return Error{Status::kUnsupported, "tensors by name need options.keep_tensors"};
  const auto& tensors = session.model().graph().tensors;
  for (format::TensorId id = 0; id < tensors.size(); ++id)
    if (tensors[id].name == name) {
      if (tensors[id].is_constant())
        return Error{Status::kUnsupported, tensors[id].name + ": a constant, not an activation"};
      return id;
    }
  return Error{Status::kNotFound, "no tensor of that name"};
}

}  // namespace
}  // namespace mpq::runtime

using namespace mpq;           // NOLINT(google-build-using-namespace)
using namespace mpq::runtime;  // NOLINT(google-build-using-namespace)

extern "C" {

mpq_status mpq_session_create(const mpq_model* model, const mpq_options* options,
                              mpq_session** session) {
  return with_model(model, [&](const std::shared_ptr<const Model>& m) -> Checked {
    if (session == nullptr) return invalid("mpq_session_create: session is NULL");
    MPQ_TRY(const mpq_options o, read_options(options, "options"));
    MPQ_TRY(SessionOptions converted, convert(o));
    MPQ_CHECK(set_tokens(m->graph(), &converted));
    if (o.tune != 0) MPQ_CHECK(choose_by_time(*m, o.tune_cache, &converted));
    return create(m, converted, session);
  });
}

mpq_status mpq_session_clone(const mpq_session* session, mpq_session** clone) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (clone == nullptr) return invalid("mpq_session_clone: clone is NULL");
    SessionOptions options = s.options();
    options.step_done = nullptr;
    return create(s.shared_model(), options, clone);
  });
}

void mpq_session_destroy(mpq_session* session) {
  guard([&]() -> Checked {
    sessions().remove(reinterpret_cast<uintptr_t>(session));
    return Ok{};
  });
}

mpq_status mpq_session_input_info(const mpq_session* session, size_t index, mpq_tensor_info* info) {
  return with_session(session, [&](const Session& s) -> Checked {
    MPQ_CHECK(check_info(info));
    MPQ_CHECK(check_input(s, index));
    return write_tensor_info(s, s.model().graph().inputs[index], info);
  });
}

mpq_status mpq_session_output_info(const mpq_session* session, size_t index,
                                   mpq_tensor_info* info) {
  return with_session(session, [&](const Session& s) -> Checked {
    MPQ_CHECK(check_info(info));
    MPQ_CHECK(check_output(s, index));
    return write_tensor_info(s, s.model().graph().outputs[index], info);
  });
}

mpq_status mpq_session_set_input(mpq_session* session, size_t index, const void* data,
                                 size_t bytes) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (data == nullptr) return invalid("mpq_session_set_input: data is NULL");
    MPQ_CHECK(check_writable(s, index));
    const std::span<std::byte> input = s.input(index);
    MPQ_CHECK(check_bytes("input", index, bytes, input.size()));
    std::memcpy(input.data(), data, bytes);
    return Ok{};
  });
}

mpq_status mpq_session_input_buffer(mpq_session* session, size_t index, void** data,
                                    size_t* bytes) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (data == nullptr || bytes == nullptr)
      return invalid("mpq_session_input_buffer: NULL argument");
    MPQ_CHECK(check_writable(s, index));
    *data = s.input(index).data();
    *bytes = s.input(index).size();
    return Ok{};
  });
}

mpq_status mpq_session_set_sequences(mpq_session* session, const int32_t* ids, const int32_t* types,
                                     const uint32_t* lengths, size_t count) {
  return with_session(session, [&](Session& s) -> Checked {
    if (ids == nullptr || lengths == nullptr)
      return invalid("mpq_session_set_sequences: ids or lengths is NULL");
    return s.set_sequences(ids, types, lengths, count);
  });
}

mpq_status mpq_session_run(mpq_session* session) {
  return with_session(session, [](Session& s) { return s.run(); });
}

mpq_status mpq_session_get_output(const mpq_session* session, size_t index, void* data,
                                  size_t bytes) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (data == nullptr) return invalid("mpq_session_get_output: data is NULL");
    MPQ_CHECK(check_output(s, index));
    const std::span<const std::byte> output = s.output(index);
    MPQ_CHECK(check_bytes("output", index, bytes, output.size()));
    std::memcpy(data, output.data(), bytes);
    return Ok{};
  });
}

mpq_status mpq_session_output_buffer(const mpq_session* session, size_t index, const void** data,
                                     size_t* bytes) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (data == nullptr || bytes == nullptr)
      return invalid("mpq_session_output_buffer: NULL argument");
    MPQ_CHECK(check_output(s, index));
    *data = s.output(index).data();
    *bytes = s.output(index).size();
    return Ok{};
  });
}

mpq_status mpq_session_tensor_info(const mpq_session* session, const char* name,
                                   mpq_tensor_info* info) {
  return with_session(session, [&](const Session& s) -> Checked {
    MPQ_CHECK(check_info(info));
    MPQ_TRY(const format::TensorId id, find_tensor(s, name));
    return write_tensor_info(s, id, info);
  });
}

mpq_status mpq_session_get_tensor(const mpq_session* session, const char* name, void* data,
                                  size_t bytes) {
  return with_session(session, [&](const Session& s) -> Checked {
    if (data == nullptr) return invalid("mpq_session_get_tensor: data is NULL");
    MPQ_TRY(const format::TensorId id, find_tensor(s, name));
    MPQ_CHECK(check_bytes("tensor", id, bytes, s.tensor_bytes(id)));
    return s.read_tensor(id, {static_cast<std::byte*>(data), bytes});
  });
}

mpq_status mpq_session_memory_info(const mpq_session* session, mpq_memory_info* info) {
  return with_session(session, [&](const Session& s) -> Checked {
    MPQ_CHECK(check_info(info));
    mpq_memory_info value;
    MPQ_INIT(&value);
    value.activations = s.activation_bytes();
    value.scratch = s.scratch_bytes();
    value.weights = s.plan().weight_bytes;
    write_info(value, info);
    return Ok{};
  });
}

size_t mpq_session_memory(const mpq_session* session) {
  return session_value<size_t>(session, 0, [](const Session& s) {
    return s.activation_bytes() + s.scratch_bytes() + static_cast<size_t>(s.plan().weight_bytes);
  });
}

uint32_t mpq_session_threads(const mpq_session* session) {
  return session_value<uint32_t>(session, 0, [](const Session& s) { return s.options().threads; });
}

uint32_t mpq_session_batch(const mpq_session* session) {
  return session_value<uint32_t>(session, 0, [](const Session& s) { return s.options().batch; });
}

uint32_t mpq_session_isa(const mpq_session* session) {
  return session_value<uint32_t>(session, 0, [](const Session& s) { return s.options().isa; });
}

const char* mpq_session_device(const mpq_session* session) {
  return session_value<const char*>(session, nullptr,
                                    [](const Session& s) { return s.device_name(); });
}

size_t mpq_session_step_count(const mpq_session* session) {
  return session_value<size_t>(session, 0, [](const Session& s) { return s.plan().steps.size(); });
}

mpq_status mpq_session_step_info(const mpq_session* session, size_t index, mpq_step_info* info) {
  return with_session(session, [&](const Session& s) -> Checked {
    MPQ_CHECK(check_info(info));
    const auto& steps = s.plan().steps;
    if (index >= steps.size()) return out_of_range("step", index, steps.size());
    const Step& step = steps[index];
    mpq_step_info value;
    MPQ_INIT(&value);
    value.node = step.node;
    value.name = step.name.c_str();
    value.op = step.op;
    value.kernel = step.kernel;
    value.isa = step.kernel_isa;
    value.fallback = is_fallback(s, step) ? 1 : 0;
    value.input_bits = step.input_bits;
    value.weight_bits = step.weight_bits;
    value.output_bits = step.output_bits;
    value.threads = static_cast<uint32_t>(step.parts.size());
    value.macs = step.macs;
    value.weight_bytes = step.weight_bytes;
    value.activation_bytes = step.activation_bytes;
    value.runs = s.time(index).runs;
    value.last_ns = s.time(index).last_ns;
    value.total_ns = s.time(index).total_ns;
    write_info(value, info);
    return Ok{};
  });
}

mpq_status mpq_session_profile(mpq_session* session, int on) {
  return with_session(session, [&](Session& s) -> Checked {
    s.set_profile(on != 0);
    return Ok{};
  });
}

}  // extern "C"
