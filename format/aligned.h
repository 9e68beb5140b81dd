// Bytes at a 64-byte boundary: what the reader wants to be given.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace mpq::format {

class AlignedBytes {
 public:
  static constexpr std::align_val_t kAlignment{64};

  AlignedBytes() = default;
  explicit AlignedBytes(size_t size)  // not initialised
      : data_(static_cast<std::byte*>(::operator new(size, kAlignment))), size_(size) {}
  explicit AlignedBytes(std::span<const std::byte> bytes) : AlignedBytes(bytes.size()) {
    if (!bytes.empty()) std::memcpy(data_.get(), bytes.data(), bytes.size());
  }

  std::span<std::byte> bytes() { return {data_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace mpq::format
