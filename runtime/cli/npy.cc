#include "runtime/cli/npy.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "converter/data/read_file.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

struct TypeName {
  ArrayType type;
  const char* text;
  size_t size;
};

constexpr TypeName kTypes[] = {{ArrayType::kF32, "<f4", 4}, {ArrayType::kF64, "<f8", 8},
                               {ArrayType::kS32, "<i4", 4}, {ArrayType::kS64, "<i8", 8},
                               {ArrayType::kU8, "|u1", 1},  {ArrayType::kS8, "|i1", 1}};

constexpr std::string_view kMagic = "\x93NUMPY";

// The text after 'key': in the header's Python dictionary.
std::string_view field(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  return at == std::string_view::npos ? "" : trim(header.substr(at + key.size()));
}

template <typename T>
double load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return static_cast<double>(value);
}

std::vector<std::byte> encode(const Array& array) {
  std::string shape;
  for (const uint64_t side : array.shape) shape += std::to_string(side) + ", ";
  std::string header = std::string("{'descr': '") + kTypes[static_cast<size_t>(array.type)].text +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
  constexpr size_t kPrefix = 10, kAlign = 64;
  header.append(kAlign - (kPrefix + header.size() + 1) % kAlign, ' ');
  header += '\n';
  std::string prefix(kMagic);
  prefix += '\1';
  prefix += '\0';
  prefix += static_cast<char>(header.size() & 255);
  prefix += static_cast<char>(header.size() >> 8);
  prefix += header;
  std::vector<std::byte> bytes(prefix.size());
  std::memcpy(bytes.data(), prefix.data(), prefix.size());
  bytes.insert(bytes.end(), array.data.begin(), array.data.end());
  return bytes;
}

uint32_t crc32(std::span<const std::byte> bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit)
        table[i] = table[i] >> 1 ^ (0xEDB88320U & (0U - (table[i] & 1)));
    }
    return table;
  }();
  uint32_t crc = ~0U;
  for (const std::byte byte : bytes)
    crc = crc >> 8 ^ kTable[(crc ^ std::to_integer<uint32_t>(byte)) & 255];
  return ~crc;
}

class ZipWriter {
 public:
  // The fields that the local header and the central directory share: versions, flags, method
  // (stored), time (1 January 1980), CRC, sizes, name length, extra length.
  void add(const std::string& name, std::span<const std::byte> data) {
    const auto size = static_cast<uint32_t>(data.size());
    std::string common;
    put(&common, 2, {20, 0, 0, 0, 0x21});
    put(&common, 4, {crc32(data), size, size});
    put(&common, 2, {static_cast<uint32_t>(name.size()), 0});
    put(&directory_, 4, {0x02014B50});
    put(&directory_, 2, {20});
    directory_ += common;
    put(&directory_, 2, {0, 0, 0});
    put(&directory_, 4, {0, static_cast<uint32_t>(bytes_.size())});
    directory_ += name;
    put(&bytes_, 4, {0x04034B50});
    bytes_ += common + name;
    bytes_.append(reinterpret_cast<const char*>(data.data()), data.size());
    ++count_;
  }
  std::string finish() {
    const auto start = static_cast<uint32_t>(bytes_.size());
    const auto size = static_cast<uint32_t>(directory_.size());
    bytes_ += directory_;
    put(&bytes_, 4, {0x06054B50});
    put(&bytes_, 2, {0, 0, count_, count_});
    put(&bytes_, 4, {size, start});
    put(&bytes_, 2, {0});
    return std::move(bytes_);
  }

 private:
  static void put(std::string* out, size_t width, std::initializer_list<uint32_t> values) {
    for (const uint32_t value : values)
      for (size_t i = 0; i < width; ++i) *out += static_cast<char>(value >> (8 * i) & 255);
  }
  std::string bytes_, directory_;
  uint32_t count_ = 0;
};

}  // namespace

size_t size_of(ArrayType type) { return kTypes[static_cast<size_t>(type)].size; }

uint64_t Array::elements() const { return data.size() / size_of(type); }

double Array::at(uint64_t index) const {
  using Load = double (*)(const std::byte*);
  constexpr Load kLoad[] = {load<float>,   load<double>,  load<int32_t>,
                            load<int64_t>, load<uint8_t>, load<int8_t>};
  return kLoad[static_cast<size_t>(type)](data.data() + index * size_of(type));
}

Result<Array> read_npy(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{4} << 30;
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path, kMaxBytes));
  const auto bad = [&path](const std::string& what) {
    return Error{Status::kCorrupt, path + ": " + what};
  };
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < 12 || !text.starts_with(kMagic)) return bad("not an .npy file");
  const auto byte = [&text](size_t i) {
    return static_cast<size_t>(static_cast<uint8_t>(text[i]));
  };
  const bool long_header = byte(6) >= 2;
  const size_t start = long_header ? 12 : 10;
  const size_t length =
      byte(8) | byte(9) << 8 | (long_header ? byte(10) << 16 | byte(11) << 24 : 0);
  if (length > text.size() - start) return bad("truncated header");
  const std::string_view header = text.substr(start, length);

  Array array;
  bool known = false;
  for (const TypeName& row : kTypes)
    if (field(header, "'descr':").starts_with(std::string("'") + row.text + "'")) {
      array.type = row.type;
      known = true;
    }
  if (!known)
    return Error{Status::kUnsupported, path + ": element type " +
                                           std::string(field(header, "'descr':").substr(0, 6)) +
                                           " (f4, f8, i4, i8, u1 and i1 are read)"};
  if (!field(header, "'fortran_order':").starts_with("False"))
    return Error{Status::kUnsupported, path + ": Fortran order"};
  const std::string_view shape = field(header, "'shape':");
  const size_t close = shape.find(')');
  if (!shape.starts_with("(") || close == std::string_view::npos) return bad("no shape");
  uint64_t elements = 1;
  for (const std::string& part : split(shape.substr(1, close - 1), ',')) {
    if (trim(part).empty()) continue;
    uint64_t side = 0;
    for (const char c : trim(part)) {
      if (c < '0' || c > '9' || side > bytes.size()) return bad("bad shape");
      side = side * 10 + static_cast<uint64_t>(c - '0');
    }
    if (side != 0 && elements > bytes.size() / side) return bad("shape exceeds the file");
    elements *= side;
    array.shape.push_back(side);
  }
  const size_t data_bytes = bytes.size() - start - length;
  if (data_bytes != elements * size_of(array.type))
    return bad(format("%zu bytes of data, its shape needs %llu", data_bytes,
                      static_cast<unsigned long long>(elements * size_of(array.type))));
  array.data.assign(bytes.begin() + static_cast<ptrdiff_t>(start + length), bytes.end());
  return array;
}

Checked write_npy(const std::string& path, const Array& array) {
  return write_file(path, encode(array));
}

Checked write_npz(const std::string& path,
                  const std::vector<std::pair<std::string, Array>>& arrays) {
  ZipWriter zip;
  uint64_t total = 0;
  for (const auto& [name, array] : arrays) {
    total += array.data.size() + 1024;
    if (total > UINT32_MAX) return Error{Status::kLimit, path + ": more than 4 GiB; use .npy"};
    zip.add(name + ".npy", encode(array));
  }
  return write_file(path, zip.finish());
}

Checked write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::FILE* const file = path == "-" ? stdout : std::fopen(path.c_str(), "wb");
  if (file == nullptr) return Error{Status::kIo, path + ": " + std::strerror(errno)};
  bool ok = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  ok = std::fflush(file) == 0 && ok;
  const std::string reason = ok ? "" : std::strerror(errno);
  if (file != stdout) ok = std::fclose(file) == 0 && ok;
  if (!ok) return Error{Status::kIo, path + ": " + reason};
  return Ok{};
}

Checked write_file(const std::string& path, const std::string& text) {
  return write_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace mpq::cli
