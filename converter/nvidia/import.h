// NVIDIA's trained W4A4 ResNet-50 v1.5 -> a model that computes the same integers. The release
// states the network in integers (multiply, add half, shift); a file of ours requantises in
// binary32 FMA, and the import proves channel by channel that both give the same code for every
// reachable accumulator.
#pragma once

#include <string>
#include <vector>

#include "converter/lower.h"
#include "format/status.h"

namespace mpq::convert::nvidia {

struct ImportOptions {
  bool accumulators = false;        // s32 accumulators of the classifier instead of f32 logits
  std::vector<std::string> labels;  // class names; may be empty
};

// What was proved about one requantisation.
struct LayerProof {
  std::string layer;
  uint32_t channels = 0;
  uint64_t thresholds = 0;          // checked, over all channels
  uint32_t differing_channels = 0;  // channels where some reachable accumulator gets another code
};

struct Imported {
  LoweredModel lowered;
  std::vector<LayerProof> proofs;
};

Result<Imported> import_release(const std::string& path, const ImportOptions& options = {});

}  // namespace mpq::convert::nvidia
