// Regular files, whole and in parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::data {

inline constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

// An open regular file (anything else is refused: a FIFO would block for ever). Errors name the
// path and the system's reason. Reading is thread-safe.
class File {
 public:
  static Result<File> open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  uint64_t size() const { return size_; }
  // Exactly `size` bytes from `offset`; an error when the file does not have them.
  Result<std::vector<std::byte>> read(uint64_t offset, uint64_t size) const;

 private:
  File() = default;
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

Result<std::vector<std::byte>> read_file(const std::string& path,
                                         uint64_t max_bytes = kMaxFileBytes);

}  // namespace mpq::data
