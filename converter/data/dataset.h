// Folders (or uncompressed tar files) of labelled images.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "converter/data/idx.h"
#include "converter/data/tar.h"
#include "format/status.h"

namespace mpq::data {

struct Sample {
  std::string path;    // file, or member of the archive; relative to the images' folder
  int32_t label = -1;  // -1: unknown
};

// A file of MNIST's kind (idx.h); or a folder or .tar (read in place) with `labels.txt`: `path,
// class`, `path class` or `path class name` a line, paths relative to it, samples in its order.
// Without it: a folder per class in sorted order, or one folder of images (no labels). Class names
// come from `synset_words.txt`, `classes.txt` or `class_names.txt` beside the labels, from the
// labels themselves, or from the folders. Listed paths are looked up among the files found, so none
// can lead out of the folder.
class ImageDataset {
 public:
  static Result<ImageDataset> open(const std::string& path);
  const std::vector<Sample>& samples() const { return samples_; }
  const std::vector<std::string>& class_names() const { return class_names_; }  // may be empty
  Result<std::vector<std::byte>> read(size_t index) const;  // encoded bytes; thread-safe

 private:
  struct Source;
  Checked load_labels(const Source& source);
  Checked load_folders(const Source& source);
  static Result<ImageDataset> open_idx(const std::string& path);
  void add_sample(const TarMember& file, const std::string& path, int32_t label);
  Result<std::vector<std::byte>> read_member(const TarMember& file) const;

  std::string root_;
  bool is_tar_ = false;
  std::shared_ptr<const IdxImages> idx_;  // shared by copies of the set
  std::vector<TarMember> files_;          // of each sample; extents mean something in a tar only
  std::vector<Sample> samples_;
  std::vector<std::string> class_names_;
};

}  // namespace mpq::data
