// What is known of a model version once it is loaded; immutable, shared by its requests.
#pragma once

#include <cstdint>
#include <memory>
#include <mpq.hpp>
#include <optional>
#include <string>
#include <vector>

#include "integrations/server/config.h"

namespace mpq::serve {

/// The bytes of a model file, at a 64-byte boundary: the library borrows them there.
class FileBytes {
 public:
  void resize(size_t size) {
    lines_.resize((size + sizeof(Line) - 1) / sizeof(Line));
    size_ = size;
  }
  std::span<std::byte> bytes() { return {reinterpret_cast<std::byte*>(lines_.data()), size_}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  size_t size_ = 0;
};

struct TensorFacts {
  std::string name;
  std::string datatype;  // of the protocol: "UINT8"
  size_t element_bytes = 1;
  std::vector<int64_t> shape;  // of one sample, without the batch
  size_t sample_bytes = 0;     // of one sample; of sequence models: of one row
  bool per_token = false;      // sequence models: a row a token; else a row a sequence
};

struct Facts {
  std::string name, version;
  ModelConfig config;
  FileBytes file;  // outlives `model`, which borrows it
  Model model;
  std::vector<TensorFacts> inputs, outputs;
  std::vector<std::string> labels;
  std::optional<mpq_image_preprocess> image;
  uint32_t sequence_length = 0;  // 0: no sequences
  bool takes_text = false;
  uint32_t max_tokens = 0;  // of one run
  bool takes_types = false;

  bool sequences() const { return sequence_length != 0; }
  /// The largest body of a request that can be right.
  uint64_t body_limit() const;
};

/// Opens and inspects a model; on failure nullptr and *why.
std::shared_ptr<const Facts> load_facts(const std::string& name, const std::string& version,
                                        const ModelConfig& config, FileBytes file,
                                        std::string* why);

}  // namespace mpq::serve
