// What it costs to fork and join: a team of the thread pool runs one task a member, as a session
// does once a layer. Tasks of 0 us show the least that the caller pays: it runs what its workers
// have not begun. Tasks of 1 us are run by the workers: what is above 1 us is fork and join. The
// floor is one core's write seen by another and answered, by two threads that spin.

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "runtime/thread_pool.h"

namespace {

using mpq::runtime::ThreadPool;

void work(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

void bench_fork_join(benchmark::State& state, std::chrono::nanoseconds task) {
  ThreadPool pool;
  const auto members = static_cast<size_t>(state.range(0));
  if (!pool.reserve(members - 1).ok()) return state.SkipWithError("cannot start threads");
  ThreadPool::Team team = pool.acquire(members);
  for (auto _ : state) {
    team.parallel_for(
        members, [](void* time, size_t) { work(*static_cast<std::chrono::nanoseconds*>(time)); },
        &task);
  }
}

void bench_ping_pong(benchmark::State& state) {
  alignas(64) std::atomic<uint64_t> ping{0};
  alignas(64) std::atomic<uint64_t> pong{0};
  constexpr uint64_t kEnd = ~uint64_t{0};
  std::thread other([&] {
    for (uint64_t turn = 1;; ++turn) {
      uint64_t seen = 0;
      while ((seen = ping.load(std::memory_order_acquire)) < turn) __builtin_ia32_pause();
      if (seen == kEnd) return;
      pong.store(turn, std::memory_order_release);
    }
  });
  uint64_t turn = 0;
  for (auto _ : state) {
    ping.store(++turn, std::memory_order_release);
    while (pong.load(std::memory_order_acquire) < turn) __builtin_ia32_pause();
  }
  ping.store(kEnd, std::memory_order_release);
  other.join();
}

}  // namespace

int main(int argc, char** argv) {
  const int most = static_cast<int>(mpq::runtime::default_threads());
  benchmark::RegisterBenchmark("ping_pong", bench_ping_pong)->UseRealTime();
  for (const int us : {0, 1, 10})
    benchmark::RegisterBenchmark(("fork_join_of_" + std::to_string(us) + "us").c_str(),
                                 bench_fork_join, std::chrono::microseconds(us))
        ->RangeMultiplier(2)
        ->Range(2, std::max(most, 2))
        ->UseRealTime();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
