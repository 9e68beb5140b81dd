// What a layer costs at a precision.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "converter/precision/groups.h"

namespace mpq::convert::precision {

struct Bits {
  int weight = 8, activation = 8;  // activation: of the layer's input
  auto operator<=>(const Bits&) const = default;
};
std::string to_string(Bits bits);  // "4", or "4/8" when they differ
Result<Bits> parse_bits(const std::string& text);

enum class CostModel { kBmac, kBops, kBytes, kLatency, kEnergy };
const char* to_string(CostModel model);  // "bmac", "bops", "bytes", "latency", "energy"
bool parse_cost_model(const std::string& text, CostModel*);

// Measured or stated costs: layer name (or "*" for every MAC) -> precision -> cost. Latencies are
// nanoseconds of the layer; energies are per layer, or per MAC in the row "*".
using CostTable = std::map<std::string, std::map<Bits, double>>;

//   bmac   MACs * bits (the wider of the two; the method gives both one precision)
//   bops   MACs * weight bits * activation bits
//   bytes  weights * weight bits / 8
// Latency and energy come from the table; the error names the layer and the precision it lacks.
Result<double> layer_cost(const Layer& layer, Bits bits, CostModel model,
                          const CostTable& table = {});

// {"schema_version": 1, "layers": {"conv1": {"8": 1200.5, "4/8": 800}}}
Result<CostTable> parse_cost_table(const std::string& json);

// Per-layer times of `mpqrun MODEL --profile --json`, added to the table under the bits that it
// states.
Checked add_profile(const std::string& json, CostTable* table);

}  // namespace mpq::convert::precision
