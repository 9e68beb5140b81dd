// Preprocessing presets, and calibration images as a network takes them.
#pragma once

#include <string>
#include <vector>

#include "format/model.h"
#include "format/status.h"

namespace mpq::convert::cli {

std::vector<std::string> preset_names();
std::string preset_help();  // a line each

// A preset for images of one input shape (NCHW). kInvalidArgument for an unknown name.
Result<format::ImagePreprocess> preset(const std::string& name, const Shape& input,
                                       bool crop_only_small);

struct Calibration {
  std::vector<float> samples;  // NCHW, one after another
  uint32_t count = 0;
};

// `count` images of a set, chosen by the seed; fewer when the set has fewer.
Result<Calibration> load_calibration(const std::string& path, uint32_t count, uint64_t seed,
                                     const format::ImagePreprocess& spec, bool quiet);

}  // namespace mpq::convert::cli
