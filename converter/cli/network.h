// ONNX files and folders of encoders as graphs that are ready to be quantised.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/transformer/config.h"

namespace mpq::convert::cli {

struct Network {
  Graph graph;  // float passes have run
  std::vector<std::string> notes;
  std::string source_sha256;
  std::optional<transformer::EncoderConfig> encoder;  // of such a folder
  bool is_quantised = false;  // brings quantisers or codes along, perhaps not everywhere
};

struct NetworkOptions {
  std::string input_shape;  // "1,3,224,224"; empty: as the model says
  uint32_t max_tokens = 0;  // of an encoder; 0: as the folder says
  std::string dump_after;   // name of a pass, "import", or "all": prints the graph to stdout
};

Result<Network> load_network(const std::string& path, const NetworkOptions& options = {});

}  // namespace mpq::convert::cli
