// The library-wide part of the C API.

#include "runtime/c_api.h"

#include <cstdio>

#include "kernels/isa_config.h"
#include "runtime/isa_choice.h"

namespace mpq::runtime {
namespace {

constexpr size_t kMaxErrorText = 1024;
thread_local char last_error[kMaxErrorText] = "";

struct Log {
  std::mutex mutex;
  mpq_log_fn function = nullptr;
  void* user = nullptr;
};
constinit Log log_target;

}  // namespace

// The tables are never destroyed: at exit, destructors of the host may still hold handles.
HandleTable<const Model>& models() {
  static auto& table = *new HandleTable<const Model>(1);
  return table;
}

HandleTable<SessionEntry>& sessions() {
  static auto& table = *new HandleTable<SessionEntry>(2);
  return table;
}

mpq_status fail(Status code, const char* message) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", message);
  return static_cast<mpq_status>(code);
}

void log_message(mpq_log_level level, const char* text) noexcept {
  mpq_log_fn function = nullptr;
  void* user = nullptr;
  {
    const std::lock_guard lock(log_target.mutex);
    function = log_target.function;
    user = log_target.user;
  }
  if (function != nullptr) function(user, level, text);
}

Error out_of_range(const char* what, size_t index, size_t count) {
  return {Status::kInvalidArgument,
          std::string(what) + " " + std::to_string(index) + " of " + std::to_string(count)};
}

}  // namespace mpq::runtime

using namespace mpq;           // NOLINT(google-build-using-namespace)
using namespace mpq::runtime;  // NOLINT(google-build-using-namespace)

#define MPQ_TEXT_INNER(x) #x
#define MPQ_TEXT(x) MPQ_TEXT_INNER(x)

extern "C" {

uint32_t mpq_version(void) {
  return MPQ_VERSION_MAJOR << 16 | MPQ_VERSION_MINOR << 8 | MPQ_VERSION_PATCH;
}

const char* mpq_version_string(void) {
  return MPQ_TEXT(MPQ_VERSION_MAJOR) "." MPQ_TEXT(MPQ_VERSION_MINOR) "." MPQ_TEXT(
      MPQ_VERSION_PATCH);
}

const char* mpq_build_info(void) {
  return "compiler "
#if defined(__clang__)
         "clang " __clang_version__
#else
         "g++ " __VERSION__
#endif
         ", isa scalar"
#if MPQ_HAVE_AVX2
         " avx2"
#endif
#if MPQ_HAVE_AVX512VNNI
         " avx512vnni"
#endif
      ;
}

const char* mpq_status_string(int status) { return to_string(static_cast<Status>(status)); }

const char* mpq_last_error(void) { return last_error; }

const char* mpq_dtype_string(uint32_t dtype) {
  return dtype < kDTypeCount ? to_string(static_cast<DType>(dtype)) : "unknown";
}

uint32_t mpq_dtype_bits(uint32_t dtype) {
  return dtype < kDTypeCount ? static_cast<uint32_t>(bits_of(static_cast<DType>(dtype))) : 0;
}

uint32_t mpq_isa_available(void) { return available_isa(); }

const char* mpq_isa_name(uint32_t mask) { return kernels::isa_name(mask); }

mpq_status mpq_isa_parse(const char* name, uint32_t* mask) {
  if (name == nullptr || mask == nullptr)
    return fail(Status::kInvalidArgument, "mpq_isa_parse: NULL argument");
  if (!kernels::parse_isa(name, mask))
    return fail(Status::kNotFound, "mpq_isa_parse: not scalar, avx2, avx512vnni or amx");
  return MPQ_OK;
}

uint32_t mpq_default_threads(void) {
  uint32_t threads = 1;
  guard([&]() -> Checked {
    threads = default_threads();
    return Ok{};
  });
  return threads;
}

void mpq_set_log(mpq_log_fn log, void* user) {
  guard([&]() -> Checked {
    const std::lock_guard lock(log_target.mutex);
    log_target.function = log;
    log_target.user = user;
    return Ok{};
  });
}

}  // extern "C"
