// A whole file in memory: read into private memory (the default), or mapped when the caller
// promises that nobody changes it. Regular files only, so that no pipe or device can block or
// surprise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "format/status.h"
#include "runtime/aligned_block.h"

namespace mpq::runtime {

// 64-byte aligned, immutable, unmapped or freed with the object.
class File {
 public:
  // A copy: later writes to the file or its truncation do not show.
  static Result<File> read(const char* path, uint64_t max_bytes);
  // No copy: a later write to the file shows, and a truncation ends the process at the next access.
  static Result<File> map(const char* path, uint64_t max_bytes);
  // A copy of the caller's bytes.
  static Result<File> copy(std::span<const std::byte> bytes);
  // The caller's own bytes, which outlive the object.
  static File borrow(std::span<const std::byte> bytes);

  File(File&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})),
        block_(std::move(other.block_)),
        mapped_(std::exchange(other.mapped_, false)) {}
  File& operator=(File&&) = delete;
  ~File();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  File() = default;
  std::span<const std::byte> bytes_;
  AlignedBlock block_;   // the copy, if there is one
  bool mapped_ = false;  // bytes_ is a mapping
};

}  // namespace mpq::runtime
