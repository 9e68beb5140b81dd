// Folders (or uncompressed tar files) of labelled images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::data {

struct Sample {
  std::string path;    // file, or member of the archive
  int32_t label = -1;  // -1: unknown
};

// A folder or .tar with `labels.txt` (`path, class` or `path class` a line; paths relative to it, or
// a folder per class in sorted order when there is none), or a plain folder of images (no labels).
class ImageDataset {
 public:
  static Result<ImageDataset> open(const std::string& path);
  const std::vector<Sample>& samples() const { return samples_; }
  const std::vector<std::string>& class_names() const { return class_names_; }  // may be empty
  Result<std::vector<std::byte>> read(size_t index) const;                      // encoded bytes

 private:
  struct Extent { uint64_t offset = 0, size = 0; };
  std::string root_;
  bool is_tar_ = false;
  std::vector<Extent> extents_;  // tar: where each sample's bytes are
  std::vector<Sample> samples_;
  std::vector<std::string> class_names_;
};

}  // namespace mpq::data
