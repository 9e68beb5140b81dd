#include "converter/data/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace mpq::data {

namespace {

Error system_error(const std::string& path) {
  return {errno == ENOENT ? Status::kNotFound : Status::kIo, path + ": " + std::strerror(errno)};
}

}  // namespace

Result<File> File::open(const std::string& path) {
  File file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return system_error(path);
  struct stat info {};
  if (::fstat(file.fd_, &info) != 0) return system_error(path);
  if (!S_ISREG(info.st_mode)) return Error{Status::kIo, path + ": not a regular file"};
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::vector<std::byte>> File::read(uint64_t offset, uint64_t size) const {
  if (size > size_ || offset > size_ - size)
    return Error{Status::kCorrupt, path_ + ": " + std::to_string(size) + " bytes at offset " +
                                       std::to_string(offset) + " exceed its " +
                                       std::to_string(size_)};
  std::vector<std::byte> bytes(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t got =
        ::pread(fd_, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path_);
    if (got == 0) return Error{Status::kIo, path_ + ": shrank while it was read"};
    done += static_cast<uint64_t>(got);
  }
  return bytes;
}

Result<std::vector<std::byte>> read_file(const std::string& path, uint64_t max_bytes) {
  MPQ_TRY(const File file, File::open(path));
  if (file.size() > max_bytes)
    return Error{Status::kLimit, path + ": " + std::to_string(file.size()) +
                                     " bytes exceed the limit of " + std::to_string(max_bytes)};
  return file.read(0, file.size());
}

}  // namespace mpq::data
