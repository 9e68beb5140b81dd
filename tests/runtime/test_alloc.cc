// Memory: every allocation of load + plan + run may fail, and run makes none. A program of its own,
// because it replaces the allocation functions.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "runtime/mpq.h"
#include "tests/runtime/support.h"
#include "tests/support/tiny_models.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MPQ_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MPQ_TEST_SANITIZED 1
#endif
#endif

namespace {

std::atomic<long> living{0};      // blocks of operator new
std::atomic<long> countdown{-1};  // the allocation that fails; negative: none
std::atomic<long> malloc_calls{0};
std::atomic<bool> buffer_refused{false};  // an allocation failed that can be done without

bool fails_now() { return countdown.load() >= 0 && countdown.fetch_sub(1) == 0; }

void* allocate(size_t bytes, size_t align) {
  if (fails_now()) return nullptr;
  void* memory = std::aligned_alloc(align, (bytes + align - 1) / align * align);
  if (memory != nullptr) ++living;
  return memory;
}

void* allocate_or_throw(size_t bytes, size_t align) {
  void* memory = allocate(bytes, align);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) --living;
  std::free(memory);
}

constexpr size_t kDefaultAlign = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
size_t size_of(std::align_val_t align) { return static_cast<size_t>(align); }

}  // namespace

void* operator new(size_t n) { return allocate_or_throw(n, kDefaultAlign); }
void* operator new[](size_t n) { return allocate_or_throw(n, kDefaultAlign); }
void* operator new(size_t n, std::align_val_t a) { return allocate_or_throw(n, size_of(a)); }
void* operator new[](size_t n, std::align_val_t a) { return allocate_or_throw(n, size_of(a)); }
// The library itself does not call this one; std::stable_sort does, and sorts in place without it.
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  void* memory = allocate(n, kDefaultAlign);
  if (memory == nullptr) buffer_refused = true;
  return memory;
}
void* operator new[](size_t n, const std::nothrow_t&) noexcept {
  return allocate(n, kDefaultAlign);
}
void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, size_of(a));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete[](void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { release(p); }

#if !defined(MPQ_TEST_SANITIZED) && defined(__GLIBC__)
// Below operator new: whoever calls malloc itself.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) {
  ++malloc_calls;
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
  ++malloc_calls;
  return __libc_calloc(n, size);
}
void* aligned_alloc(size_t align, size_t n) {
  ++malloc_calls;
  return __libc_memalign(align, n);
}
}
#define MPQ_TEST_COUNTS_MALLOC 1
#endif

namespace mpq::test {
namespace {

// Opens, plans, runs and destroys through the C API. Every handle it got is gone afterwards.
mpq_status whole_life(std::span<const std::byte> file, uint32_t threads) {
  mpq_options options;
  MPQ_INIT(&options);
  options.threads = threads;
  mpq_model* model = nullptr;
  mpq_session *session = nullptr, *clone = nullptr;
  mpq_status status = mpq_model_open_memory(file.data(), file.size(), nullptr, &model);
  if (status == MPQ_OK) status = mpq_session_create(model, &options, &session);
  if (status == MPQ_OK) status = mpq_session_clone(session, &clone);
  if (status == MPQ_OK && mpq_model_takes_text(model) == 1) {
    const uint32_t length = 3;
    const int32_t ids[length] = {1, 2, 1};
    mpq_token tokens[16];
    size_t count = 0;
    status = mpq_model_tokenize(model, "ab ba", 5, nullptr, 0, 0, tokens, 16, &count, nullptr);
    if (status == MPQ_OK) status = mpq_session_set_sequences(clone, ids, nullptr, &length, 1);
  }
  if (status == MPQ_OK) status = mpq_session_run(clone);
  mpq_session_destroy(clone);
  mpq_session_destroy(session);
  mpq_model_close(model);
  return status;
}

}  // namespace

TEST_CASE(
    "memory: whichever allocation fails, there is an error, no leak, and the next try works") {
  std::vector<format::AlignedBytes> files;
  for (const auto make : {make_everything, make_matrix}) {
    ModelMaker maker(31);
    make(&maker);
    files.push_back(file_of(maker.model));
  }
  files.push_back(file_of(tiny_text_net().model));
  for (const format::AlignedBytes& file : files)
    for (const uint32_t threads : {1U, 2U}) {
      REQUIRE(whole_life(file.bytes(), threads) == MPQ_OK);  // tables and thread-locals exist now
      const long before = living;
      long failures = 0;
      for (long k = 0;; ++k) {
        countdown = k;
        buffer_refused = false;
        const mpq_status status = whole_life(file.bytes(), threads);
        const bool failed = countdown < 0;  // the allocation was reached
        countdown = -1;
        const long after = living;
        if (!failed) {
          CHECK(status == MPQ_OK);
          break;
        }
        ++failures;
        REQUIRE(status == (buffer_refused ? MPQ_OK : MPQ_OUT_OF_MEMORY));
        REQUIRE(after == before);
        if (k % 50 == 0) REQUIRE(whole_life(file.bytes(), threads) == MPQ_OK);
      }
      CHECK(failures > 100);
      MESSAGE("allocations that failed in turn: " << failures);
    }
}

TEST_CASE("memory: nothing is allocated after the session is created") {
  ModelMaker maker(32);
  make_everything(&maker);
  format::AlignedBytes file = file_of(maker.model);
  mpq_model* model = nullptr;
  mpq_session* session = nullptr;
  mpq_options options;
  MPQ_INIT(&options);
  options.threads = 3;
  options.batch = 2;
  options.profile = 1;
  REQUIRE(mpq_model_open_memory(file.bytes().data(), file.bytes().size(), nullptr, &model) ==
          MPQ_OK);
  REQUIRE(mpq_session_create(model, &options, &session) == MPQ_OK);
  std::vector<std::byte> input(size_t{2} * 17 * 15 * 3), output(2 * 10 * sizeof(float));
  const long before = living;
  countdown = 0;  // the next allocation fails
  [[maybe_unused]] const long calls = malloc_calls;
  bool ok = true;
  for (int i = 0; i < 50; ++i)
    ok = ok && mpq_session_set_input(session, 0, input.data(), input.size()) == MPQ_OK &&
         mpq_session_run(session) == MPQ_OK &&
         mpq_session_get_output(session, 0, output.data(), output.size()) == MPQ_OK;
  const bool allocated = countdown != 0;
  countdown = -1;
  CHECK(ok);
  CHECK_FALSE(allocated);
  CHECK(living == before);
#if defined(MPQ_TEST_COUNTS_MALLOC)
  CHECK(malloc_calls == calls);
  void* volatile memory = std::malloc(1);  // the counter itself works
  std::free(memory);
  CHECK(malloc_calls == calls + 1);
#else
  std::printf("SKIPPED: memory: malloc calls during run: not counted under sanitizers\n");
#endif
  mpq_session_destroy(session);
  mpq_model_close(model);
}

}  // namespace mpq::test
