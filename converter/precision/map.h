// Precision maps as JSON: what people read, edit, keep beside a model and give back.
//
//   {"schema_version": 1, "method": "eagl", "cost_model": "bmac", ..., "budget": 0.75,
//    "layers": [{"name": "conv1", "weight_bits": 8, "activation_bits": 8, "group": 0}, ...],
//    "groups": [{"id": 0, "gain": 3.1, "cost_high": 1, "cost_low": 1, "fixed": true}, ...]}
#pragma once

#include <string>
#include <vector>

#include "converter/precision/cost.h"
#include "converter/precision/groups.h"
#include "format/model.h"

namespace mpq::convert::precision {

using format::PrecisionMap;

std::string print_map(const PrecisionMap& map);  // a layer a line; the same map gives the same text
// Only "schema_version" and "layers" are needed; an unknown key is an error that suggests the right
// one.
Result<PrecisionMap> parse_map(const std::string& json);

// Sets the precision of layers by name or, with the prefix "re:", by regular expression (whole
// name). Returns how many; none is an error with the nearest name. Marks the map as edited by hand.
Result<size_t> set_bits(PrecisionMap* map, const std::string& pattern, Bits bits);

struct MapDifference {
  std::string layer;
  std::string left, right;  // "8", "4/8", or "-" where the layer is absent
};
std::vector<MapDifference> diff_maps(const PrecisionMap& left, const PrecisionMap& right);

// The map fits the network: every layer once, no other name (the error suggests the nearest one),
// linked layers with one activation width. A map is complete or refused.
Checked validate_map(const PrecisionMap& map, const Selection& selection);

// Widths in {2, 4, 8}, no name twice, linked layers agree, groups exist.
Checked validate_map(const PrecisionMap& map);

}  // namespace mpq::convert::precision
