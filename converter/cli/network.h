// ONNX files and folders of encoders as graphs that are ready to be quantised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert::cli {

struct Network {
  Graph graph;  // float passes have run
  std::vector<std::string> notes;
  std::string source_sha256;
  // Of a network of texts.
  std::string tokenizer;            // the folder that has its tokeniser
  std::vector<std::string> labels;  // by class
  bool is_quantised = false;        // brings quantisers or codes along, perhaps not everywhere
  bool takes_texts() const { return graph.sequence_length != 0; }
  size_t words() const;  // rows of the table of words
};

struct NetworkOptions {
  std::string input_shape;  // "1,3,224,224"; empty: as the model says
  uint32_t max_tokens = 0;  // of a network of texts; 0: as the model says
  uint32_t classes = 0;   // of an encoder that becomes a classifier by training; 0: it is as it is
  uint64_t seed = 1;      // of that classifier's first weights
  std::string tokenizer;  // folder; empty: the model's, or the one that the ONNX file lies in
  bool keep_batch_norm = false;  // leave it unfolded: for training
  std::string dump_after;        // name of a pass, "import", or "all": prints the graph to stdout
};

Result<Network> load_network(const std::string& path, const NetworkOptions& options = {});

}  // namespace mpq::convert::cli
