#include "runtime/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/fp_scope.h"

namespace mpq::runtime {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);

void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Returns when `word` is no longer `old`: spins first, then sleeps.
void wait_while_equal(const std::atomic<uint32_t>& word, uint32_t old) {
  constexpr int kPausesPerClockRead = 32;
  const auto limit = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (word.load(std::memory_order_acquire) != old) return;
      cpu_relax();
    }
    std::this_thread::yield();  // the one we wait for may need this very core
  } while (std::chrono::steady_clock::now() < limit);
  word.wait(old, std::memory_order_acquire);
}

struct Job {
  ThreadPool::Task task = nullptr;
  void* arg = nullptr;
  size_t tasks = 0, first = 0, step = 1;
  std::atomic<uint32_t>* done = nullptr;  // counts workers that have finished; belongs to a worker

  void run() const {
    for (size_t i = first; i < tasks; i += step) task(arg, i);
  }
};

}  // namespace

// `ticket` is odd while a job (or the end) is on offer; its release store publishes `job`. Whoever
// makes it even again has claimed the job: the worker, or the caller that is done before the worker
// has begun, as when the worker waits for a core that others use.
struct alignas(64) ThreadPool::Worker {
  std::atomic<uint32_t> ticket{0};
  bool stop = false;
  Job job;
  Worker* next = nullptr;
  // Of the team whose first worker this is. It lives here and not in the team because a worker may
  // still be inside notify_one when the caller has already seen the count and gone on.
  alignas(64) std::atomic<uint32_t> done{0};
  std::thread thread;

  void publish() {
    ticket.fetch_add(1, std::memory_order_release);
    ticket.notify_one();
  }

  bool claim() {
    uint32_t offered = ticket.load(std::memory_order_relaxed);
    return offered % 2 == 1 &&
           ticket.compare_exchange_strong(offered, offered + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }

  void loop() {
    const FpScope fp;
    for (;;) {
      if (!claim()) {
        const uint32_t seen = ticket.load(std::memory_order_relaxed);
        if (seen % 2 == 0) wait_while_equal(ticket, seen);
        continue;
      }
      if (stop) return;
      std::atomic<uint32_t>& finished = *job.done;
      job.run();
      finished.fetch_add(1, std::memory_order_release);
      finished.notify_one();
    }
  }
};

std::shared_ptr<ThreadPool> ThreadPool::shared() {
  static std::mutex mutex;
  static std::weak_ptr<ThreadPool> pool;  // sessions own it together; the last one ends the threads
  const std::lock_guard lock(mutex);
  std::shared_ptr<ThreadPool> alive = pool.lock();
  if (alive == nullptr) {
    alive = std::make_shared<ThreadPool>();
    pool = alive;
  }
  return alive;
}

ThreadPool::ThreadPool() = default;

ThreadPool::~ThreadPool() {
  for (const auto& worker : workers_) {
    worker->stop = true;
    worker->publish();
  }
  for (const auto& worker : workers_) worker->thread.join();
}

Checked ThreadPool::reserve(size_t workers, size_t cpus) {
  const std::lock_guard lock(mutex_);
  wanted_ += workers;
  workers = std::max(workers, std::min(wanted_, cpus - 1));
  workers_.reserve(workers);
  while (workers_.size() < workers) {
    auto worker = std::make_unique<Worker>();
    try {
      worker->thread = std::thread(&Worker::loop, worker.get());
    } catch (const std::system_error& error) {
      return Error{Status::kOutOfMemory, "cannot start thread " +
                                             std::to_string(workers_.size() + 1) + " of " +
                                             std::to_string(workers) + ": " + error.what()};
    }
    worker->next = std::exchange(idle_, worker.get());
    workers_.push_back(std::move(worker));
  }
  return Ok{};
}

ThreadPool::Team ThreadPool::acquire(size_t members) noexcept {
  Team team;
  team.pool_ = this;
  const std::lock_guard lock(mutex_);
  while (idle_ != nullptr && team.members() < members) {
    Worker* const worker = idle_;
    idle_ = worker->next;
    worker->next = std::exchange(team.first_, worker);
    ++team.workers_;
  }
  return team;
}

void ThreadPool::release(Worker* first) noexcept {
  const std::lock_guard lock(mutex_);
  while (first != nullptr) {
    Worker* const worker = std::exchange(first, first->next);
    worker->next = std::exchange(idle_, worker);
  }
}

size_t ThreadPool::worker_count() const {
  const std::lock_guard lock(mutex_);
  return workers_.size();
}

ThreadPool::Team::Team(Team&& other) noexcept
    : pool_(other.pool_),
      first_(std::exchange(other.first_, nullptr)),
      workers_(std::exchange(other.workers_, 0)) {}

ThreadPool::Team::~Team() {
  if (first_ != nullptr) pool_->release(first_);
}

void ThreadPool::Team::parallel_for(size_t tasks, Task task, void* arg) {
  const size_t used = tasks < members() ? tasks : members();  // the others sleep on
  if (used <= 1) {
    Job{.task = task, .arg = arg, .tasks = tasks}.run();
    return;
  }
  std::atomic<uint32_t>& done = first_->done;
  done.store(0, std::memory_order_relaxed);
  size_t member = 1;
  for (Worker* worker = first_; member < used; worker = worker->next, ++member) {
    worker->job = {task, arg, tasks, member, used, &done};
    worker->publish();
  }
  Job{.task = task, .arg = arg, .tasks = tasks, .first = 0, .step = used}.run();
  auto expected = static_cast<uint32_t>(used - 1);
  member = 1;
  for (Worker* worker = first_; member < used; worker = worker->next, ++member) {
    if (!worker->claim()) continue;
    worker->job.run();
    --expected;
  }
  for (uint32_t seen = done.load(std::memory_order_acquire); seen != expected;
       seen = done.load(std::memory_order_acquire))
    wait_while_equal(done, seen);
}

}  // namespace mpq::runtime
