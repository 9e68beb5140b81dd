#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "runtime/thread_pool.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mpq::runtime {
namespace {

// Counts how often each index ran; plain ints, so that a race is one for the thread sanitizer.
struct Counts {
  std::vector<int> runs;
  static void add(void* arg, size_t i) { ++static_cast<Counts*>(arg)->runs[i]; }
  bool all_are(int times) const {
    return std::all_of(runs.begin(), runs.end(), [&](int n) { return n == times; });
  }
};

}  // namespace

TEST_CASE("thread pool: every task runs exactly once, whatever the team and the number of tasks") {
  ThreadPool pool;
  REQUIRE(pool.reserve(6).ok());
  for (const size_t members : {1U, 2U, 3U, 7U}) {
    ThreadPool::Team team = pool.acquire(members);
    CHECK(team.members() == members);
    for (const size_t tasks : {0U, 1U, 2U, 3U, 5U, 8U, 100U}) {
      Counts counts{std::vector<int>(tasks)};
      for (int round = 0; round < 20; ++round) team.parallel_for(tasks, Counts::add, &counts);
      CHECK(counts.all_are(20));
    }
  }
}

TEST_CASE("thread pool: workers that have parked wake up again") {
  ThreadPool pool;
  REQUIRE(pool.reserve(2).ok());
  ThreadPool::Team team = pool.acquire(3);
  Counts counts{std::vector<int>(3)};
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond the spin
    team.parallel_for(3, Counts::add, &counts);
  }
  CHECK(counts.all_are(20));
}

TEST_CASE("thread pool: a team gets what is idle and gives it back") {
  ThreadPool pool;
  REQUIRE(pool.reserve(3).ok());
  {
    const ThreadPool::Team first = pool.acquire(3), second = pool.acquire(4),
                           third = pool.acquire(2);
    CHECK(first.members() == 3);
    CHECK(second.members() == 2);
    CHECK(third.members() == 1);
  }
  CHECK(pool.acquire(9).members() == 4);
}

TEST_CASE("thread pool: a team smaller than its work does all of it") {
  ThreadPool pool;
  ThreadPool::Team alone = pool.acquire(8);
  CHECK(alone.members() == 1);
  Counts counts{std::vector<int>(8)};
  alone.parallel_for(8, Counts::add, &counts);
  CHECK(counts.all_are(1));
}

TEST_CASE("thread pool: many callers share the pool") {
  ThreadPool pool;
  REQUIRE(pool.reserve(3).ok());
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        ThreadPool::Team team = pool.acquire(3);
        Counts counts{std::vector<int>(7)};
        team.parallel_for(7, Counts::add, &counts);
        team.parallel_for(7, Counts::add, &counts);
        wrong += counts.all_are(2) ? 0 : 1;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("thread pool: threads are started only when asked for, and shared") {
  const auto first = ThreadPool::shared(), second = ThreadPool::shared();
  CHECK(first == second);
  const size_t before = first->worker_count();
  REQUIRE(first->reserve(before + 1, 1).ok());
  CHECK(first->worker_count() == before + 1);
  REQUIRE(first->reserve(before, 1).ok());
  CHECK(first->worker_count() == before + 1);
}

TEST_CASE("thread pool: users at the same time get workers each, up to the CPUs of the process") {
  ThreadPool pool;
  const size_t expected[] = {1, 2, 3, 3, 5, 5};
  for (size_t user = 0; user < std::size(expected); ++user) {
    REQUIRE(pool.reserve(user == 4 ? 5 : 1, 4).ok());
    CHECK(pool.worker_count() == expected[user]);
  }
}

TEST_CASE("thread pool: the default is at least one thread and no more than the affinity") {
  CHECK(default_threads() >= 1);
  CHECK(default_threads() <= std::thread::hardware_concurrency());
}

#if defined(__SSE__)
TEST_CASE("thread pool: workers compute with the default MXCSR even when their creator does not") {
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(0xFFC0);  // flush to zero, denormals are zero, round to zero
  ThreadPool pool;
  const Checked reserved = pool.reserve(1);
  _mm_setcsr(saved);
  REQUIRE(reserved.ok());
  ThreadPool::Team team = pool.acquire(2);
  unsigned modes[2] = {};
  team.parallel_for(
      2, [](void* arg, size_t i) { static_cast<unsigned*>(arg)[i] = _mm_getcsr() & ~0x3FU; },
      modes);
  CHECK(modes[1] == 0x1F80);
}
#endif

}  // namespace mpq::runtime
