// What quantisation did, layer by layer, for people and for programs.
#pragma once

#include <string>

#include "converter/passes/quantize.h"

namespace mpq::convert {

// A table: bits, bytes, step and zero point of the input, signal-to-noise ratios in dB; totals.
std::string report_text(const PtqReport& report);

// The same as JSON: {"schema_version":1, "layers":[{"name":...}], "output_sqnr_db":...}.
std::string report_json(const PtqReport& report);

}  // namespace mpq::convert
