// safetensors files of binary32.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "format/status.h"
#include "format/types.h"

namespace mpq::convert {

struct NamedTensor {
  std::string name;
  Shape shape;
  std::span<const float> data;
};

// The bytes of a file. It says that its tensors are PyTorch's, which Hugging Face's tools ask for.
std::vector<std::byte> write_safetensors(const std::vector<NamedTensor>& tensors);

}  // namespace mpq::convert
