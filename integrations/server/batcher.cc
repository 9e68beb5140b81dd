#include "integrations/server/batcher.h"

#include <algorithm>

#include "integrations/server/instance.h"

namespace mpq::serve {

namespace {

const Failure kFull{503, "the queue is full"};

uint64_t us_between(Clock::time_point from, Clock::time_point to) {
  return static_cast<uint64_t>(std::max<int64_t>(
      0, std::chrono::duration_cast<std::chrono::microseconds>(to - from).count()));
}

}  // namespace

Batcher::Batcher(std::shared_ptr<const Facts> facts)
    : facts_(std::move(facts)), levels_(facts_->config.priority_levels) {
  const std::vector<uint32_t>& preferred = facts_->config.preferred_batch_sizes;
  enough_samples_ = preferred.empty() ? facts_->config.max_batch_size
                                      : *std::max_element(preferred.begin(), preferred.end());
}

std::unique_ptr<Batcher> Batcher::create(std::shared_ptr<const Facts> facts, std::string* why) {
  const ModelConfig& config = facts->config;
  const uint32_t threads =
      config.threads != 0 ? config.threads : std::max(1U, mpq_default_threads() / config.instances);
  std::unique_ptr<Batcher> batcher(new Batcher(facts));
  try {
    for (uint32_t i = 0; i < config.instances; ++i) {
      batcher->instances_.push_back(std::make_unique<Instance>(facts, threads));
      batcher->memory_bytes_ += batcher->instances_.back()->private_bytes();
    }
  } catch (const StatusError& error) {
    *why = error.what();
    return nullptr;
  }
  batcher->memory_bytes_ += batcher->instances_[0]->weight_bytes();
  for (const auto& instance : batcher->instances_)
    batcher->threads_.emplace_back([b = batcher.get(), i = instance.get()] { b->serve(i); });
  return batcher;
}

Batcher::~Batcher() { close(); }

bool Batcher::is_full(size_t level) const {
  const uint32_t most = facts_->config.policy(static_cast<uint32_t>(level) + 1).max_queue_size;
  return most != 0 && levels_[level].size() >= most;
}

MaybeFailure Batcher::refusal() {
  const std::lock_guard lock(mutex_);
  if (closed_) return std::nullopt;
  for (size_t level = 0; level < levels_.size(); ++level)
    if (!is_full(level)) return std::nullopt;
  return kFull;
}

bool Batcher::submit(JobPtr* job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    const size_t level = (*job)->priority - 1;
    if (!is_full(level)) {
      waiting_ += 1;
      waiting_size_.samples += (*job)->samples;
      waiting_size_.tokens += (*job)->ids.size();
      metrics_.pending.store(waiting_);
      levels_[level].push_back(std::move(*job));
    }
  }
  if (*job == nullptr)
    changed_.notify_one();
  else
    finish(std::move(*job), kFull);
  return true;
}

void Batcher::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_)
    if (thread.joinable()) thread.join();
}

void Batcher::leave(const Job& job) {
  waiting_ -= 1;
  waiting_size_.samples -= job.samples;
  waiting_size_.tokens -= job.ids.size();
}

// Requests whose time is over, or whose client is gone, leave the queue without being computed.
void Batcher::drop_dead(Clock::time_point now, std::vector<JobPtr>* dead) {
  for (size_t i = 0; i < levels_.size(); ++i) {
    std::deque<JobPtr>& level = levels_[i];
    const TimeoutAction action = facts_->config.policy(static_cast<uint32_t>(i) + 1).timeout_action;
    const bool reject = action == TimeoutAction::kReject;
    const auto alive = [&](const JobPtr& job) {
      return !job->cancelled->load() && (!reject || job->deadline > now);
    };
    const auto first = std::stable_partition(level.begin(), level.end(), alive);
    for (auto it = first; it != level.end(); ++it) {
      leave(**it);
      dead->push_back(std::move(*it));
    }
    level.erase(first, level.end());
    // DELAY: behind those that are in time.
    if (!reject)
      std::stable_partition(level.begin(), level.end(),
                            [&](const JobPtr& job) { return job->deadline > now; });
  }
}

bool Batcher::is_full_batch() const {
  return waiting_size_.samples >= enough_samples_ ||
         (facts_->sequences() && waiting_size_.tokens >= facts_->max_tokens);
}

Clock::time_point Batcher::oldest() const {
  Clock::time_point oldest = Clock::time_point::max();
  for (const auto& level : levels_)
    for (const JobPtr& job : level) oldest = std::min(oldest, job->arrived);
  return oldest;
}

// False: there is no room for it.
bool Batcher::add(const Job& job, Size* batch) const {
  const Size sum{batch->samples + job.samples, batch->tokens + job.ids.size()};
  if (sum.samples > facts_->config.max_batch_size) return false;
  if (facts_->sequences() && sum.tokens > facts_->max_tokens) return false;
  *batch = sum;
  return true;
}

// The samples of the largest preferred batch that could run now; 0: none.
size_t Batcher::preferred() const {
  const std::vector<uint32_t>& sizes = facts_->config.preferred_batch_sizes;
  size_t best = 0;
  if (sizes.empty()) return best;
  Size batch;
  for (const auto& level : levels_)
    for (const JobPtr& job : level) {
      if (!add(*job, &batch)) return best;
      if (std::find(sizes.begin(), sizes.end(), batch.samples) != sizes.end()) best = batch.samples;
    }
  return best;
}

std::vector<JobPtr> Batcher::take(Clock::time_point now, size_t most_samples) {
  std::vector<JobPtr> batch;
  Size size;
  for (auto& level : levels_)
    while (!level.empty()) {
      Job& job = *level.front();
      if (size.samples + job.samples > most_samples || !add(job, &size)) return batch;
      leave(job);
      job.queue_us = us_between(job.arrived, now);
      batch.push_back(std::move(level.front()));
      level.pop_front();
    }
  return batch;
}

// Waits for requests, and for company for them. Closed: what is left; then nothing.
std::vector<JobPtr> Batcher::next_batch(std::unique_lock<std::mutex>* lock,
                                        std::vector<JobPtr>* dead) {
  const std::chrono::microseconds delay(facts_->config.max_queue_delay_us);
  changed_.wait(*lock, [this] { return closed_ || waiting_ != 0; });
  Clock::time_point now = Clock::now();
  drop_dead(now, dead);
  bool patient = true;
  if (delay.count() != 0) {
    const auto waits = [&] {
      if (closed_ || waiting_ == 0) return false;
      patient = now < oldest() + delay;
      return patient && !is_full_batch() && preferred() == 0;
    };
    while (waits()) {
      changed_.wait_until(*lock, oldest() + delay);
      now = Clock::now();
      drop_dead(now, dead);
    }
  }
  const size_t best = patient ? preferred() : 0;
  return take(now, best != 0 ? best : facts_->config.max_batch_size);
}

void Batcher::serve(Instance* instance) {
  for (;;) {
    Done done;
    std::vector<JobPtr> dead;
    std::vector<JobPtr>& batch = done.jobs;
    uint64_t turn = 0;
    {
      std::unique_lock lock(mutex_);
      batch = next_batch(&lock, &dead);
      metrics_.pending.store(waiting_);
      if (closed_ && batch.empty() && dead.empty() && waiting_ == 0) return;
      if (!batch.empty()) turn = next_turn_++;
      if (waiting_ != 0) changed_.notify_one();  // another instance may have time
    }
    for (JobPtr& job : dead) {
      const bool gone = job->cancelled->load();  // before the job is given away
      finish(std::move(job), gone ? Failure{499, "the client is gone"}
                                  : Failure{504, "the time in the queue is over"});
    }
    if (batch.empty()) continue;
    const Clock::time_point start = Clock::now();
    try {
      metrics_.runs.fetch_add(instance->run(batch));
    } catch (const StatusError& error) {
      done.failure = Failure{500, error.what()};
    } catch (const std::bad_alloc&) {
      done.failure = Failure{500, "out of memory"};
    }
    const uint64_t compute_us = us_between(start, Clock::now());
    size_t samples = 0;
    for (const JobPtr& job : batch) samples += job->samples;
    metrics_.samples.fetch_add(samples);
    metrics_.batch.observe(samples);
    for (const JobPtr& job : batch) {
      job->compute_us = compute_us;
      metrics_.queue.observe(job->queue_us);
      metrics_.compute.observe(compute_us);
    }
    hand_back(turn, std::move(done));
  }
}

void Batcher::hand_back(uint64_t turn, Done done) {
  const auto answer = [](Done one) {
    for (JobPtr& job : one.jobs) finish(std::move(job), one.failure);
  };
  if (!facts_->config.preserve_ordering) return answer(std::move(done));
  std::unique_lock lock(mutex_);
  done_.emplace(turn, std::move(done));
  if (answering_) return;  // that thread goes on with these
  answering_ = true;
  for (auto next = done_.find(turn_); next != done_.end(); next = done_.find(turn_)) {
    Done first = std::move(done_.extract(next).mapped());
    ++turn_;
    lock.unlock();
    answer(std::move(first));
    lock.lock();
  }
  answering_ = false;
}

}  // namespace mpq::serve
