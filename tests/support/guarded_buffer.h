// Memory between two unreadable pages, and a way to survive touching them. Sanitizers do not see
// every masked, gathered or hand-written access; the page tables do.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace mpq::test {

class GuardedBuffer {
 public:
  GuardedBuffer() = default;
  explicit GuardedBuffer(size_t capacity) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inside_ = (capacity + page) / page * page;
    void* map = mmap(nullptr, inside_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED ||
        mprotect(static_cast<uint8_t*>(map) + page, inside_, PROT_READ | PROT_WRITE) != 0) {
      std::perror("GuardedBuffer");
      std::abort();
    }
    begin_ = static_cast<uint8_t*>(map) + page;
    page_ = page;
  }
  GuardedBuffer(GuardedBuffer&& o) noexcept
      : begin_(std::exchange(o.begin_, nullptr)),
        inside_(std::exchange(o.inside_, 0)),
        page_(o.page_) {}
  GuardedBuffer& operator=(GuardedBuffer&& o) noexcept {
    std::swap(begin_, o.begin_);
    std::swap(inside_, o.inside_);
    std::swap(page_, o.page_);
    return *this;
  }
  ~GuardedBuffer() {
    if (begin_ != nullptr) munmap(begin_ - page_, inside_ + 2 * page_);
  }

  size_t capacity() const { return inside_; }
  uint8_t* at_start() const { return begin_; }
  // `bytes` whose last byte is the last one before the page, or as near as the alignment allows.
  uint8_t* at_end(size_t bytes, size_t alignment = 1) const {
    return begin_ + (inside_ - bytes) / alignment * alignment;
  }

 private:
  uint8_t* begin_ = nullptr;
  size_t inside_ = 0, page_ = 0;
};

// Runs fn, which holds nothing to destroy when it faults; false if it did. `address` is what it
// touched.
template <typename Fn>
bool survives(Fn&& fn, const void** address) {
  static sigjmp_buf back;
  static const void* volatile touched;
  struct sigaction action = {}, old_segv = {}, old_bus = {}, old_ill = {};
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    touched = info->si_addr;
    siglongjmp(back, 1);
  };
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  sigaction(SIGILL, &action, &old_ill);
  const bool faulted = sigsetjmp(back, 1) != 0;
  if (!faulted) fn();
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  sigaction(SIGILL, &old_ill, nullptr);
  if (faulted) *address = touched;
  return !faulted;
}

}  // namespace mpq::test
