// Figures of nodes that plan and API share.
#pragma once

#include <cstdint>

#include "format/model.h"

namespace mpq::runtime {

// Elements of the node's weights; 0 when it has none.
uint64_t weight_count(const format::Model&, const format::Node&);
uint32_t weight_bits(const format::Model&, const format::Node&);
// Multiply-accumulates for a batch of 1; saturates.
uint64_t node_macs(const format::Model&, const format::Node&);

}  // namespace mpq::runtime
