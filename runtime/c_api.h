// What the files of the C API share: handle tables, the thread's last error, and the firewall that
// turns Results and exceptions into status values. No logic of the runtime itself.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "format/status.h"
#include "runtime/handles.h"
#include "runtime/model.h"
#include "runtime/mpq.h"
#include "runtime/session.h"

namespace mpq::runtime {

struct SessionEntry {
  std::unique_ptr<Session> session;
  std::atomic<bool> busy{false};
};

HandleTable<const Model>& models();
HandleTable<SessionEntry>& sessions();

// Records the detail for mpq_last_error; never allocates.
mpq_status fail(Status code, const char* message) noexcept;
void log_message(mpq_log_level level, const char* text) noexcept;

// Runs f, which returns a Checked; nothing leaves but a status.
template <typename F>
mpq_status guard(F&& f) noexcept {
  try {
    const Checked result = f();
    return result.ok() ? MPQ_OK : fail(result.error().code, result.error().message.c_str());
  } catch (const std::bad_alloc&) {
    return fail(Status::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return fail(Status::kInternal, error.what());
  } catch (...) {
    return fail(Status::kInternal, "unknown exception");
  }
}

inline Error invalid(const char* message) { return {Status::kInvalidArgument, message}; }

template <typename F>
mpq_status with_model(const mpq_model* handle, F&& f) noexcept {
  return guard([&]() -> Checked {
    const auto model = models().find(reinterpret_cast<uintptr_t>(handle));
    if (model == nullptr) return Error{Status::kBadHandle, "not an open model"};
    return f(model);
  });
}

// The session, and the right to be the only caller in it.
template <typename F>
mpq_status with_session(const mpq_session* handle, F&& f) noexcept {
  return guard([&]() -> Checked {
    const auto entry = sessions().find(reinterpret_cast<uintptr_t>(handle));
    if (entry == nullptr) return Error{Status::kBadHandle, "not a session"};
    if (entry->busy.exchange(true, std::memory_order_acquire))
      return Error{Status::kBusy, "session: another call is in progress"};
    struct Release {
      std::atomic<bool>& busy;
      ~Release() { busy.store(false, std::memory_order_release); }
    } const release{entry->busy};
    return f(*entry->session);
  });
}

// For calls that return a value and only read what never changes.
template <typename T, typename F>
T session_value(const mpq_session* handle, T fallback, F&& f) noexcept {
  guard([&]() -> Checked {
    const auto entry = sessions().find(reinterpret_cast<uintptr_t>(handle));
    if (entry == nullptr) return Error{Status::kBadHandle, "not a session"};
    fallback = f(*entry->session);
    return Ok{};
  });
  return fallback;
}

template <typename T, typename F>
T model_value(const mpq_model* handle, T fallback, F&& f) noexcept {
  with_model(handle, [&](const std::shared_ptr<const Model>& model) -> Checked {
    fallback = f(*model);
    return Ok{};
  });
  return fallback;
}

// Structs that grow: the caller's may be newer (longer) than the library's. A size beyond reason is
// an uninitialised struct.
inline constexpr uint32_t kMaxStructSize = 4096;

// The caller's options, or all defaults for null.
template <typename T>
Result<T> read_options(const T* options, const char* name) {
  T known;
  MPQ_INIT(&known);
  if (options == nullptr) return known;
  const uint32_t size = options->struct_size;
  if (size < sizeof(T) || size > kMaxStructSize)
    return Error{Status::kInvalidArgument, std::string(name) + ": struct_size " +
                                               std::to_string(size) + ", expected " +
                                               std::to_string(sizeof(T))};
  const auto* bytes = reinterpret_cast<const unsigned char*>(options);
  if (!std::all_of(bytes + sizeof(T), bytes + size, [](unsigned char b) { return b == 0; }))
    return Error{Status::kUnsupported,
                 std::string(name) + ": a field is set that this version does not know"};
  known = *options;
  return known;
}

template <typename T>
Checked check_info(const T* info) {
  if (info == nullptr) return invalid("info is NULL");
  if (info->struct_size < sizeof(T) || info->struct_size > kMaxStructSize)
    return Error{Status::kInvalidArgument, "info: struct_size " +
                                               std::to_string(info->struct_size) + ", expected " +
                                               std::to_string(sizeof(T))};
  return Ok{};
}

// Keeps the caller's struct_size.
template <typename T>
void write_info(T value, T* info) {
  value.struct_size = info->struct_size;
  *info = value;
}

Error out_of_range(const char* what, size_t index, size_t count);
// Shape, type and buffer size of a tensor for a batch.
Result<mpq_tensor_info> tensor_info(const format::Model&, format::TensorId, uint32_t batch);

}  // namespace mpq::runtime
