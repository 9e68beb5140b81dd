// mpq for C++20: the handles of mpq.h as values that close themselves, statuses as exceptions.
// Header-only; link what mpq.h needs.
//
//   mpq::Model model("resnet50.fb");
//   mpq::Session session(model, {.batch = 8});
//   std::ranges::copy(pixels, session.input<uint8_t>(0).begin());
//   session.run();
//   std::span<const float> logits = session.output<float>(0);
//
// Threads: as in mpq.h. Everything but construction is free of allocation, except functions that
// return std::vector. Spans are valid as long as their session; outputs until its next run.
#ifndef MPQ_HPP_
#define MPQ_HPP_

#include <mpq.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mpq {

/// A failed call: its status, and mpq_last_error() as text.
class StatusError : public std::runtime_error {
 public:
  StatusError(mpq_status status, const std::string& detail)
      : std::runtime_error(detail), status_(status) {}
  mpq_status status() const noexcept { return status_; }

 private:
  mpq_status status_;
};

inline void check(mpq_status status) {
  if (status == MPQ_OK) return;
  const char* const detail = mpq_last_error();
  throw StatusError(status, *detail != '\0' ? detail : mpq_status_string(status));
}

namespace detail {

// A struct of mpq.h with its size in place.
template <typename T>
T cleared() {
  T value;
  MPQ_INIT(&value);
  return value;
}

struct CloseModel {
  void operator()(mpq_model* model) const { mpq_model_close(model); }
};
struct DestroySession {
  void operator()(mpq_session* session) const { mpq_session_destroy(session); }
};

inline std::string_view text(const char* text) {
  return text == nullptr ? std::string_view() : text;
}

// The element type of buffers: one code a byte, whatever its width.
template <typename T>
bool is_element(uint32_t dtype) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t> ||
                    std::is_same_v<T, uint8_t> || std::is_same_v<T, int8_t> ||
                    std::is_same_v<T, std::byte>,
                "elements are float, int32_t, uint8_t, int8_t, or bytes of any type");
  if (std::is_same_v<T, std::byte>) return true;
  if (std::is_same_v<T, float>) return dtype == MPQ_F32;
  if (std::is_same_v<T, int32_t>) return dtype == MPQ_S32;
  const bool is_signed = dtype == MPQ_S8 || dtype == MPQ_S4 || dtype == MPQ_S2;
  return dtype != MPQ_F32 && dtype != MPQ_S32 && is_signed == std::is_same_v<T, int8_t>;
}

template <typename T>
std::span<T> elements(const mpq_tensor_info& info, void* data, size_t bytes) {
  using Element = std::remove_const_t<T>;
  if (!is_element<Element>(info.dtype))
    throw StatusError(MPQ_INVALID_ARGUMENT,
                      std::string(info.name) + ": elements are " + mpq_dtype_string(info.dtype));
  return {static_cast<T*>(data), bytes / sizeof(T)};
}

}  // namespace detail

/// A model file, open and validated. Copies share it; any threads may use it at once.
class Model {
 public:
  explicit Model(const std::string& path, const mpq_model_options* options = nullptr) {
    mpq_model* model = nullptr;
    check(mpq_model_open(path.c_str(), options, &model));
    model_ = {model, detail::CloseModel()};
  }
  /// Bytes at a 64-byte boundary are borrowed, see mpq_model_open_memory.
  explicit Model(std::span<const std::byte> file, const mpq_model_options* options = nullptr) {
    mpq_model* model = nullptr;
    check(mpq_model_open_memory(file.data(), file.size(), options, &model));
    model_ = {model, detail::CloseModel()};
  }

  mpq_model* get() const noexcept { return model_.get(); }
  std::string_view name() const { return detail::text(mpq_model_name(get())); }
  size_t input_count() const { return mpq_model_input_count(get()); }
  size_t output_count() const { return mpq_model_output_count(get()); }
  /// For a batch of 1.
  mpq_tensor_info input_info(size_t index) const {
    auto info = detail::cleared<mpq_tensor_info>();
    check(mpq_model_input_info(get(), index, &info));
    return info;
  }
  mpq_tensor_info output_info(size_t index) const {
    auto info = detail::cleared<mpq_tensor_info>();
    check(mpq_model_output_info(get(), index, &info));
    return info;
  }
  std::vector<std::string_view> labels() const {
    std::vector<std::string_view> labels(mpq_model_label_count(get()));
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = mpq_model_label(get(), i);
    return labels;
  }
  std::optional<mpq_image_preprocess> image_preprocess() const {
    auto preprocess = detail::cleared<mpq_image_preprocess>();
    const mpq_status status = mpq_model_image_preprocess(get(), &preprocess);
    if (status == MPQ_NOT_FOUND) return std::nullopt;
    check(status);
    return preprocess;
  }
  /// Longest sequence in tokens; 0: the model takes no sequences.
  uint32_t sequence_length() const { return mpq_model_sequence_length(get()); }
  bool takes_text() const { return mpq_model_takes_text(get()) != 0; }
  /// Tokens of a text or of two, at most max_tokens (0: all that the model takes).
  std::vector<mpq_token> tokenize(std::string_view text,
                                  std::optional<std::string_view> pair = std::nullopt,
                                  uint32_t max_tokens = 0) const {
    std::vector<mpq_token> tokens(sequence_length());
    size_t count = 0;
    check(mpq_model_tokenize(get(), text.data() != nullptr ? text.data() : "", text.size(),
                             pair ? (pair->data() != nullptr ? pair->data() : "") : nullptr,
                             pair ? pair->size() : 0, max_tokens, tokens.data(), tokens.size(),
                             &count, nullptr));
    tokens.resize(count);
    return tokens;
  }

 private:
  std::shared_ptr<mpq_model> model_;
};

/// What mpq_options says, with C++ defaults.
struct SessionOptions {
  uint32_t batch = 1;
  uint32_t threads = 0;       // 0: all that the process may use
  uint32_t max_tokens = 0;    // of all sequences of a run; 0: batch times the longest one
  const char* isa = nullptr;  // nullptr: the best
  uint64_t memory_limit = 0;  // 0: 2 GiB
  bool profile = false;
  bool keep_tensors = false;
  bool tune = false;                 // choose kernels by their time on this machine
  const char* tune_cache = nullptr;  // a file that keeps the times
  const char* device = nullptr;      // "cuda", "cuda:1": an NVIDIA GPU; nullptr: the CPU
};

/// One run at a time. Moves, does not copy: clone() makes another one with the same weights.
class Session {
 public:
  explicit Session(const Model& model, const SessionOptions& options = {}) {
    auto o = detail::cleared<mpq_options>();
    o.batch = options.batch;
    o.threads = options.threads;
    o.max_tokens = options.max_tokens;
    o.isa = options.isa;
    o.memory_limit = options.memory_limit;
    o.profile = options.profile ? 1 : 0;
    o.keep_tensors = options.keep_tensors ? 1 : 0;
    o.tune = options.tune ? 1 : 0;
    o.tune_cache = options.tune_cache;
    o.device = options.device;
    create(model, o);
  }
  /// With everything that C offers: allocator, host threads.
  Session(const Model& model, const mpq_options& options) { create(model, options); }

  Session clone() const {
    mpq_session* twin = nullptr;
    check(mpq_session_clone(get(), &twin));
    return Session(twin);
  }

  mpq_session* get() const noexcept { return session_.get(); }
  uint32_t batch() const { return mpq_session_batch(get()); }
  uint32_t threads() const { return mpq_session_threads(get()); }
  std::string_view isa() const { return mpq_isa_name(mpq_session_isa(get())); }
  std::string_view device() const { return mpq_session_device(get()); }
  mpq_tensor_info input_info(size_t index) const {
    auto info = detail::cleared<mpq_tensor_info>();
    check(mpq_session_input_info(get(), index, &info));
    return info;
  }
  /// Of the session's batch, or of the sequences of the last set_sequences.
  mpq_tensor_info output_info(size_t index) const {
    auto info = detail::cleared<mpq_tensor_info>();
    check(mpq_session_output_info(get(), index, &info));
    return info;
  }
  mpq_memory_info memory() const {
    auto info = detail::cleared<mpq_memory_info>();
    check(mpq_session_memory_info(get(), &info));
    return info;
  }

  /// The input itself. T: the element type of its info, or std::byte.
  template <typename T>
  std::span<T> input(size_t index) {
    void* data = nullptr;
    size_t bytes = 0;
    check(mpq_session_input_buffer(get(), index, &data, &bytes));
    return detail::elements<T>(input_info(index), data, bytes);
  }
  template <typename T>
  std::span<const T> output(size_t index) const {
    const void* data = nullptr;
    size_t bytes = 0;
    check(mpq_session_output_buffer(get(), index, &data, &bytes));
    return detail::elements<const T>(output_info(index), const_cast<void*>(data), bytes);
  }
  /// Sequences one behind the other; types may be empty.
  void set_sequences(std::span<const int32_t> ids, std::span<const int32_t> types,
                     std::span<const uint32_t> lengths) {
    uint64_t tokens = 0;
    for (const uint32_t length : lengths) tokens += length;
    if (tokens != ids.size() || (!types.empty() && types.size() != ids.size()))
      throw StatusError(MPQ_INVALID_ARGUMENT,
                        std::to_string(ids.size()) + " ids and " + std::to_string(types.size()) +
                            " types for lengths of " + std::to_string(tokens));
    check(mpq_session_set_sequences(get(), ids.data(), types.empty() ? nullptr : types.data(),
                                    lengths.data(), lengths.size()));
  }
  void run() { check(mpq_session_run(get())); }

 private:
  explicit Session(mpq_session* session) : session_(session) {}
  void create(const Model& model, const mpq_options& options) {
    mpq_session* session = nullptr;
    check(mpq_session_create(model.get(), &options, &session));
    session_.reset(session);
  }

  std::unique_ptr<mpq_session, detail::DestroySession> session_;
};

}  // namespace mpq

#endif  // MPQ_HPP_
