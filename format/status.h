// Status codes, Error and Result<T>: the words for failure that the format, the runtime and the
// converter share. Nothing here throws; every function that can fail returns a Result.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace mpq {

// Values are pinned for ever: they are the values of `mpq_status` in the C API and never reused.
// Grouped by who is at fault.
enum class Status : int {
  kOk = 0,
  // The caller's fault.
  kInvalidArgument = 1,
  kNotFound = 2,
  kBusy = 3,
  kBadHandle = 4,
  // The file's fault.
  kIo = 10,           // cannot be opened, read or written
  kCorrupt = 11,      // not of this format, truncated, inconsistent
  kChecksum = 12,     // digest mismatch
  kUnsupported = 13,  // valid, but an operator, type or feature this build does not know
  // The machine's limits.
  kOutOfMemory = 20,
  kLimit = 21,  // a limit set by the caller would be exceeded
  kUnsupportedCpu = 22,
  kDevice = 23,
  // Our bug.
  kInternal = 30,
};

// Stable lower-case text for a status, e.g. "corrupt".
const char* to_string(Status status);

struct Error {
  Status code = Status::kInternal;
  std::string message;  // names the object and the numbers: "conv3: weight bits 3 not in {2,4,8}"
};

struct Ok {};  // the value of an operation that has none

// A value or an Error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : v_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  T& value() {
    assert(ok());
    return *std::get_if<0>(&v_);
  }
  const T& value() const {
    assert(ok());
    return *std::get_if<0>(&v_);
  }
  const Error& error() const {
    assert(!ok());
    return *std::get_if<1>(&v_);
  }

 private:
  std::variant<T, Error> v_;
};

using Checked = Result<Ok>;  // success or an Error

}  // namespace mpq

#define MPQ_CONCAT_INNER(a, b) a##b
#define MPQ_CONCAT(a, b) MPQ_CONCAT_INNER(a, b)

// MPQ_TRY(auto plan, make_plan(model)); assigns the value or returns the Error from this function.
#define MPQ_TRY(declaration, expression) \
  MPQ_TRY_IMPL(declaration, expression, MPQ_CONCAT(mpq_result_, __LINE__))
#define MPQ_TRY_IMPL(declaration, expression, result) \
  auto result = (expression);                         \
  if (!result.ok()) return result.error();            \
  declaration = *std::move(result)

// MPQ_CHECK(check_bounds(x)); returns the Error of a Checked from this function.
#define MPQ_CHECK(expression)                          \
  do {                                                 \
    auto mpq_checked = (expression);                   \
    if (!mpq_checked.ok()) return mpq_checked.error(); \
  } while (false)
