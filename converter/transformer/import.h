// Folders that Hugging Face's tools write (config.json, model.safetensors, and what
// sentence-transformers adds): BERT and MPNet encoders as graphs.
#pragma once

#include <string>
#include <vector>

#include "converter/graph.h"
#include "converter/transformer/config.h"

namespace mpq::convert::transformer {

inline constexpr char kWeightsFile[] = "model.safetensors";

struct ImportOptions {
  size_t max_tokens = 0;  // longest sequence; 0: as the folder says
  // To train a classifier: it takes the place of pooling or head, with random weights where the
  // folder has none of its shape. 0: none.
  size_t classes = 0;
  uint64_t seed = 1;  // of those weights
};

struct ImportedEncoder {
  Graph graph;  // inputs: ids, and types where the model has them
  EncoderConfig config;
  std::vector<std::string> notes;
};

// A folder with config.json and model.safetensors.
bool looks_like_encoder(const std::string& folder);

// Outputs: a pooled embedding (a row a sequence) where sentence-transformers pools; the logits of a
// classification (a row a sequence) or of start and end (a row a token) with such a head; else the
// hidden states (a row a token). Names are those of the file's tensors, without their prefix.
Result<ImportedEncoder> import_encoder(const std::string& folder, const ImportOptions& options);

}  // namespace mpq::convert::transformer
