#include "runtime/cli/engine.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

TensorInfo convert(const mpq_tensor_info& info) {
  return {info.name == nullptr ? "" : info.name,
          static_cast<mpq_dtype>(info.dtype),
          std::vector<int64_t>(info.shape, info.shape + info.rank),
          info.elements,
          info.bytes,
          info.scale,
          info.zero_point};
}

template <typename Handle>
std::vector<TensorInfo> list(const Handle* handle, size_t count,
                             mpq_status (*get)(const Handle*, size_t, mpq_tensor_info*)) {
  std::vector<TensorInfo> infos;
  for (size_t i = 0; i < count; ++i) {
    mpq_tensor_info info;
    MPQ_INIT(&info);
    if (get(handle, i, &info) == MPQ_OK) infos.push_back(convert(info));
  }
  return infos;
}

// Where --tune keeps what it measured: the file that is named, or one in the user's cache folder.
Result<std::string> kernel_times_file(const std::string& named) {
  if (!named.empty()) return named;
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  std::filesystem::path folder;
  if (cache != nullptr && *cache == '/')
    folder = cache;
  else if (home != nullptr && *home == '/')
    folder = std::filesystem::path(home) / ".cache";
  else
    return Error{Status::kInvalidArgument,
                 "--tune: neither XDG_CACHE_HOME nor HOME names a folder; use --tune=FILE"};
  folder /= "mpq";
  std::error_code ignored;  // the library says what it cannot write
  std::filesystem::create_directories(folder, ignored);
  return (folder / "kernel_times.txt").string();
}

}  // namespace

Checked check(mpq_status status, const std::string& where) {
  if (status == MPQ_OK) return Ok{};
  std::string detail = mpq_last_error();
  if (detail.empty()) detail = mpq_status_string(status);
  const bool named = detail.starts_with(where);
  return Error{static_cast<Status>(status), named ? detail : where + ": " + detail};
}

std::string to_string(const TensorInfo& info) {
  return info.name + " " + mpq_dtype_string(info.dtype) + " " +
         shape_text(info.shape.data(), static_cast<uint32_t>(info.shape.size()));
}

Result<Model> Model::open(const std::string& path, const Args& args) {
  const std::string level = args.text("verify");
  if (level != "full" && level != "header")
    return Error{Status::kInvalidArgument, "--verify=" + level + ": full or header"};
  mpq_model_options options;
  MPQ_INIT(&options);
  options.skip_segment_digests = level == "header" ? 1 : 0;
  options.map_file = args.has("mmap") ? 1 : 0;
  Model model;
  model.path_ = path;
  const Clock::time_point start = Clock::now();
  mpq_model* handle = nullptr;
  MPQ_CHECK(check(mpq_model_open(path.c_str(), &options, &handle), path));
  model.load_seconds_ = seconds_since(start);
  model.model_.reset(handle);
  note(format("%s: loaded in %.1f ms", path.c_str(), model.load_seconds_ * 1e3));
  return model;
}

std::string Model::sha256() const {
  char hex[65] = "";
  return mpq_model_sha256(get(), hex) == MPQ_OK ? hex : "";
}

std::vector<TensorInfo> Model::inputs() const {
  return list<mpq_model>(get(), mpq_model_input_count(get()), mpq_model_input_info);
}
std::vector<TensorInfo> Model::outputs() const {
  return list<mpq_model>(get(), mpq_model_output_count(get()), mpq_model_output_info);
}

std::vector<mpq_node_info> Model::nodes() const {
  std::vector<mpq_node_info> nodes(mpq_model_node_count(get()));
  for (size_t i = 0; i < nodes.size(); ++i) {
    MPQ_INIT(&nodes[i]);
    if (mpq_model_node_info(get(), i, &nodes[i]) != MPQ_OK) return {};
  }
  return nodes;
}

std::vector<std::string> Model::labels() const {
  std::vector<std::string> labels;
  for (size_t i = 0; i < mpq_model_label_count(get()); ++i) labels.push_back(label(i));
  return labels;
}

std::string Model::label(size_t index) const {
  const char* const text = mpq_model_label(get(), index);
  return text == nullptr ? "" : text;
}

Result<Session> Session::create(const Model& model, const SessionSpec& spec, const Args& args) {
  MPQ_TRY(const uint64_t limit_mb, args.whole("memory-limit"));
  mpq_options options;
  MPQ_INIT(&options);
  options.batch = spec.batch;
  options.threads = spec.threads;
  options.isa = spec.isa == "auto" ? nullptr : spec.isa.c_str();
  const std::string device = spec.device.empty() ? args.text("device") : spec.device;
  options.device = device.c_str();
  options.profile = spec.profile ? 1 : 0;
  options.keep_tensors = spec.keep_tensors ? 1 : 0;
  options.memory_limit = limit_mb * 1000000;
  options.max_tokens = spec.max_tokens;
  options.step_done = spec.step_done;
  options.step_done_user = spec.step_done_user;
  std::string times;
  if (args.has("tune")) {
    MPQ_TRY(times, kernel_times_file(args.text("tune")));
    options.tune = 1;
    options.tune_cache = times.c_str();
  }
  Session session;
  session.where_ = model.path();
  const Clock::time_point start = Clock::now();
  mpq_session* handle = nullptr;
  MPQ_CHECK(check(mpq_session_create(model.get(), &options, &handle), model.path()));
  session.create_seconds_ = seconds_since(start);
  session.session_.reset(handle);
  session.inputs_.resize(mpq_model_input_count(model.get()));
  session.outputs_.resize(mpq_model_output_count(model.get()));
  session.look();
  note(format("%s: session of batch %u, %u threads, %s, %s in %.1f ms", model.path().c_str(),
              session.batch(), session.threads(), session.isa().c_str(),
              bytes_text(mpq_session_memory(handle)).c_str(), session.create_seconds_ * 1e3));
  return session;
}

Result<Session> Session::clone() const {
  Session copy;
  copy.where_ = where_;
  mpq_session* handle = nullptr;
  MPQ_CHECK(check(mpq_session_clone(get(), &handle), where_));
  copy.session_.reset(handle);
  copy.inputs_ = inputs_;
  copy.outputs_ = outputs_;
  copy.look();
  return copy;
}

void Session::look() {
  inputs_ = list<mpq_session>(get(), inputs_.size(), mpq_session_input_info);
  outputs_ = list<mpq_session>(get(), outputs_.size(), mpq_session_output_info);
}

std::string Session::isa() const {
  const std::string device = mpq_session_device(get());
  return device == "cpu" ? mpq_isa_name(mpq_session_isa(get())) : device;
}

std::vector<mpq_step_info> Session::steps() const {
  std::vector<mpq_step_info> steps(mpq_session_step_count(get()));
  for (size_t i = 0; i < steps.size(); ++i) {
    MPQ_INIT(&steps[i]);
    if (mpq_session_step_info(get(), i, &steps[i]) != MPQ_OK) return {};
  }
  return steps;
}

mpq_memory_info Session::memory() const {
  mpq_memory_info info;
  MPQ_INIT(&info);
  if (mpq_session_memory_info(get(), &info) != MPQ_OK) MPQ_INIT(&info);
  return info;
}

Checked Session::set_input(size_t index, const void* data, size_t bytes) {
  return check(mpq_session_set_input(get(), index, data, bytes), where_);
}

Checked Session::set_sample(size_t index, uint32_t position, const std::vector<std::byte>& bytes) {
  void* buffer = nullptr;
  size_t size = 0;
  MPQ_CHECK(check(mpq_session_input_buffer(get(), index, &buffer, &size), where_));
  if (bytes.size() != size / batch() || position >= batch())
    return Error{Status::kInvalidArgument,
                 format("%s: input %s takes %zu bytes an image, not %zu", where_.c_str(),
                        inputs_[index].name.c_str(), size / batch(), bytes.size())};
  std::memcpy(static_cast<std::byte*>(buffer) + position * bytes.size(), bytes.data(),
              bytes.size());
  return Ok{};
}

Checked Session::set_sequences(const std::vector<int32_t>& ids, const std::vector<int32_t>& types,
                               const std::vector<uint32_t>& lengths) {
  MPQ_CHECK(check(
      mpq_session_set_sequences(get(), ids.data(), inputs_.size() > 1 ? types.data() : nullptr,
                                lengths.data(), lengths.size()),
      where_));
  starts_.assign(1, 0);
  for (const uint32_t length : lengths) starts_.push_back(starts_.back() + length);
  look();
  return Ok{};
}

Checked Session::run() { return check(mpq_session_run(get()), where_); }

Result<const std::byte*> Session::output(size_t index) const {
  const void* data = nullptr;
  size_t bytes = 0;
  MPQ_CHECK(check(mpq_session_output_buffer(get(), index, &data, &bytes), where_));
  return static_cast<const std::byte*>(data);
}

Result<std::span<const std::byte>> Session::sample_output(size_t index, uint32_t position) const {
  MPQ_TRY(const std::byte* const data, output(index));
  const TensorInfo& info = outputs_[index];
  uint64_t first = position, end = position + uint64_t{1}, rows = batch();
  if (!starts_.empty()) {
    rows = static_cast<uint64_t>(info.shape[0]);
    const bool by_token = rows == starts_.back();
    if (by_token) {
      first = starts_[position];
      end = starts_[position + 1];
    }
  }
  const uint64_t row = info.bytes / rows;
  return std::span(data + first * row, (end - first) * row);
}

}  // namespace mpq::cli
