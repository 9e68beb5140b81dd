// Errors between Triton, which has objects that somebody must delete, and our code, which throws
// and returns values.
#pragma once

#include <memory>
#include <mpq.hpp>
#include <new>

#include "integrations/triton/triton_api.h"

namespace mpq::triton {

/// A failed call of the server's, on its way to the entry point that passes it on.
class ServerError {
 public:
  explicit ServerError(TRITONSERVER_Error* error) : error_(error, TRITONSERVER_ErrorDelete) {}
  TRITONSERVER_Error* release() { return error_.release(); }

 private:
  std::unique_ptr<TRITONSERVER_Error, decltype(&TRITONSERVER_ErrorDelete)> error_;
};

inline void call(TRITONSERVER_Error* error) {
  if (error != nullptr) throw ServerError(error);
}

inline void ignore(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

/// What an entry point returns for what `body` did.
template <typename Body>
TRITONSERVER_Error* guarded(const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (ServerError& error) {
    return error.release();
  } catch (const std::bad_alloc&) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, "mpq: out of memory");
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG,
                                 (std::string("mpq: ") + error.what()).c_str());
  }
}

}  // namespace mpq::triton
