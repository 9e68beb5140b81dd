// A model version of Triton's: its file, and its configuration with what the file says filled in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "integrations/server/facts.h"
#include "integrations/triton/triton_api.h"

namespace mpq::triton {

/// Immutable; shared by the instances.
struct Network {
  std::shared_ptr<const serve::Facts> facts;
  bool batching = true;  // the first dimension of tensors is the batch: max_batch_size > 0
  uint32_t threads = 1;  // of an instance
};

/// Opens VERSION/model.fb (or default_model_filename) and completes the configuration. Throws.
std::unique_ptr<Network> load_network(TRITONBACKEND_Model* model);

/// Inputs and outputs as Triton's configuration has them. Models of sequences take texts or ids, as
/// mpqserve does: all optional, lengths may differ within a batch.
serve::Json inputs_of(const serve::Facts& facts);
serve::Json outputs_of(const serve::Facts& facts);

}  // namespace mpq::triton
