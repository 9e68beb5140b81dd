#include "runtime/cuda/driver.h"

#include <dlfcn.h>

namespace mpq::cuda {
namespace {

struct Found {
  Driver driver;
  std::string reason;  // empty: the driver is there
};

Found look_for_driver() {
  Found found;
  void* library =
      dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // never closed: drivers do not like it
  if (library == nullptr) {
    found.reason = "no NVIDIA driver (libcuda.so.1 cannot be opened)";
    return found;
  }
#define MPQ_TEXT_OF(symbol) #symbol
#define MPQ_TEXT(symbol) MPQ_TEXT_OF(symbol)
#define MPQ_FIND(member, symbol)                                                               \
  found.driver.member = reinterpret_cast<decltype(&symbol)>(dlsym(library, MPQ_TEXT(symbol))); \
  if (found.driver.member == nullptr && found.reason.empty())                                  \
    found.reason = "the NVIDIA driver is too old: it has no " MPQ_TEXT(symbol);
  MPQ_CUDA_FUNCTIONS(MPQ_FIND)
#undef MPQ_FIND
  if (!found.reason.empty()) return found;
  found.reason = failure(found.driver, "cuInit", found.driver.init(0));
  return found;
}

}  // namespace

const Driver* find_driver(std::string* reason) {
  static const Found found = look_for_driver();
  *reason = found.reason;
  return found.reason.empty() ? &found.driver : nullptr;
}

std::string failure(const Driver& driver, const char* what, CUresult result) {
  if (result == CUDA_SUCCESS) return {};
  const char* name = nullptr;
  if (driver.error_name(result, &name) != CUDA_SUCCESS || name == nullptr) name = "unknown error";
  return std::string(what) + ": " + name;
}

}  // namespace mpq::cuda
