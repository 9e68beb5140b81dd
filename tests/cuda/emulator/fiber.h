// A second stack to run on: what a thread of a GPU is made of here. x86-64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace mpq::test {

class Fiber {
 public:
  using Entry = void (*)();  // never returns: its last act is to leave()

  Fiber();
  // Forgets what ran here: the next resume() calls `entry`. Nothing that waits on the stack is
  // destroyed.
  void start(Entry entry);
  // From the outside: runs until the fiber leaves. From within: back to where resume() was called.
  void resume();
  void leave();

 private:
  static constexpr size_t kStackBytes = 128 * 1024;
  std::unique_ptr<std::byte[]> stack_;
  void* inside_ = nullptr;  // stack pointers of whoever does not run
  void* outside_ = nullptr;
  // For AddressSanitizer only.
  [[maybe_unused]] void* fake_inside_ = nullptr;
  [[maybe_unused]] void* fake_outside_ = nullptr;
  [[maybe_unused]] const void* outside_bottom_ = nullptr;
  [[maybe_unused]] size_t outside_bytes_ = 0;
  Entry entry_ = nullptr;

  static void first();
};

}  // namespace mpq::test
