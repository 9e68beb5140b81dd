// Handles of the C API: (index, generation) in a table, cast to pointers that are never followed.
// So a stale, foreign or invented handle is recognised instead of followed into freed memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace mpq::runtime {

// One table per kind of object. Thread-safe.
template <typename T>
class HandleTable {
 public:
  // Kinds differ in their lowest bits, so a handle of another kind is not found.
  explicit HandleTable(uintptr_t kind) : kind_(kind) {}

  // Owned by the table until removed, and by calls in progress.
  uintptr_t add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      free_.reserve(slots_.size() + 1);  // so that remove cannot run out of memory
      slots_.emplace_back();
      free_.push_back(slots_.size() - 1);
    }
    const size_t index = free_.back();
    free_.pop_back();
    slots_[index].object = std::move(object);
    return encode(index, slots_[index].generation);
  }

  // Null when the handle is not of a living object of this table.
  std::shared_ptr<T> find(uintptr_t handle) const {
    const std::lock_guard lock(mutex_);
    const size_t index = index_of(handle);
    return index < slots_.size() ? slots_[index].object : nullptr;
  }

  // The last reference is returned, so that the object dies outside of the lock.
  std::shared_ptr<T> remove(uintptr_t handle) {
    const std::lock_guard lock(mutex_);
    const size_t index = index_of(handle);
    if (index >= slots_.size()) return nullptr;
    slots_[index].generation = (slots_[index].generation + 1) & kGenerationMask;
    free_.push_back(index);
    return std::exchange(slots_[index].object, nullptr);
  }

 private:
  struct Slot {
    std::shared_ptr<T> object;
    uintptr_t generation = 1;
  };
  // [generation][index][kind]; half of what is left for each.
  static constexpr int kKindBits = 2, kIndexBits = (sizeof(uintptr_t) * 8 - kKindBits) / 2;
  static constexpr uintptr_t kIndexMask = (uintptr_t{1} << kIndexBits) - 1;
  static constexpr uintptr_t kGenerationMask = kIndexMask;

  uintptr_t encode(size_t index, uintptr_t generation) const {
    return (generation << (kIndexBits + kKindBits)) | (uintptr_t{index} << kKindBits) | kind_;
  }
  // SIZE_MAX when the handle is not valid.
  size_t index_of(uintptr_t handle) const {
    const size_t index = (handle >> kKindBits) & kIndexMask;
    const bool valid = index < slots_.size() && slots_[index].object != nullptr &&
                       encode(index, slots_[index].generation) == handle;
    return valid ? index : SIZE_MAX;
  }

  const uintptr_t kind_;
  mutable std::mutex mutex_;
  std::vector<Slot> slots_;
  std::vector<size_t> free_;
};

}  // namespace mpq::runtime
