#include <span>

#include "converter/onnx/importer.h"

namespace mpq::convert {
namespace {

struct DomainRow {
  const char* domain;
  std::span<const OpRow> (*tables[4])();
};

// com.microsoft has its own Quantize/Dequantize nodes with the same meaning; the other three are
// QONNX's domain and its two predecessors.
constexpr DomainRow kDomains[] = {
    {"", {layer_ops, shape_ops, arithmetic_ops, quantisation_ops}},
    {"ai.onnx", {layer_ops, shape_ops, arithmetic_ops, quantisation_ops}},
    {"com.microsoft", {quantisation_ops}},
    {"qonnx.custom_op.general", {quantisation_ops}},
    {"onnx.brevitas", {quantisation_ops}},
    {"finn.custom_op.general", {quantisation_ops}},
};

}  // namespace

OpFunction find_op(const std::string& domain, const std::string& op_type) {
  for (const DomainRow& row : kDomains) {
    if (domain != row.domain) continue;
    for (const auto table : row.tables) {
      if (table == nullptr) continue;
      for (const OpRow& op : table())
        if (op_type == op.op_type) return op.import;
    }
  }
  return nullptr;
}

}  // namespace mpq::convert
