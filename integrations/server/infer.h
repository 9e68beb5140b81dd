// From an infer request to a job, and from a finished job to the answer.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "integrations/server/facts.h"
#include "integrations/server/job.h"
#include "integrations/server/tensor.h"

namespace mpq::serve {

/// What the client wants back.
struct Wanted {
  struct Output {
    size_t index = 0;
    bool binary = false;
    uint32_t classes = 0;  // the so many largest, as "value:index:label"; 0: the numbers
  };
  std::string id;
  std::vector<Output> outputs;
  uint32_t sequence_rows = 0;  // rows of each sequence in outputs of tokens; 0: the longest one
};

// An infer request is a head and tensors, whatever carries it. All of these leave `done` and the
// time of arrival of a job alone.

/// The keys "id", "parameters" and "outputs" of a request in JSON. binary: for outputs that do not
/// say.
MaybeFailure read_head(const Facts& facts, const Json& head, bool binary, Job* job, Wanted* wanted);
/// The inputs. Numbers of binary tensors are not copied: job->source holds them.
MaybeFailure read_inputs(const Facts& facts, const std::vector<WireTensor>& tensors, Job* job,
                         Wanted* wanted);
/// Over HTTP: json_bytes of JSON, then binary tensors; 0 bytes of JSON: the whole body is the one
/// input.
MaybeFailure read_body(const Facts& facts, std::string_view body, size_t json_bytes, Job* job,
                       Wanted* wanted);

/// An output as it was asked for.
struct Result {
  std::string name, datatype;
  std::vector<int64_t> shape;
  bool binary = false;
  size_t element_bytes = 0;          // 0: BYTES
  std::span<const std::byte> bytes;  // of the job, or `filled`
  std::vector<std::byte> filled;
  std::vector<std::string> texts;  // of BYTES
  /// Appends the elements as the protocol's binary form has them: raw_bytes() of them.
  void append_to(std::string* raw) const;
  size_t raw_bytes() const;
};
std::vector<Result> results_of(const Facts& facts, const Wanted& wanted, const Job& job);

/// The body of an answer over HTTP.
struct Answer {
  std::string body;
  std::optional<size_t> json_bytes;  // when binary tensors follow the JSON
};
Answer write_body(const Facts& facts, const Wanted& wanted, const Job& job);

}  // namespace mpq::serve
