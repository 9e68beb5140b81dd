// Residual networks for small images (He et al., arXiv 1512.03385, section 4.2), with batch norm.
#pragma once

#include <cstdint>
#include <string>

#include "converter/graph.h"
#include "converter/torch/checkpoint.h"

namespace mpq::convert::train {

struct ResnetSpec {
  uint32_t blocks = 3;  // a stage; 6 blocks + 2 layers: 3 is ResNet-20
  uint32_t width = 16;  // channels of the first stage
  uint32_t side = 32;   // of the images
  uint32_t classes = 10;
};

// "resnet20", "resnet8", ...: 6 n + 2 layers.
Result<ResnetSpec> resnet_by_name(const std::string& name);

// Three stages of basic blocks; a stage that halves the image projects its shortcut by a 1x1
// convolution, which at first picks every other pixel and puts new channels of 0 around the old
// ones. Other weights are normal numbers of He's deviation.
Graph make_resnet(const ResnetSpec& spec, uint64_t seed);

// Weights under PyTorch's usual names: conv1, bn1, layer1.0.conv1, ..., linear or fc. The names may
// have the prefix "module.".
Checked load_weights(const Checkpoint& checkpoint, Graph* graph);

}  // namespace mpq::convert::train
