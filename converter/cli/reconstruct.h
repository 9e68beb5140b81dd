// The verb reconstruct: what was asked, for networks of images and of texts.
#pragma once

#include <string>

#include "converter/cli/command.h"
#include "converter/cli/network.h"
#include "converter/train/reconstruct.h"

namespace mpq::convert::cli {

struct ReconstructRequest {
  std::string input, output, onnx, start, calib, map = "uniform:4", cost_table,
                                                 preset = "torchvision-v1";
  uint32_t samples = 1024, ptq_samples = 128;
  bool crop_only_small = false;
  float hidden_share = 0.5F;
  NetworkOptions network;
  train::ReconstructOptions options;
};

Checked reconstruct_texts(const ReconstructRequest& request, Network network, const Global& global);

}  // namespace mpq::convert::cli
