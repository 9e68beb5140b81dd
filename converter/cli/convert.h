// The convert verb: what was asked, and one function per kind of input.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "converter/cli/command.h"
#include "converter/lower.h"

namespace mpq::convert::cli {

struct ConvertRequest {
  std::string input, output;
  std::string labels;  // file or image set; empty: none
  bool accumulators = false;
};

// What a front door hands to the common end of the verb.
struct Converted {
  LoweredModel lowered;
  std::vector<std::string> summary;  // lines for the user
};

Result<Converted> convert_nvidia(const ConvertRequest& request, nlohmann::ordered_json* report);

}  // namespace mpq::convert::cli
