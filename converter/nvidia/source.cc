#include "converter/nvidia/source.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "format/bits.h"

namespace mpq::convert::nvidia {
namespace {

namespace fs = std::filesystem;
static_assert(std::endian::native == std::endian::little, "tensors are read as they lie");

constexpr char kRootType[] = "ResNetQuantized";
constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 30;

struct ElementType {
  const char* name;
  int bits;
};
constexpr ElementType kElementTypes[] = {{"s4", 4},   {"s8", 8},   {"s16", 16},
                                         {"u16", 16}, {"s32", 32}, {"f32", 32}};

const ElementType* find_type(const std::string& name) {
  for (const ElementType& type : kElementTypes)
    if (name == type.name) return &type;
  return nullptr;
}

std::optional<int64_t> parse_integer(const std::string& text) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

// "4:64 3 7 7": the count, then so many numbers.
std::optional<std::vector<int64_t>> parse_list(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  const auto count = parse_integer(text.substr(0, colon));
  std::vector<int64_t> values;
  std::istringstream words(text.substr(colon + 1));
  for (std::string word; words >> word;) {
    const auto value = parse_integer(word);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  if (!count || values.size() != static_cast<size_t>(*count)) return std::nullopt;
  return values;
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) return {};
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

bool is_root(const fs::path& folder) { return first_line(folder / "model" / "model") == kRootType; }

std::optional<fs::path> find_root(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return std::nullopt;
  if (is_root(path)) return path;
  const fs::path inner = path.has_filename() ? path : path.parent_path();  // "model/" as "model"
  if (first_line(inner / "model") == kRootType) return fs::absolute(inner, ignored).parent_path();
  std::optional<fs::path> only;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (!entry.is_directory(ignored) || !is_root(entry.path())) continue;
    if (only) return std::nullopt;  // two releases: the user says which
    only = entry.path();
  }
  return only;
}

Result<RawTensor> read_tensor(const std::string& root, const std::string& where,
                              const std::string& type_and_shape, const std::string& file) {
  const auto corrupt = [&](const std::string& what) {
    return Error{Status::kCorrupt, where + ": " + what};
  };
  const size_t comma = type_and_shape.find(',');
  RawTensor tensor;
  tensor.type = type_and_shape.substr(0, comma);
  const ElementType* const type = find_type(tensor.type);
  if (type == nullptr) return corrupt("unknown element type '" + tensor.type + "'");
  auto shape = parse_list(type_and_shape.substr(comma + 1));
  if (!shape) return corrupt("malformed shape '" + type_and_shape + "'");
  tensor.shape = std::move(*shape);
  uint64_t elements = 0;
  if (!checked_elements(tensor.shape, &elements) || elements > kMaxTensorBytes)
    return corrupt("shape " + to_string(tensor.shape) + " is out of range");

  const fs::path relative(file);
  if (relative.is_absolute()) return corrupt("tensor path '" + file + "' is absolute");
  for (const auto& part : relative)
    if (part == "..") return corrupt("tensor path '" + file + "' leaves the folder");
  const fs::path path = fs::path(root) / relative;
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{Status::kIo, where + ": cannot open " + path.string()};
  const uint64_t expected = format::packed_bytes(elements, type->bits);
  std::error_code error;
  const uint64_t actual = fs::file_size(path, error);
  if (error || actual != expected)
    return corrupt(path.string() + " has " + std::to_string(actual) + " bytes, " + tensor.type +
                   " " + to_string(tensor.shape) + " needs " + std::to_string(expected));
  tensor.bytes.resize(actual);
  in.read(reinterpret_cast<char*>(tensor.bytes.data()), static_cast<std::streamsize>(actual));
  if (!in) return Error{Status::kIo, where + ": cannot read " + path.string()};
  return tensor;
}

}  // namespace

uint64_t RawTensor::elements() const {
  uint64_t count = 0;
  return checked_elements(shape, &count) ? count : 0;
}

std::vector<int32_t> RawTensor::integers() const {
  std::vector<int32_t> values(elements());
  const auto widen = [&]<typename T>(T) {
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = static_cast<int32_t>(value);
    }
  };
  if (type == "s4") {
    for (size_t i = 0; i < values.size(); ++i) values[i] = format::get_code(bytes, i, 4, true);
  } else if (type == "s8") {
    widen(int8_t{});
  } else if (type == "s16") {
    widen(int16_t{});
  } else if (type == "u16") {
    widen(uint16_t{});
  } else {
    widen(int32_t{});
  }
  return values;
}

std::vector<float> RawTensor::floats() const {
  std::vector<float> values(elements());
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Result<std::string> Descriptor::text(const std::string& key) const {
  for (const auto& [name_of, value] : attributes)
    if (name_of == key) return value;
  return Error{Status::kCorrupt, name + ": " + type + " has no '" + key + "'"};
}

Result<int64_t> Descriptor::integer(const std::string& key) const {
  MPQ_TRY(const std::string value, text(key));
  const auto number = parse_integer(value);
  if (!number) return Error{Status::kCorrupt, name + ": '" + key + "=" + value + "' is no integer"};
  return *number;
}

Result<std::vector<int64_t>> Descriptor::integers(const std::string& key) const {
  MPQ_TRY(const std::string value, text(key));
  auto numbers = parse_list(value);
  if (!numbers)
    return Error{Status::kCorrupt, name + ": '" + key + "=" + value + "' is no list of integers"};
  return *std::move(numbers);
}

Result<const RawTensor*> Descriptor::tensor(const std::string& key, const std::string& type_name,
                                            const Shape& shape) const {
  for (const auto& [name_of, value] : tensors) {
    if (name_of != key) continue;
    if (value.type != type_name || value.shape != shape)
      return Error{Status::kCorrupt, name + ": '" + key + "' is " + value.type + " " +
                                         to_string(value.shape) + ", expected " + type_name + " " +
                                         to_string(shape)};
    return &value;
  }
  return Error{Status::kCorrupt, name + ": " + type + " has no tensor '" + key + "'"};
}

bool looks_like_release(const std::string& path) { return find_root(path).has_value(); }

Result<Source> Source::open(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return Error{Status::kIo, path + ": no such file or folder"};
  const auto root = find_root(path);
  if (!root)
    return Error{
        Status::kCorrupt,
        path + ": no folder with model/model of type " + kRootType +
            (fs::is_directory(path, ignored) ? "" : "; unpack the archive and give the folder")};
  Source source;
  source.root_ = root->string();
  return source;
}

Result<Descriptor> Source::read(const std::string& name) const {
  const fs::path path = fs::path(root_) / "model" / name;
  std::ifstream in(path);
  if (!in) return Error{Status::kIo, "cannot open " + path.string()};
  Descriptor descriptor;
  descriptor.name = name;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    if (descriptor.type.empty()) {
      descriptor.type = line;
    } else if (line.front() == '!') {
      if (descriptor.attributes.empty())
        return Error{Status::kCorrupt, path.string() + ": tensor file without a key"};
      auto [key, value] = std::move(descriptor.attributes.back());
      descriptor.attributes.pop_back();
      MPQ_TRY(RawTensor tensor, read_tensor(root_, name + ": " + key, value, line.substr(1)));
      descriptor.tensors.emplace_back(std::move(key), std::move(tensor));
    } else {
      const size_t equals = line.find('=');
      if (equals == std::string::npos)
        return Error{Status::kCorrupt, path.string() + ": line '" + line + "' is not key=value"};
      descriptor.attributes.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    }
  }
  if (descriptor.type.empty()) return Error{Status::kCorrupt, path.string() + ": empty descriptor"};
  return descriptor;
}

}  // namespace mpq::convert::nvidia
