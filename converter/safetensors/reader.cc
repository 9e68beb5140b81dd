#include "converter/safetensors/reader.h"

#include <bit>
#include <cstring>

#include "converter/half.h"

namespace mpq::convert {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read as they lie");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

float load_half(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return half_to_float(bits);
}
float load_bfloat(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return bfloat16_to_float(bits);
}
float load_float(const std::byte* p) {
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
// NaN where the integer is no binary32 number.
float load_integer(const std::byte* p) {
  constexpr int64_t kExact = int64_t{1} << 24;
  int64_t value;
  std::memcpy(&value, p, sizeof value);
  return value < -kExact || value > kExact ? NAN : static_cast<float>(value);
}

struct Conversion {
  const char* type;
  size_t bytes;
  float (*load)(const std::byte*);
};
constexpr Conversion kConversions[] = {
    {"F32", 4, load_float},
    {"F16", 2, load_half},
    {"BF16", 2, load_bfloat},
    {"I64", 8, load_integer},
};

const Conversion* find_conversion(const std::string& type) {
  for (const Conversion& conversion : kConversions)
    if (type == conversion.type) return &conversion;
  return nullptr;
}

}  // namespace

Result<Safetensors> Safetensors::open(const std::string& path) {
  MPQ_TRY(data::File file, data::File::open(path));
  uint64_t header_bytes = 0;
  if (file.size() < sizeof header_bytes)
    return Error{Status::kCorrupt,
                 path + ": " + std::to_string(file.size()) + " bytes are no safetensors file"};
  MPQ_TRY(const std::vector<std::byte> length, file.read(0, sizeof header_bytes));
  std::memcpy(&header_bytes, length.data(), sizeof header_bytes);
  const uint64_t rest = file.size() - sizeof header_bytes;
  if (header_bytes > rest || header_bytes > kMaxHeaderBytes)
    return Error{Status::kCorrupt, path + ": no safetensors file: a header of " +
                                       std::to_string(header_bytes) + " bytes, the file has " +
                                       std::to_string(rest) + " after its length, the limit is " +
                                       std::to_string(kMaxHeaderBytes)};
  MPQ_TRY(const std::vector<std::byte> text, file.read(sizeof header_bytes, header_bytes));
  auto entries = parse_safetensors_header({reinterpret_cast<const char*>(text.data()), text.size()},
                                          rest - header_bytes);
  if (!entries.ok()) return Error{entries.error().code, path + ": " + entries.error().message};
  return Safetensors(path, std::move(file), sizeof header_bytes + header_bytes,
                     *std::move(entries));
}

Result<std::vector<float>> Safetensors::floats(const std::string& name, const Shape& shape) const {
  const std::string where = path_ + ": tensor " + quoted_tensor(name);
  const auto found = entries_.find(name);
  if (found == entries_.end())
    return Error{Status::kNotFound,
                 where + " is not among its " + std::to_string(entries_.size()) + " tensors"};
  const SafetensorsEntry& entry = found->second;
  if (entry.shape != shape)
    return Error{Status::kCorrupt,
                 where + ": shape " + to_string(entry.shape) + ", expected " + to_string(shape)};
  const Conversion* const conversion = find_conversion(entry.type);
  if (conversion == nullptr)
    return Error{
        Status::kUnsupported,
        where + ": type " + entry.type + " not in {F32, F16, BF16, I64}; store it as one of them"};
  MPQ_TRY(const std::vector<std::byte> bytes,
          file_.read(data_offset_ + entry.begin, entry.end - entry.begin));
  std::vector<float> values(bytes.size() / conversion->bytes);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = conversion->load(bytes.data() + i * conversion->bytes);
  if (conversion->load == load_integer)
    for (size_t i = 0; i < values.size(); ++i)
      if (std::isnan(values[i]))
        return Error{Status::kUnsupported,
                     where + ": integer " + std::to_string(i) + " is beyond 2^24, no exact float"};
  return values;
}

}  // namespace mpq::convert
