#include "converter/cli/prepack.h"

#include <memory>

#include "runtime/mpq.h"

namespace mpq::convert::cli {
namespace {

struct Close {
  void operator()(mpq_model* model) const { mpq_model_close(model); }
};

// Both enumerations are one list of pinned values.
Error last_error(mpq_status status) {
  return {static_cast<Status>(status), std::string("prepack: ") + mpq_last_error()};
}

void take(void* user, const void* data, size_t bytes) {
  const auto* first = static_cast<const std::byte*>(data);
  static_cast<std::vector<std::byte>*>(user)->assign(first, first + bytes);
}

}  // namespace

std::string check_isa(const std::string& word) {
  uint32_t mask = 0;
  return mpq_isa_parse(word.c_str(), &mask) == MPQ_OK
             ? ""
             : "'" + word + "' is not scalar, avx2, avx512vnni or amx";
}

Result<std::vector<std::byte>> prepack(std::span<const std::byte> file, const std::string& isa) {
  mpq_model* handle = nullptr;
  mpq_status status = mpq_model_open_memory(file.data(), file.size(), nullptr, &handle);
  if (status != MPQ_OK) return last_error(status);
  const std::unique_ptr<mpq_model, Close> model(handle);
  std::vector<std::byte> result;
  status = mpq_model_prepack(model.get(), isa.c_str(), take, &result);
  if (status != MPQ_OK) return last_error(status);
  return result;
}

}  // namespace mpq::convert::cli
