// The files of NVIDIA's integer ResNet releases (MLPerf Inference v0.5, open division): one text
// descriptor per layer in model/NAME, raw little-endian tensors in model/npdata/FILE.
//
//   Conv2d
//   stride=2:1 1
//   weight=s4,4:64 64 1 1
//   !model/npdata/layer1_0_conv1.weight
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "format/status.h"
#include "format/types.h"

namespace mpq::convert::nvidia {

struct RawTensor {
  std::string type;  // "s4", "s8", "s16", "u16", "s32" or "f32"
  Shape shape;
  std::vector<std::byte> bytes;  // row-major, little-endian; s4: low nibble first

  uint64_t elements() const;
  std::vector<int32_t> integers() const;  // of an integer type
  std::vector<float> floats() const;      // of f32
};

struct Descriptor {
  std::string name, type;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<std::pair<std::string, RawTensor>> tensors;

  // Each error names the layer and the key.
  Result<std::string> text(const std::string& key) const;
  Result<int64_t> integer(const std::string& key) const;
  Result<std::vector<int64_t>> integers(const std::string& key) const;  // "2:7 7"
  Result<const RawTensor*> tensor(const std::string& key, const std::string& type,
                                  const Shape& shape) const;
};

// A release unpacked into a folder.
class Source {
 public:
  // `path`: the folder that holds model/, model/ itself, or a folder with exactly one such folder.
  static Result<Source> open(const std::string& path);
  // Reads one descriptor and all its tensors; sizes are checked against the stated shapes.
  Result<Descriptor> read(const std::string& name) const;
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

// True when Source::open would find a release there; reads one line only.
bool looks_like_release(const std::string& path);

}  // namespace mpq::convert::nvidia
