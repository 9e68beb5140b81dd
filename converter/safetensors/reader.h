// safetensors files: named tensors, each read from the file when it is asked for.
#pragma once

#include <string>
#include <vector>

#include "converter/data/read_file.h"
#include "converter/safetensors/header.h"

namespace mpq::convert {

class Safetensors {
 public:
  static Result<Safetensors> open(const std::string& path);

  const SafetensorsHeader& entries() const { return entries_; }
  // Row-major, converted exactly from F32, F16, BF16 or I64. An error when the file has no such
  // tensor, or has it in another shape. Thread-safe.
  Result<std::vector<float>> floats(const std::string& name, const Shape& shape) const;

 private:
  Safetensors(std::string path, data::File file, uint64_t data_offset, SafetensorsHeader entries)
      : path_(std::move(path)),
        file_(std::move(file)),
        data_offset_(data_offset),
        entries_(std::move(entries)) {}

  std::string path_;
  data::File file_;
  uint64_t data_offset_;
  SafetensorsHeader entries_;
};

}  // namespace mpq::convert
