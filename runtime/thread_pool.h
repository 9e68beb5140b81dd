// Worker threads for whole runs: one pool per process, shared by all sessions, so that several
// models do not fight for cores. A run takes a team of idle workers, gives it one job per step, and
// returns it.
//
// Layers take 15-200 us, a futex wake 5-50 us: so a worker in a team spins between steps and parks
// after about 200 us without work, which is longer than most steps that one thread runs alone. No
// thread is pinned. Jobs are partitioned statically: member m of a team of n runs the tasks m,
// m + n, ... A job that its worker has not begun when the caller is done with its own is run by the
// caller: a busy machine costs the help, not the wait. Results never depend on who ran what.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "format/status.h"

namespace mpq::runtime {

// The least of CPU affinity and cgroup quota (rounded up), at least 1.
uint32_t default_threads();

class ThreadPool {
 public:
  using Task = void (*)(void* arg, size_t index);
  class Team;

  // The pool of this process; it lives as long as somebody holds it, and its threads with it.
  static std::shared_ptr<ThreadPool> shared();

  ThreadPool();
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Starts threads for one more user of `workers` at a time: as many as all users so far together,
  // if the process has CPUs for them, and never fewer than `workers`. The only call that allocates.
  Checked reserve(size_t workers, size_t cpus = default_threads());
  // Up to `members` - 1 idle workers plus the calling thread; fewer when others use them.
  Team acquire(size_t members) noexcept;

  size_t worker_count() const;

 private:
  struct Worker;
  void release(Worker* first) noexcept;

  mutable std::mutex mutex_;  // guards what follows
  size_t wanted_ = 0;         // workers of all users so far
  std::vector<std::unique_ptr<Worker>> workers_;
  Worker* idle_ = nullptr;  // a list through Worker::next
};

// Borrowed workers; only the thread that acquired the team uses it. The pool outlives it.
class ThreadPool::Team {
 public:
  Team() = default;  // the calling thread alone
  Team(Team&& other) noexcept;
  Team& operator=(Team&&) = delete;
  ~Team();

  size_t members() const { return workers_ + 1; }

  // Runs task(arg, i) for every i in [0, tasks) and returns when all are done. Everything the tasks
  // wrote is visible to the caller then.
  void parallel_for(size_t tasks, Task task, void* arg);

 private:
  friend class ThreadPool;
  ThreadPool* pool_ = nullptr;
  Worker* first_ = nullptr;  // a list of workers_ elements
  size_t workers_ = 0;
};

}  // namespace mpq::runtime
