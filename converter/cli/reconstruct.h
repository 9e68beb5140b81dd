// The verb reconstruct: what was asked, for networks of images and of texts.
#pragma once

#include <string>

#include "converter/cli/command.h"
#include "converter/cli/network.h"
#include "converter/train/reconstruct.h"
#include "converter/train/whole.h"

namespace mpq::convert::cli {

struct ReconstructRequest {
  std::string input, output, onnx, start, calib, map = "uniform:4", cost_table,
                                                 preset = "torchvision-v1";
  uint32_t samples = 1024, ptq_samples = 128;
  bool crop_only_small = false;
  NetworkOptions network;
  train::ReconstructOptions options;  // of blocks; batch, seed and optimizer of the rest, too
  train::WholeOptions whole;          // recipe.steps 0: blocks only
};

Checked reconstruct_texts(const ReconstructRequest& request, Network network, const Global& global);

}  // namespace mpq::convert::cli
