#include "converter/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "converter/data/read_file.h"
#include "converter/data/write_file.h"

namespace mpq::convert::cli {

Checked write_text(const std::string& path, std::string_view text) {
  if (path != "-") return data::write_file(path, std::as_bytes(std::span(text)));
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return Error{Status::kIo, std::string("stdout: cannot write: ") + std::strerror(errno)};
  return Ok{};
}

Result<std::string> read_text(const std::string& path) {
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace mpq::convert::cli
