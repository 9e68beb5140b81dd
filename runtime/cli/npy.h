// NumPy's .npy (read, write) and .npz (write): how arrays come and go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::cli {

enum class ArrayType : uint8_t { kF32, kF64, kS32, kS64, kU8, kS8 };
size_t size_of(ArrayType type);

struct Array {
  ArrayType type = ArrayType::kF32;
  std::vector<uint64_t> shape;
  std::vector<std::byte> data;  // row-major, little-endian

  uint64_t elements() const;
  double at(uint64_t index) const;
};

Result<Array> read_npy(const std::string& path);
Checked write_npy(const std::string& path, const Array& array);
// Stored, not compressed: what np.load reads.
Checked write_npz(const std::string& path,
                  const std::vector<std::pair<std::string, Array>>& arrays);

// All of `bytes`, or an error that names the path; "-" is stdout.
Checked write_file(const std::string& path, std::span<const std::byte> bytes);
Checked write_file(const std::string& path, const std::string& text);

}  // namespace mpq::cli
