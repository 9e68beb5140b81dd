#include "converter/data/write_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace mpq::data {
namespace {

Error io_error(const std::string& path, const char* what) {
  return Error{Status::kIo, path + ": " + what + ": " + std::strerror(errno)};
}

bool write_all(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Checked write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::string temporary = path + ".XXXXXX";
  const int file = ::mkstemp(temporary.data());
  if (file < 0) return io_error(path, "cannot create a file beside it");
  const mode_t mask = ::umask(0);
  ::umask(mask);
  bool ok = ::fchmod(file, 0666 & ~mask) == 0;
  ok = ok && write_all(file, bytes);
  ok = ok && ::fsync(file) == 0;
  ok = (::close(file) == 0) && ok;
  ok = ok && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (!ok) {
    const Error error = io_error(path, "cannot write");
    ::unlink(temporary.c_str());
    return error;
  }
  // The rename itself must survive a power cut too.
  const auto folder = std::filesystem::path(path).parent_path();
  const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
  return Ok{};
}

}  // namespace mpq::data
