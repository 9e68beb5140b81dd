#include "integrations/server/instance.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace mpq::serve {

namespace {

// One sample of a job.
struct Sample {
  Job* job;
  size_t index;
};

}  // namespace

Instance::Instance(std::shared_ptr<const Facts> facts, uint32_t threads)
    : facts_(std::move(facts)) {
  SessionOptions options{.batch = facts_->config.max_batch_size, .threads = threads};
  if (!facts_->config.isa.empty()) options.isa = facts_->config.isa.c_str();
  if (facts_->sequences()) {
    options.max_tokens = facts_->max_tokens;
    sessions_.emplace_back(facts_->model, options);
  } else {
    for (uint32_t batch = std::bit_floor(options.batch); batch != 0; batch /= 2) {
      options.batch = batch;
      sessions_.emplace_back(facts_->model, options);
    }
  }
  for (const Session& session : sessions_) {
    const mpq_memory_info memory = session.memory();
    private_bytes_ += memory.activations + memory.scratch;
    weight_bytes_ = std::max(weight_bytes_, memory.weights);
  }
}

uint32_t Instance::run(std::span<const JobPtr> jobs) {
  for (const JobPtr& job : jobs) job->outputs.resize(facts_->outputs.size());
  if (!facts_->sequences()) return run_samples(jobs);
  run_sequences(jobs);
  return 1;
}

void Instance::run_sequences(std::span<const JobPtr> jobs) {
  Session& session = sessions_[0];
  ids_.clear();
  types_.clear();
  lengths_.clear();
  for (const JobPtr& job : jobs) {
    ids_.insert(ids_.end(), job->ids.begin(), job->ids.end());
    types_.insert(types_.end(), job->types.begin(), job->types.end());
    lengths_.insert(lengths_.end(), job->lengths.begin(), job->lengths.end());
  }
  session.set_sequences(ids_, types_, lengths_);
  session.run();
  for (size_t o = 0; o < facts_->outputs.size(); ++o) {
    const TensorFacts& output = facts_->outputs[o];
    const std::span<const std::byte> rows = session.output<std::byte>(o);
    size_t first = 0;
    for (const JobPtr& job : jobs) {
      const size_t count = output.per_token ? job->ids.size() : job->lengths.size();
      const auto part = rows.subspan(first * output.sample_bytes, count * output.sample_bytes);
      job->outputs[o].assign(part.begin(), part.end());
      first += count;
    }
  }
}

uint32_t Instance::run_samples(std::span<const JobPtr> jobs) {
  std::vector<Sample> samples;
  for (const JobPtr& job : jobs) {
    for (size_t i = 0; i < job->samples; ++i) samples.push_back({job.get(), i});
    for (size_t o = 0; o < facts_->outputs.size(); ++o)
      job->outputs[o].resize(job->samples * facts_->outputs[o].sample_bytes);
  }
  uint32_t runs = 0;
  std::span<const Sample> rest(samples);
  for (Session& session : sessions_) {
    const size_t batch = session.batch();
    for (; rest.size() >= batch; rest = rest.subspan(batch), ++runs) {
      for (size_t i = 0; i < facts_->inputs.size(); ++i) {
        const size_t bytes = facts_->inputs[i].sample_bytes;
        const std::span<std::byte> input = session.input<std::byte>(i);
        for (size_t s = 0; s < batch; ++s)
          std::memcpy(&input[s * bytes], &rest[s].job->inputs[i][rest[s].index * bytes], bytes);
      }
      session.run();
      for (size_t o = 0; o < facts_->outputs.size(); ++o) {
        const size_t bytes = facts_->outputs[o].sample_bytes;
        const std::span<const std::byte> output = session.output<std::byte>(o);
        for (size_t s = 0; s < batch; ++s)
          std::memcpy(&rest[s].job->outputs[o][rest[s].index * bytes], &output[s * bytes], bytes);
      }
    }
  }
  return runs;
}

}  // namespace mpq::serve
