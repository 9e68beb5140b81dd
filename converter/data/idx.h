// Labelled images in the IDX files of MNIST and its successors (Fashion-MNIST, ...), plain or
// gzipped: "...-images-idx3-ubyte[.gz]" with "...-labels-idx1-ubyte[.gz]" beside it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::data {

struct IdxImages {
  uint32_t width = 0, height = 0;
  std::vector<std::byte> pixels;  // grey, one image after another
  std::vector<uint8_t> labels;    // empty when there is no file of labels
  size_t count() const { return pixels.size() / (size_t{width} * height); }
};

// By the name; the content is checked by read_idx.
bool is_idx(const std::string& path);
Result<IdxImages> read_idx(const std::string& path);

}  // namespace mpq::data
