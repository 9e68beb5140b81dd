// From the body of an infer request to a job, and from a finished job to the body of the answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "integrations/server/facts.h"
#include "integrations/server/job.h"

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

/// Reads job->body: JSON of json_bytes, then binary tensors; 0 bytes of JSON: the whole body is the
/// one input. Sets everything of the job but `done` and times of arrival.
MaybeFailure read_request(const Facts& facts, size_t json_bytes, Job* job, Wanted* wanted);

struct Answer {
  std::string body;
  std::optional<size_t> json_bytes;  // when binary tensors follow the JSON
};
Answer write_answer(const Facts& facts, const Wanted& wanted, const Job& job);

}  // namespace mpq::serve
