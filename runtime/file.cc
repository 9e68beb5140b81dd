#include "runtime/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace mpq::runtime {
namespace {

std::string reason(int error) {
  char text[128] = "";
  return strerror_r(error, text, sizeof text);  // the GNU form, thread-safe
}

Error io_error(const char* path, const char* action, int error) {
  return {Status::kIo, std::string(path) + ": cannot " + action + ": " + reason(error)};
}

// An open regular file of a known size; closes itself.
class Descriptor {
 public:
  static Result<Descriptor> open(const char* path, uint64_t max_bytes) {
    // O_NONBLOCK: opening a FIFO without a writer must not hang before fstat refuses it.
    Descriptor file(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.fd_ < 0) return io_error(path, "open", errno);
    struct stat status = {};
    if (fstat(file.fd_, &status) != 0) return io_error(path, "stat", errno);
    if (!S_ISREG(status.st_mode))
      return Error{Status::kIo, std::string(path) + ": not a regular file"};
    file.size_ = static_cast<uint64_t>(status.st_size);
    if (file.size_ > max_bytes)
      return Error{Status::kLimit, std::string(path) + ": " + std::to_string(file.size_) +
                                       " bytes, limit " + std::to_string(max_bytes)};
    if (file.size_ == 0) return Error{Status::kCorrupt, std::string(path) + ": empty file"};
    return file;
  }

  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  size_t size() const { return static_cast<size_t>(size_); }

 private:
  explicit Descriptor(int fd) : fd_(fd) {}
  int fd_ = -1;
  uint64_t size_ = 0;
};

Result<AlignedBlock> allocate(size_t bytes, const char* name) {
  AlignedBlock block(bytes);
  if (!block)
    return Error{Status::kOutOfMemory,
                 std::string(name) + ": no memory for " + std::to_string(bytes) + " bytes"};
  return block;
}

}  // namespace

Result<File> File::read(const char* path, uint64_t max_bytes) {
  MPQ_TRY(const Descriptor descriptor, Descriptor::open(path, max_bytes));
  MPQ_TRY(AlignedBlock block, allocate(descriptor.size(), path));
  size_t done = 0;
  while (done < descriptor.size()) {
    const ssize_t n = ::read(descriptor.fd(), block.data() + done, descriptor.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error(path, "read", errno);
    if (n == 0)
      return Error{Status::kIo, std::string(path) + ": shrank to " + std::to_string(done) + " of " +
                                    std::to_string(descriptor.size()) + " bytes while being read"};
    done += static_cast<size_t>(n);
  }
  File file;
  file.block_ = std::move(block);
  file.bytes_ = file.block_.bytes();
  return file;
}

Result<File> File::map(const char* path, uint64_t max_bytes) {
  MPQ_TRY(const Descriptor descriptor, Descriptor::open(path, max_bytes));
  void* memory = mmap(nullptr, descriptor.size(), PROT_READ, MAP_PRIVATE, descriptor.fd(), 0);
  if (memory == MAP_FAILED) return io_error(path, "map", errno);
  File file;
  file.bytes_ = {static_cast<const std::byte*>(memory), descriptor.size()};
  file.mapped_ = true;
  return file;
}

Result<File> File::copy(std::span<const std::byte> bytes) {
  MPQ_TRY(AlignedBlock block, allocate(bytes.size(), "model in memory"));
  std::memcpy(block.data(), bytes.data(), bytes.size());
  File file;
  file.block_ = std::move(block);
  file.bytes_ = file.block_.bytes();
  return file;
}

File File::borrow(std::span<const std::byte> bytes) {
  File file;
  file.bytes_ = bytes;
  return file;
}

File::~File() {
  // munmap takes a non-const pointer although it writes nothing.
  if (mapped_) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace mpq::runtime
