// The sessions of one instance, and how a batch of requests goes through them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "integrations/server/facts.h"
#include "integrations/server/job.h"

namespace mpq::serve {

/// Models of sequences have one session for any number of sequences. Others have one for each power
/// of two up to max_batch_size, all on the same weights: seven samples run as 4 + 2 + 1. Outputs do
/// not depend on that: every sample's bytes are those of a run by itself. One thread at a time.
class Instance {
 public:
  /// Throws StatusError.
  Instance(std::shared_ptr<const Facts> facts, uint32_t threads);
  /// Writes the outputs of all jobs. Throws StatusError. Returns the number of runs.
  uint32_t run(std::span<const JobPtr> jobs);
  /// Activations and scratch of all sessions; weights, which all instances share.
  uint64_t private_bytes() const { return private_bytes_; }
  uint64_t weight_bytes() const { return weight_bytes_; }

 private:
  void run_sequences(std::span<const JobPtr> jobs);
  uint32_t run_samples(std::span<const JobPtr> jobs);

  std::shared_ptr<const Facts> facts_;
  std::vector<Session> sessions_;  // the largest batch first
  uint64_t private_bytes_ = 0, weight_bytes_ = 0;
  std::vector<int32_t> ids_, types_;
  std::vector<uint32_t> lengths_;
};

}  // namespace mpq::serve
