// The table of operators, in enum order.

#include <array>

#include "runtime/ops/op.h"

namespace mpq::runtime {
namespace {

using format::OpCode;

constexpr std::array kOps = {
    OpDef{OpCode::kImageQuantize, plan_image_quantize, nullptr},
    OpDef{OpCode::kQuantize, plan_quantize, nullptr},
    OpDef{OpCode::kConv2d, plan_conv2d, conv2d_halo},
    OpDef{OpCode::kLinear, plan_linear, nullptr},
    OpDef{OpCode::kMaxPool, plan_max_pool, nullptr},
    OpDef{OpCode::kAvgPool, plan_avg_pool, nullptr},
    OpDef{OpCode::kAdd, plan_add, nullptr},
    OpDef{OpCode::kEmbedding, plan_embedding, nullptr},
    OpDef{OpCode::kLayerNorm, plan_layer_norm, nullptr},
    OpDef{OpCode::kAttention, plan_attention, nullptr},
    OpDef{OpCode::kSequencePool, plan_sequence_pool, nullptr},
};

constexpr bool in_enum_order() {
  for (size_t i = 0; i < kOps.size(); ++i)
    if (static_cast<size_t>(kOps[i].code) != i) return false;
  return true;
}
static_assert(kOps.size() == format::kOpCodeCount && in_enum_order(), "an operator is missing");

}  // namespace

const OpDef& op_def(format::OpCode code) { return kOps[static_cast<size_t>(code)]; }

}  // namespace mpq::runtime
