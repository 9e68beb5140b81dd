#include "converter/onnx/external_data.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace mpq::convert {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// A path for messages: short and printable.
std::string quoted(const std::string& location) {
  std::string text = "'";
  for (const char c : location.substr(0, 80)) text += c >= 32 && c < 127 ? c : '?';
  return text + (location.size() > 80 ? "...'" : "'");
}

Error refuse(const std::string& location, const std::string& why) {
  return Error{Status::kCorrupt, "external data " + quoted(location) + ": " + why};
}

// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xC2 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF5 ? 4
                                        : 0;
    if (length == 0 || text.size() - i < length) return false;
    uint32_t point = length == 1 ? lead : lead & (0x7FU >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return false;
      point = point << 6 | (next & 0x3FU);
    }
    if ((length == 3 && point < 0x800) || (length == 4 && point < 0x10000) || point > 0x10FFFF ||
        (point >= 0xD800 && point < 0xE000))
      return false;
    i += length;
  }
  return true;
}

std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '/')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

// Opens component by component, so that a link anywhere on the way fails.
Result<FileDescriptor> open_inside(const std::string& folder, const std::string& location) {
  FileDescriptor at(
      open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0)
    return Error{Status::kIo,
                 "the model's folder cannot be opened: " + std::string(std::strerror(errno))};
  const std::vector<std::string> parts = components(location);
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    const int flags =
        O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK | O_NOCTTY : O_DIRECTORY);
    struct stat before {};
    // Devices and FIFOs are told apart before they are opened: opening one can already have
    // effects.
    if (last && (fstatat(at.get(), parts[i].c_str(), &before, AT_SYMLINK_NOFOLLOW) != 0 ||
                 !S_ISREG(before.st_mode)))
      return refuse(location, "is not a regular file of the model's folder");
    FileDescriptor next(openat(at.get(), parts[i].c_str(), flags));
    if (next.get() < 0)
      return refuse(location, "cannot be opened inside the model's folder: " +
                                  std::string(std::strerror(errno)));
    at = std::move(next);
  }
  return at;
}

}  // namespace

Checked check_location(const std::string& location) {
  if (location.empty() || location.size() > 4096)
    return refuse(location, "the path is empty or too long");
  if (!is_utf8(location)) return refuse(location, "the path is not UTF-8");
  for (const char c : location)
    if (static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\')
      return refuse(location, "the path has a control character or a backslash");
  for (const std::string& part : components(location))
    if (part.empty() || part == "." || part == "..")
      return refuse(location, "the path must be relative, without '.', '..' or empty parts");
  return Ok{};
}

Result<std::string> read_external(const std::string& folder, const std::string& location,
                                  uint64_t offset, uint64_t bytes) {
  MPQ_CHECK(check_location(location));
  MPQ_TRY(const FileDescriptor file, open_inside(folder, location));
  struct stat info {};
  if (fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return refuse(location, "is not a regular file");
  if (info.st_nlink != 1)
    return refuse(location, "has " + std::to_string(info.st_nlink) + " hard links; copy the file");
  const auto size = static_cast<uint64_t>(info.st_size);
  if (offset > size || bytes > size - offset)
    return refuse(location, "has " + std::to_string(size) + " bytes, needed " +
                                std::to_string(bytes) + " at offset " + std::to_string(offset));
  std::string data(bytes, '\0');
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got =
        pread(file.get(), data.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error{Status::kIo, "external data " + quoted(location) + ": read failed"};
    done += static_cast<uint64_t>(got);
  }
  return data;
}

}  // namespace mpq::convert
