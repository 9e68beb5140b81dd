#include "converter/data/idx.h"

#include <filesystem>
#include <string_view>

#include "converter/data/gzip.h"
#include "converter/data/read_file.h"

namespace mpq::data {
namespace {

constexpr std::string_view kImages = "images-idx3-ubyte", kLabels = "labels-idx1-ubyte";

Result<std::vector<std::byte>> unpacked(const std::string& path) {
  MPQ_TRY(std::vector<std::byte> bytes, read_file(path));
  if (!is_gzip(bytes)) return bytes;
  return gunzip(path, bytes, kMaxFileBytes);
}

// Extents of an array of unsigned bytes: magic 0 0 8 RANK, then RANK big-endian counts.
Result<std::vector<uint32_t>> header(const std::string& path, const std::vector<std::byte>& bytes,
                                     size_t rank) {
  const auto byte = [&](size_t i) { return std::to_integer<uint32_t>(bytes[i]); };
  if (bytes.size() < 4 * (rank + 1) || byte(0) != 0 || byte(1) != 0 || byte(2) != 8 ||
      byte(3) != rank)
    return Error{Status::kCorrupt,
                 path + ": no IDX file of bytes with " + std::to_string(rank) + " extents"};
  std::vector<uint32_t> extents;
  uint64_t total = 1;
  for (size_t i = 4; i < 4 * (rank + 1); i += 4) {
    extents.push_back(byte(i) << 24 | byte(i + 1) << 16 | byte(i + 2) << 8 | byte(i + 3));
    if (extents.back() == 0 || total > kMaxFileBytes / extents.back())
      return Error{Status::kCorrupt, path + ": empty, or larger than any such file"};
    total *= extents.back();
  }
  if (total != bytes.size() - 4 * (rank + 1))
    return Error{Status::kCorrupt, path + ": " + std::to_string(bytes.size()) +
                                       " bytes, the extents ask for " +
                                       std::to_string(total + 4 * (rank + 1))};
  return extents;
}

}  // namespace

bool is_idx(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.ends_with(kImages) || name.ends_with(std::string(kImages) + ".gz");
}

Result<IdxImages> read_idx(const std::string& path) {
  MPQ_TRY(const std::vector<std::byte> bytes, unpacked(path));
  MPQ_TRY(const std::vector<uint32_t> extents, header(path, bytes, 3));
  IdxImages images;
  images.height = extents[1];
  images.width = extents[2];
  images.pixels.assign(bytes.begin() + 16, bytes.end());
  std::string beside = path;
  beside.replace(beside.rfind(kImages), kImages.size(), kLabels);
  std::error_code ignored;
  if (!std::filesystem::exists(beside, ignored)) return images;
  MPQ_TRY(const std::vector<std::byte> labels, unpacked(beside));
  MPQ_TRY(const std::vector<uint32_t> count, header(beside, labels, 1));
  if (count[0] != images.count())
    return Error{Status::kCorrupt, beside + ": " + std::to_string(count[0]) + " labels for " +
                                       std::to_string(images.count()) + " images"};
  for (size_t i = 8; i < labels.size(); ++i)
    images.labels.push_back(std::to_integer<uint8_t>(labels[i]));
  return images;
}

}  // namespace mpq::data
