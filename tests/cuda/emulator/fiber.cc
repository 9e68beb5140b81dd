#include "tests/cuda/emulator/fiber.h"

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define MPQ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MPQ_ASAN 1
#endif
#endif
#ifdef MPQ_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what a call preserves and the stack pointer at *save, and goes on where `load` was saved.
extern "C" void mpq_test_switch_stack(void** save, void* load);
asm(R"(
.text
.globl mpq_test_switch_stack
.type mpq_test_switch_stack, @function
mpq_test_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mpq_test_switch_stack, .-mpq_test_switch_stack
)");

namespace mpq::test {
namespace {

Fiber* running = nullptr;

}  // namespace

Fiber::Fiber() : stack_(new std::byte[kStackBytes]) {}

void Fiber::start(Entry entry) {
  entry_ = entry;
#ifdef MPQ_ASAN
  __asan_unpoison_memory_region(stack_.get(), kStackBytes);
  fake_inside_ = nullptr;
#endif
  // As if switch_stack had been called by nobody: six registers, then where to go. At the first
  // instruction of a function the stack pointer is 8 below a multiple of 16.
  auto top = reinterpret_cast<uintptr_t>(stack_.get() + kStackBytes) / 16 * 16;
  void* frame[8] = {};
  frame[6] = reinterpret_cast<void*>(&Fiber::first);
  inside_ = reinterpret_cast<void*>(top - sizeof frame);
  std::memcpy(inside_, frame, sizeof frame);
}

void Fiber::first() {
  Fiber* self = running;
#ifdef MPQ_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->outside_bottom_, &self->outside_bytes_);
#endif
  self->entry_();
}

void Fiber::resume() {
  running = this;
#ifdef MPQ_ASAN
  __sanitizer_start_switch_fiber(&fake_outside_, stack_.get(), kStackBytes);
#endif
  mpq_test_switch_stack(&outside_, inside_);
#ifdef MPQ_ASAN
  __sanitizer_finish_switch_fiber(fake_outside_, nullptr, nullptr);
#endif
}

void Fiber::leave() {
#ifdef MPQ_ASAN
  __sanitizer_start_switch_fiber(&fake_inside_, outside_bottom_, outside_bytes_);
#endif
  mpq_test_switch_stack(&inside_, outside_);
#ifdef MPQ_ASAN
  __sanitizer_finish_switch_fiber(fake_inside_, &outside_bottom_, &outside_bytes_);
#endif
}

}  // namespace mpq::test
