// ONNX -> Graph. Float models as torchvision, timm and the ONNX zoo export them, and quantised
// ones: QuantizeLinear/DequantizeLinear at 8, 4 and 2 bit (also with Clip), QONNX Quant, and LSQ
// written as Div, Clip, Round, Mul; BERT, MPNet and their kin as graphs of sequences (sequence.h).
// The file is untrusted: sizes, paths and structure are checked.
#pragma once

#include <string>
#include <vector>

#include "converter/graph.h"

namespace onnx {
class ModelProto;
}

namespace mpq::convert {

struct ImportOptions {
  Shape input_shape;          // NCHW; empty: as the model says. The batch is always taken as 1
  uint32_t max_tokens = 0;    // longest sequence, of a graph of sequences; 0: as the model says
  uint32_t most_tokens = 0;   // where max_tokens and the model leave it open; 0: no limit
  bool external_data = true;  // allow weights in other files of the model's folder
  uint64_t max_file_bytes = uint64_t{2} << 30;
  uint64_t max_tensor_elements = uint64_t{1} << 30;
  int max_nodes = 100000;
  int max_initializers = 100000;
  int max_attributes = 256;           // of one node
  int max_attribute_items = 1 << 20;  // numbers in one attribute
  int max_depth = 64;                 // of nested messages
};

struct ImportedModel {
  Graph graph;                     // passes check()
  std::vector<std::string> notes;  // what was changed or dropped, for the user
};

// A model that cannot be imported gives one error that lists each offending node with its operator,
// the reason and the remedy.
Result<ImportedModel> import_onnx(const std::string& path, const ImportOptions& options = {});

// The same for a model in memory; external data lies in `folder`.
Result<ImportedModel> import_onnx(const onnx::ModelProto& model, const std::string& folder,
                                  const ImportOptions& options = {});

}  // namespace mpq::convert
