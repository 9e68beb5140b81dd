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
    : facts_(std::move(facts)), levels_(facts_->config.priority_levels) {}

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

bool Batcher::is_full() const {
  const uint32_t most = facts_->config.max_queue_size;
  return most != 0 && waiting_ >= most;
}

MaybeFailure Batcher::refusal() {
  const std::lock_guard lock(mutex_);
  return is_full() && !closed_ ? MaybeFailure(kFull) : std::nullopt;
}

bool Batcher::submit(JobPtr* job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    if (!is_full()) {
      waiting_ += 1;
      waiting_samples_ += (*job)->samples;
      waiting_tokens_ += (*job)->ids.size();
      metrics_.pending.store(waiting_);
      levels_[(*job)->priority - 1].push_back(std::move(*job));
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

// Requests whose time is over, or whose client is gone, leave the queue without being computed.
void Batcher::drop_dead(Clock::time_point now, std::vector<JobPtr>* dead) {
  const bool reject = facts_->config.timeout_action == TimeoutAction::kReject;
  for (std::deque<JobPtr>& level : levels_) {
    const auto alive = [&](const JobPtr& job) {
      return !job->cancelled->load() && (!reject || job->deadline > now);
    };
    const auto first = std::stable_partition(level.begin(), level.end(), alive);
    for (auto it = first; it != level.end(); ++it) {
      waiting_ -= 1;
      waiting_samples_ -= (*it)->samples;
      waiting_tokens_ -= (*it)->ids.size();
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
  return waiting_samples_ >= facts_->config.max_batch_size ||
         (facts_->sequences() && waiting_tokens_ >= facts_->max_tokens);
}

Clock::time_point Batcher::oldest() const {
  Clock::time_point oldest = Clock::time_point::max();
  for (const auto& level : levels_)
    for (const JobPtr& job : level) oldest = std::min(oldest, job->arrived);
  return oldest;
}

std::vector<JobPtr> Batcher::take(Clock::time_point now) {
  std::vector<JobPtr> batch;
  size_t samples = 0, tokens = 0;
  for (auto& level : levels_)
    while (!level.empty()) {
      Job& job = *level.front();
      if (samples + job.samples > facts_->config.max_batch_size ||
          (facts_->sequences() && tokens + job.ids.size() > facts_->max_tokens))
        return batch;
      samples += job.samples;
      tokens += job.ids.size();
      waiting_ -= 1;
      waiting_samples_ -= job.samples;
      waiting_tokens_ -= job.ids.size();
      job.queue_us = us_between(job.arrived, now);
      batch.push_back(std::move(level.front()));
      level.pop_front();
    }
  return batch;
}

void Batcher::serve(Instance* instance) {
  const std::chrono::microseconds delay(facts_->config.max_queue_delay_us);
  for (;;) {
    std::vector<JobPtr> dead, batch;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || waiting_ != 0; });
      Clock::time_point now = Clock::now();
      drop_dead(now, &dead);
      if (delay.count() != 0) {
        while (!closed_ && waiting_ != 0 && !is_full_batch() && now < oldest() + delay) {
          changed_.wait_until(lock, oldest() + delay);
          now = Clock::now();
          drop_dead(now, &dead);
        }
      }
      batch = take(now);
      metrics_.pending.store(waiting_);
      if (closed_ && batch.empty() && dead.empty() && waiting_ == 0) return;
    }
    for (JobPtr& job : dead)
      finish(std::move(job), job->cancelled->load()
                                 ? Failure{499, "the client is gone"}
                                 : Failure{504, "the time in the queue is over"});
    if (batch.empty()) continue;
    const Clock::time_point start = Clock::now();
    MaybeFailure failure;
    try {
      metrics_.runs.fetch_add(instance->run(batch));
    } catch (const StatusError& error) {
      failure = Failure{500, error.what()};
    } catch (const std::bad_alloc&) {
      failure = Failure{500, "out of memory"};
    }
    const uint64_t compute_us = us_between(start, Clock::now());
    size_t samples = 0;
    for (const JobPtr& job : batch) samples += job->samples;
    metrics_.samples.fetch_add(samples);
    metrics_.batch.observe(samples);
    for (JobPtr& job : batch) {
      job->compute_us = compute_us;
      metrics_.queue.observe(job->queue_us);
      metrics_.compute.observe(compute_us);
      finish(std::move(job), failure);
    }
  }
}

}  // namespace mpq::serve
