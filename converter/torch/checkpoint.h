// PyTorch checkpoints (the stream format of torch.save before 1.6): named tensors, nothing
// executed.
#pragma once

#include <map>

#include "converter/torch/pickle.h"
#include "format/types.h"

namespace mpq::convert {

struct CheckpointTensor {
  Shape shape;
  std::vector<float> data;  // row-major; integers and halves converted, exactly
};
using Checkpoint = std::map<std::string, CheckpointTensor>;

// The tensors of a state dict, or of the state dict under "state_dict".
Result<Checkpoint> read_checkpoint(std::span<const std::byte> file);

}  // namespace mpq::convert
