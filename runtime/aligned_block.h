// One block of memory at a 64-byte boundary: a file's bytes, an arena, packed weights.
#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <utility>

namespace mpq::runtime {

inline constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

// Rounds up to the alignment. The caller knows that bytes is far below SIZE_MAX.
constexpr size_t align_up(size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

// Where blocks come from; both functions or none (then operator new).
struct Allocator {
  void* (*allocate)(void* user, size_t bytes, size_t align) = nullptr;
  void (*deallocate)(void* user, void* memory) = nullptr;
  void* user = nullptr;
};

// Owns its bytes; empty when default-constructed or when memory ran out.
class AlignedBlock {
 public:
  AlignedBlock() = default;
  explicit AlignedBlock(size_t bytes, const Allocator& allocator = {}) : allocator_(allocator) {
    constexpr auto kAlign = std::align_val_t{kAlignment};
    void* memory = allocator_.allocate != nullptr
                       ? allocator_.allocate(allocator_.user, bytes, kAlignment)
                       : ::operator new(bytes, kAlign, std::nothrow);
    if (memory != nullptr) bytes_ = {static_cast<std::byte*>(memory), bytes};
  }
  AlignedBlock(AlignedBlock&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), allocator_(other.allocator_) {}
  AlignedBlock& operator=(AlignedBlock&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(allocator_, other.allocator_);
    return *this;
  }
  ~AlignedBlock() {
    if (bytes_.data() == nullptr) return;
    if (allocator_.deallocate != nullptr)
      allocator_.deallocate(allocator_.user, bytes_.data());
    else
      ::operator delete (bytes_.data(), std::align_val_t{kAlignment});
  }

  std::byte* data() const { return bytes_.data(); }
  std::span<std::byte> bytes() const { return bytes_; }
  explicit operator bool() const { return bytes_.data() != nullptr; }

 private:
  std::span<std::byte> bytes_;
  Allocator allocator_;
};

}  // namespace mpq::runtime
