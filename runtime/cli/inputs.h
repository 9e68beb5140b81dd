// Images, arrays, texts and random numbers as a model reads them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "converter/data/dataset.h"
#include "converter/data/image.h"
#include "runtime/cli/engine.h"
#include "runtime/cli/npy.h"

namespace mpq::cli {

// One batch element: the bytes of each input of the model, or, of a model of sequences, its tokens.
struct Sample {
  std::string name;
  std::vector<std::vector<std::byte>> inputs;
  std::vector<mpq_token> tokens;
};

// How images become bytes of input 0: u8 pixels as the model's preprocessing says. An error when
// the model does not read images.
class ImageReader {
 public:
  static Result<ImageReader> create(const Model& model);
  Result<Sample> read(std::span<const std::byte> encoded, const std::string& name) const;

 private:
  format::ImagePreprocess spec_;
};

// A file: an image is one sample; an .npy of shape [N, ...] is N.
Result<std::vector<Sample>> load_samples(const Model& model, const std::string& path);

// The same numbers for the same seed on every machine. tokens: of each sequence; 0: of different
// lengths.
std::vector<Sample> random_samples(const Model& model, size_t count, uint64_t seed,
                                   uint32_t tokens = 0);

// The files of --input, the images of --dataset, or random numbers if neither is given. Images of a
// data set are decoded when asked for.
class SampleSource {
 public:
  // At most `limit` samples of a data set (0: all), `random_count` random ones.
  static Result<SampleSource> create(const Model& model, const Args& args, size_t limit,
                                     size_t random_count, uint32_t random_tokens = 0);
  size_t size() const { return set_ ? count_ : samples_.size(); }
  int32_t label(size_t index) const { return set_ ? set_->samples()[index].label : -1; }
  Result<Sample> get(size_t index) const;  // thread-safe
  const data::ImageDataset* images() const { return set_ ? &*set_ : nullptr; }

 private:
  std::vector<Sample> samples_;
  std::optional<data::ImageDataset> set_;
  std::optional<ImageReader> reader_;
  size_t count_ = 0;
};

// The first `count` samples of such a source, all decoded.
Result<std::vector<Sample>> gather_samples(const Model& model, const Args& args, size_t count,
                                           uint32_t random_tokens = 0);

// --dataset, or what is named behind the model: `mpqrun MODEL --eval stsb:FILE`.
std::string dataset_of(const Args& args);

// Puts sample (first + position) modulo their number at each position of the session's batch.
Checked fill(Session* session, const std::vector<Sample>& samples, size_t first);

}  // namespace mpq::cli
