// Independent requests on one model: sessions that share its weights, each with threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/cli/engine.h"
#include "runtime/cli/inputs.h"

namespace mpq::cli {

// The inputs of one run, whole: copying them in is one call, as a program would do it.
struct Request {
  std::vector<std::vector<std::byte>> inputs;
  std::vector<Sample> sequences;  // of models of texts
};
// Samples in rotation, as whole batches; at least two, so that no run finds its data where the last
// one left it.
std::vector<Request> make_requests(const std::vector<Sample>& samples, uint32_t batch);

struct RunLimits {
  double seconds = 0.0;  // run for so long, and at least `least` times
  size_t least = 0;
  uint64_t runs = 0;  // not 0: exactly so many times
};

// Of all streams, in seconds.
struct StreamTimes {
  std::vector<double> compute, with_copies;  // a run; and with inputs copied in, outputs copied out
  double wall = 0.0;                         // from the first start to the last end
  size_t tokens = 0;
};

class Streams {
 public:
  // `count` sessions of `spec`; spec.threads of each, 0: the usable CPUs shared out.
  static Result<Streams> create(const Model& model, const SessionSpec& spec, uint32_t count,
                                const Args& args);

  const Session& session() const { return sessions_.front(); }
  double create_seconds() const { return create_seconds_; }
  uint64_t own_bytes() const;     // activations and scratch of all streams
  uint64_t shared_bytes() const;  // weights

  // All streams at once, each on a thread of its own; requests in rotation, every stream from
  // another one on. Ends early when interrupted.
  Result<StreamTimes> run(std::span<const Request> requests, const RunLimits& limits);

 private:
  std::vector<Session> sessions_;
  double create_seconds_ = 0.0;
};

}  // namespace mpq::cli
