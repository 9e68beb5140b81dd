#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "runtime/handles.h"
#include "runtime/mpq.h"
#include "tests/runtime/support.h"

namespace mpq::test {

TEST_CASE("handles: random sequences of add, find and remove agree with a plain list") {
  runtime::HandleTable<int> table(1), other(2);
  std::vector<std::pair<uintptr_t, int>> alive;
  std::vector<uintptr_t> dead = {0, 1, 0x1234567, UINTPTR_MAX, other.add(std::make_shared<int>(7))};
  std::mt19937 random(1);
  bool right = true;
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t action = random() % 4;
    if (action == 0 && alive.size() < 50) {
      alive.emplace_back(table.add(std::make_shared<int>(i)), i);
    } else if (action == 1 && !alive.empty()) {
      std::swap(alive[random() % alive.size()], alive.back());
      const auto removed = table.remove(alive.back().first);
      right = right && removed != nullptr && *removed == alive.back().second;
      if (dead.size() < 1000) dead.push_back(alive.back().first);
      alive.pop_back();
    } else if (action == 2 && !alive.empty()) {
      const auto& [handle, value] = alive[random() % alive.size()];
      const auto found = table.find(handle);
      right = right && found != nullptr && *found == value;
    } else {
      const uintptr_t handle = dead[random() % dead.size()];
      right = right && table.find(handle) == nullptr && table.remove(handle) == nullptr;
    }
  }
  CHECK(right);
}

namespace {

struct Open {
  explicit Open(uint32_t threads) : maker(41) {
    make_everything(&maker);
    file = file_of(maker.model);
    mpq_options options;
    MPQ_INIT(&options);
    options.threads = threads;
    REQUIRE(mpq_model_open_memory(file.bytes().data(), file.bytes().size(), nullptr, &model) ==
            MPQ_OK);
    REQUIRE(mpq_session_create(model, &options, &session) == MPQ_OK);
    input = random_input(&maker, maker.model.tensors[maker.model.inputs[0]]);
    REQUIRE(mpq_session_set_input(session, 0, input.data(), input.size()) == MPQ_OK);
    REQUIRE(mpq_session_run(session) == MPQ_OK);
    REQUIRE(mpq_session_get_output(session, 0, expected, sizeof expected) == MPQ_OK);
  }
  ~Open() {
    mpq_session_destroy(session);
    mpq_model_close(model);
  }
  ModelMaker maker;
  format::AlignedBytes file;
  mpq_model* model = nullptr;
  mpq_session* session = nullptr;
  std::vector<std::byte> input;
  float expected[10] = {};
};

}  // namespace

TEST_CASE(
    "handles: 16 threads in one session: each call succeeds or says busy, results stay right") {
  Open open(2);
  std::atomic<int> wrong{0}, ran{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const mpq_status status = mpq_session_run(open.session);
        ran += status == MPQ_OK;
        float output[10] = {};
        const mpq_status got = mpq_session_get_output(open.session, 0, output, sizeof output);
        const bool fine =
            (status == MPQ_OK || status == MPQ_BUSY) && (got == MPQ_OK || got == MPQ_BUSY);
        if (!fine || (got == MPQ_OK && std::memcmp(output, open.expected, sizeof output) != 0))
          ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(ran > 0);
}

TEST_CASE("handles: 16 threads with sessions of their own on one model get the same bytes") {
  Open open(2);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        mpq_options options;
        MPQ_INIT(&options);
        options.threads = 1 + static_cast<uint32_t>((t + i) % 3);
        mpq_session* session = nullptr;
        float output[10] = {};
        const bool fine =
            mpq_session_create(open.model, &options, &session) == MPQ_OK &&
            mpq_session_set_input(session, 0, open.input.data(), open.input.size()) == MPQ_OK &&
            mpq_session_run(session) == MPQ_OK &&
            mpq_session_get_output(session, 0, output, sizeof output) == MPQ_OK;
        mpq_session_destroy(session);
        if (!fine || std::memcmp(output, open.expected, sizeof output) != 0) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

size_t thread_count() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

// A host whose pool is real: every task on a thread of its own, for several callers at once.
void host_for(void* user, size_t tasks, void (*task)(void*, size_t), void* arg) {
  *static_cast<std::atomic<size_t>*>(user) += tasks;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < tasks; ++i) threads.emplace_back(task, arg, i);
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("handles: threads of the host run the parts of 4 sessions at once, none of ours do") {
  Open open(1);
  std::atomic<size_t> ran{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  mpq_options options;
  MPQ_INIT(&options);
  options.threads = 16;
  const size_t before = thread_count();
  options.parallel_for = host_for;
  options.parallel_for_user = &ran;
  mpq_session* kept = nullptr;
  REQUIRE(mpq_session_create(open.model, &options, &kept) == MPQ_OK);
  CHECK(thread_count() == before);
  options.parallel_for = nullptr;  // planted: the count sees threads of ours
  mpq_session* own = nullptr;
  REQUIRE(mpq_session_create(open.model, &options, &own) == MPQ_OK);
  CHECK(thread_count() > before);
  mpq_session_destroy(own);
  mpq_session_destroy(kept);
  options.parallel_for = host_for;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      mpq_session* session = nullptr;
      float output[10] = {};
      bool fine = mpq_session_create(open.model, &options, &session) == MPQ_OK &&
                  mpq_session_set_input(session, 0, open.input.data(), open.input.size()) == MPQ_OK;
      for (int i = 0; i < 3; ++i)
        fine = fine && mpq_session_run(session) == MPQ_OK &&
               mpq_session_get_output(session, 0, output, sizeof output) == MPQ_OK &&
               std::memcmp(output, open.expected, sizeof output) == 0;
      mpq_session_destroy(session);
      wrong += !fine;
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
  CHECK(ran > 0);
}

TEST_CASE("handles: a session destroyed while it runs finishes, later calls see a bad handle") {
  for (int round = 0; round < 20; ++round) {
    Open open(2);
    std::atomic<bool> started{false};
    std::atomic<int> wrong{0};
    std::thread runner([&] {
      started = true;
      for (int i = 0; i < 100; ++i) {
        const mpq_status status = mpq_session_run(open.session);
        if (status != MPQ_OK && status != MPQ_BAD_HANDLE) ++wrong;
      }
    });
    while (!started) std::this_thread::yield();
    mpq_model_close(open.model);
    mpq_session_destroy(open.session);
    CHECK(mpq_session_run(open.session) == MPQ_BAD_HANDLE);
    runner.join();
    CHECK(wrong == 0);
  }
}

}  // namespace mpq::test
