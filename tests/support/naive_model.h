// What a model means, written a second time: plain loops over row-major tensors, from the numerics
// page and format/model.h alone. Shares no code with the kernels or the planner.
#pragma once

#include <cstddef>
#include <vector>

#include "format/model.h"

namespace mpq::test {

// Row-major; codes and sums in ints, floats in reals.
struct NaiveTensor {
  std::vector<int64_t> ints;
  std::vector<float> reals;
};

// Every tensor of the model for a batch of 1. Inputs as at the API: f32, or one byte a code.
std::vector<NaiveTensor> naive_run(const format::Model& model,
                                   const std::vector<std::vector<std::byte>>& inputs);

// The same of a sequence model, for sequences one behind the other; types may be empty. The rows of
// each tensor are those of the run.
std::vector<NaiveTensor> naive_run(const format::Model& model, const std::vector<int32_t>& ids,
                                   const std::vector<int32_t>& types,
                                   const std::vector<uint32_t>& lengths);

// A tensor as at the API.
std::vector<std::byte> api_bytes(const format::Tensor& tensor, const NaiveTensor& value);

}  // namespace mpq::test
