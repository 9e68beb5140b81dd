#include "integrations/server/tensor.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace mpq::serve {

namespace {

constexpr size_t kMaxRank = 8, kMaxName = 255;
constexpr uint64_t kMaxElements = uint64_t{1} << 26;

// Appends one JSON number as T; false when it is none, or does not fit.
using Append = bool (*)(const Json&, std::vector<std::byte>*);

template <typename T>
bool append(const Json& number, std::vector<std::byte>* bytes) {
  T value{};
  if constexpr (std::is_floating_point_v<T>) {
    if (!number.is_number()) return false;
    value = static_cast<T>(number.get<double>());
    if (!std::isfinite(value)) return false;
  } else if (number.is_number_unsigned()) {
    const auto wide = number.get<uint64_t>();
    if (wide > static_cast<uint64_t>(std::numeric_limits<T>::max())) return false;
    value = static_cast<T>(wide);
  } else if (number.is_number_integer()) {
    const auto wide = number.get<int64_t>();
    if (wide >= 0 || std::is_unsigned_v<T> ||
        wide < static_cast<int64_t>(std::numeric_limits<T>::min()))
      return false;
    value = static_cast<T>(wide);
  } else {
    return false;
  }
  const size_t old = bytes->size();
  bytes->resize(old + sizeof value);
  std::memcpy(bytes->data() + old, &value, sizeof value);
  return true;
}

template <typename T>
void print(const std::byte* bytes, std::string* text) {
  T value{};
  std::memcpy(&value, bytes, sizeof value);
  char digits[32];
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {
      *text += "null";
      return;
    }
  }
  text->append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

struct Datatype {
  std::string_view name;
  size_t bytes;
  Append append;
  void (*print)(const std::byte*, std::string*);
};
constexpr Datatype kDatatypes[] = {
    {"FP32", 4, append<float>, print<float>},
    {"UINT8", 1, append<uint8_t>, print<uint8_t>},
    {"INT8", 1, append<int8_t>, print<int8_t>},
    {"INT32", 4, append<int32_t>, print<int32_t>},
    {"INT64", 8, append<int64_t>, print<int64_t>},
    {"FP64", 8, append<double>, print<double>},
    {"UINT16", 2, append<uint16_t>, print<uint16_t>},
    {"INT16", 2, append<int16_t>, print<int16_t>},
    {"UINT32", 4, append<uint32_t>, print<uint32_t>},
    {"UINT64", 8, append<uint64_t>, print<uint64_t>},
};

const Datatype* find(std::string_view name) {
  for (const Datatype& type : kDatatypes)
    if (type.name == name) return &type;
  return nullptr;
}

Failure bad(const WireTensor& tensor, const std::string& what) {
  return {400, "input " + tensor.name + ": " + what};
}

// Calls take for every leaf of nested arrays; false at once when it says so. Depth was checked.
template <typename F>
bool each_leaf(const Json& json, const F& take) {
  if (!json.is_array()) return take(json);
  for (const Json& part : json)
    if (!each_leaf(part, take)) return false;
  return true;
}

}  // namespace

size_t element_bytes(std::string_view datatype) {
  const Datatype* const type = find(datatype);
  return type == nullptr ? 0 : type->bytes;
}

MaybeFailure describe(std::string_view name, std::string_view datatype,
                      std::span<const int64_t> shape, WireTensor* tensor) {
  if (name.empty() || name.size() > kMaxName) return Failure{400, "an input has no name"};
  tensor->name = name;
  if (datatype != "BYTES" && find(datatype) == nullptr)
    return bad(*tensor, "no datatype, or not one that is taken here");
  tensor->datatype = datatype;
  if (shape.size() > kMaxRank) return bad(*tensor, "shape is no list of at most 8");
  tensor->shape.assign(shape.begin(), shape.end());
  tensor->elements = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || static_cast<uint64_t>(dimension) > kMaxElements)
      return bad(*tensor, "a dimension is not in 0 to 2^26");
    tensor->elements *= static_cast<uint64_t>(dimension);  // both below 2^27
    if (tensor->elements > kMaxElements) return bad(*tensor, "more than 2^26 elements");
  }
  return std::nullopt;
}

MaybeFailure set_raw(std::string_view raw, WireTensor* tensor) {
  tensor->binary = true;
  tensor->raw = raw;
  const size_t bytes = element_bytes(tensor->datatype);
  if (bytes != 0 && raw.size() != tensor->elements * bytes)
    return bad(*tensor, std::to_string(raw.size()) + " bytes, expected " +
                            std::to_string(tensor->elements * bytes));
  return std::nullopt;
}

MaybeFailure read_tensor(Json* json, std::string_view* rest, WireTensor* tensor) {
  const auto text = [json](const char* key) -> std::string_view {
    const auto found = json->find(key);
    const auto* const value = found == json->end() ? nullptr : found->get_ptr<const std::string*>();
    return value == nullptr ? std::string_view() : *value;
  };
  if (!json->is_object()) return Failure{400, "an input is no object"};
  const Json dimensions = json->value("shape", Json());
  std::vector<int64_t> shape;
  constexpr int64_t kNone = -1;
  if (!dimensions.is_array()) return Failure{400, "an input has no shape"};
  for (const Json& dimension : dimensions)
    shape.push_back(dimension.is_number_unsigned() && dimension.get<uint64_t>() <= INT64_MAX
                        ? dimension.get<int64_t>()
                        : kNone);
  if (MaybeFailure failure = describe(text("name"), text("datatype"), shape, tensor))
    return failure;

  const Json parameters = json->value("parameters", Json::object());
  const bool has_data = json->contains("data");
  if (parameters.is_object() && parameters.contains("binary_data_size")) {
    const Json& size = parameters["binary_data_size"];
    if (has_data) return bad(*tensor, "both data and binary_data_size");
    if (!size.is_number_unsigned() || size.get<uint64_t>() > rest->size())
      return bad(*tensor, "binary_data_size is more than the body has");
    const std::string_view raw = rest->substr(0, size.get<uint64_t>());
    rest->remove_prefix(raw.size());
    return set_raw(raw, tensor);
  }
  if (!has_data) return bad(*tensor, "neither data nor binary_data_size");
  tensor->data = std::move((*json)["data"]);
  return std::nullopt;
}

MaybeFailure elements_of(const WireTensor& tensor, std::vector<std::byte>* bytes) {
  if (tensor.binary) {
    const auto* const first = reinterpret_cast<const std::byte*>(tensor.raw.data());
    bytes->assign(first, first + tensor.raw.size());
    return std::nullopt;
  }
  const Datatype& type = *find(tensor.datatype);
  const uint64_t expected = tensor.elements * type.bytes;
  bytes->reserve(expected);
  const bool fits = each_leaf(tensor.data, [&](const Json& leaf) {
    return bytes->size() < expected && type.append(leaf, bytes);
  });
  if (!fits || bytes->size() != expected)
    return bad(tensor,
               "data is not " + std::to_string(tensor.elements) + " numbers of " + tensor.datatype);
  return std::nullopt;
}

MaybeFailure texts_of(const WireTensor& tensor, std::vector<std::string_view>* texts) {
  if (tensor.datatype != "BYTES") return bad(tensor, tensor.datatype + ", expected BYTES");
  bool whole = true;
  if (tensor.binary) {
    std::string_view rest = tensor.raw;
    while (whole && !rest.empty()) {
      uint32_t size = 0;
      whole = rest.size() >= sizeof size;
      if (!whole) break;
      std::memcpy(&size, rest.data(), sizeof size);
      rest.remove_prefix(sizeof size);
      whole = size <= rest.size() && texts->size() < tensor.elements;
      if (!whole) break;
      texts->push_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
  } else {
    whole = each_leaf(tensor.data, [&](const Json& leaf) {
      const auto* const text = leaf.get_ptr<const std::string*>();
      if (text == nullptr || texts->size() >= tensor.elements) return false;
      texts->push_back(*text);
      return true;
    });
  }
  if (!whole || texts->size() != tensor.elements)
    return bad(tensor, "data is not " + std::to_string(tensor.elements) + " elements of BYTES");
  return std::nullopt;
}

MaybeFailure ids_of(const WireTensor& tensor, std::vector<int32_t>* ids) {
  if (tensor.datatype != "INT32" && tensor.datatype != "INT64")
    return bad(tensor, tensor.datatype + ", expected INT64 or INT32");
  std::vector<std::byte> bytes;
  if (MaybeFailure failure = elements_of(tensor, &bytes)) return failure;
  const size_t size = element_bytes(tensor.datatype);
  ids->resize(tensor.elements);
  for (size_t i = 0; i < ids->size(); ++i) {
    int64_t wide = 0;
    if (size == sizeof wide) {
      std::memcpy(&wide, bytes.data() + i * size, size);
      if (wide < INT32_MIN || wide > INT32_MAX) return bad(tensor, "an id of more than 32 bits");
      (*ids)[i] = static_cast<int32_t>(wide);
    } else {
      std::memcpy(&(*ids)[i], bytes.data() + i * size, size);
    }
  }
  return std::nullopt;
}

void print_elements(std::string_view datatype, const std::byte* bytes, uint64_t elements,
                    std::string* text) {
  const Datatype& type = *find(datatype);
  *text += '[';
  for (uint64_t i = 0; i < elements; ++i) {
    if (i != 0) *text += ',';
    type.print(bytes + i * type.bytes, text);
  }
  *text += ']';
}

}  // namespace mpq::serve
