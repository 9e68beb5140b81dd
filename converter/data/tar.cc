#include "converter/data/tar.h"

#include <algorithm>
#include <string_view>

namespace mpq::data {

namespace {

constexpr uint64_t kBlock = 512;
constexpr uint64_t kMaxNameBytes = 1 << 16;

using Bytes = std::vector<std::byte>;

// A header field: up to the first NUL.
std::string_view text(const Bytes& header, size_t offset, size_t size) {
  const std::string_view field(reinterpret_cast<const char*>(header.data()) + offset, size);
  return field.substr(0, field.find('\0'));
}

// Octal digits with spaces around them, or big-endian binary when the top bit is set (GNU, large
// files).
bool number(const Bytes& header, size_t offset, size_t size, uint64_t* value) {
  *value = 0;
  if ((header[offset] & std::byte{0x80}) != std::byte{0}) {
    for (size_t i = 0; i < size; ++i) {
      if (*value >> 55 != 0) return false;
      const auto byte = std::to_integer<uint8_t>(header[offset + i]);
      *value = *value << 8 | (i == 0 ? byte & 0x7FU : byte);
    }
    return true;
  }
  std::string_view digits = text(header, offset, size);
  while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
  for (const char c : digits) {
    if (c < '0' || c > '7') return false;
    *value = *value * 8 + static_cast<uint64_t>(c - '0');
  }
  return !digits.empty();
}

// Sum of the header's bytes with the checksum field read as spaces.
bool checksum_ok(const Bytes& header) {
  constexpr size_t kField = 148, kFieldSize = 8;
  uint64_t stated = 0, sum = kFieldSize * ' ';
  for (size_t i = 0; i < kBlock; ++i)
    if (i < kField || i >= kField + kFieldSize) sum += std::to_integer<uint64_t>(header[i]);
  return number(header, kField, kFieldSize, &stated) && stated == sum;
}

// The value of "path" in a pax header, whose records are "<length> <key>=<value>\n".
std::string pax_path(std::string_view records) {
  constexpr std::string_view kKey = " path=";
  const size_t at = records.find(kKey);
  if (at == std::string_view::npos) return "";
  const std::string_view value = records.substr(at + kKey.size());
  return std::string(value.substr(0, value.find('\n')));
}

std::string header_path(const Bytes& header) {
  const std::string name(text(header, 0, 100));
  const std::string prefix(text(header, 257, 5) == "ustar" ? text(header, 345, 155) : "");
  return prefix.empty() ? name : prefix + "/" + name;
}

const char* compression(const Bytes& header) {
  struct Magic {
    std::string_view bytes;
    const char* name;
  };
  constexpr Magic kMagics[] = {{"\x1f\x8b", "gzip"},
                               {"\xfd"
                                "7zXZ",
                                "xz"},
                               {"BZh", "bzip2"},
                               {"\x28\xb5\x2f\xfd", "zstd"}};
  for (const Magic& magic : kMagics)
    if (text(header, 0, magic.bytes.size()) == magic.bytes) return magic.name;
  return nullptr;
}

// An archive in memory, read as a File is.
class Memory {
 public:
  explicit Memory(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size() const { return bytes_.size(); }
  Result<Bytes> read(uint64_t offset, uint64_t size) const {  // inside the archive
    const auto part = bytes_.subspan(offset, size);
    return Bytes(part.begin(), part.end());
  }

 private:
  std::span<const std::byte> bytes_;
};

template <typename Source>
Result<std::vector<TarMember>> list(const std::string& path, const Source& file) {
  std::vector<TarMember> members;
  std::string long_name;  // of the next member
  for (uint64_t at = 0; at + kBlock <= file.size();) {
    MPQ_TRY(const Bytes header, file.read(at, kBlock));
    if (std::all_of(header.begin(), header.end(), [](std::byte b) { return b == std::byte{0}; }))
      return members;  // the end mark
    const std::string where = path + ": tar header at " + std::to_string(at) + ": ";
    if (at == 0 && compression(header) != nullptr)
      return Error{Status::kUnsupported,
                   path + ": " + compression(header) + " archive; unpack it first"};
    uint64_t size = 0;
    if (!checksum_ok(header)) return Error{Status::kCorrupt, where + "checksum mismatch"};
    if (!number(header, 124, 12, &size)) return Error{Status::kCorrupt, where + "bad size field"};
    const uint64_t data = at + kBlock;
    if (size > file.size() - data)
      return Error{Status::kCorrupt,
                   where + "member of " + std::to_string(size) + " bytes exceeds the file"};

    const char type = static_cast<char>(header[156]);
    if (type == 'L' || type == 'x') {
      if (size > kMaxNameBytes)
        return Error{Status::kLimit, where + "name of " + std::to_string(size) + " bytes"};
      MPQ_TRY(const Bytes record, file.read(data, size));
      const std::string_view value(reinterpret_cast<const char*>(record.data()), record.size());
      long_name = type == 'x' ? pax_path(value) : std::string(value.substr(0, value.find('\0')));
    } else {
      std::string name = long_name.empty() ? header_path(header) : long_name;
      long_name.clear();
      if (name.starts_with("./")) name.erase(0, 2);
      if (type == '0' || type == '\0') members.push_back({std::move(name), data, size});
    }
    at = data + (size + kBlock - 1) / kBlock * kBlock;
  }
  return Error{Status::kCorrupt, path + ": not a tar file, or truncated: no end mark"};
}

}  // namespace

Result<std::vector<TarMember>> list_tar(const std::string& path) {
  MPQ_TRY(const File file, File::open(path));
  return list(path, file);
}

Result<std::vector<TarMember>> list_tar(const std::string& name, std::span<const std::byte> bytes) {
  return list(name, Memory(bytes));
}

}  // namespace mpq::data
