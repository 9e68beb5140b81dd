#include "converter/onnx/tensor.h"

#include <onnx/onnx_pb.h>

#include <bit>
#include <charconv>
#include <cstring>

#include "converter/half.h"
#include "converter/onnx/external_data.h"
#include "format/bits.h"

namespace mpq::convert {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

constexpr ElementInfo kElements[] = {
    {kFloat, "FLOAT", 32, false, true},       {kUint8, "UINT8", 8, true, false},
    {kInt8, "INT8", 8, true, true},           {kUint16, "UINT16", 16, true, false},
    {kInt16, "INT16", 16, true, true},        {kInt32, "INT32", 32, true, true},
    {kInt64, "INT64", 64, true, true},        {kBool, "BOOL", 8, true, false},
    {kFloat16, "FLOAT16", 16, false, true},   {kDouble, "DOUBLE", 64, false, true},
    {kUint32, "UINT32", 32, true, false},     {kUint64, "UINT64", 64, true, false},
    {kBfloat16, "BFLOAT16", 16, false, true}, {kUint4, "UINT4", 4, true, false},
    {kInt4, "INT4", 4, true, true},           {kUint2, "UINT2", 2, true, false},
    {kInt2, "INT2", 2, true, true},
};

Error bad(const onnx::TensorProto& proto, const std::string& what) {
  return Error{Status::kCorrupt, "tensor '" + proto.name().substr(0, 200) + "': " + what};
}

template <typename T>
T load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Numbers out of packed or plain little-endian bytes, whose length is already checked.
void decode_raw(const ElementInfo& info, const std::string& raw, uint64_t elements,
                Tensor* tensor) {
  const char* p = raw.data();
  const auto reals = [&](auto convert) {
    tensor->reals.resize(elements);
    for (uint64_t i = 0; i < elements; ++i) tensor->reals[i] = convert(i);
  };
  const auto integers = [&](auto convert) {
    tensor->integers.resize(elements);
    for (uint64_t i = 0; i < elements; ++i) tensor->integers[i] = static_cast<int64_t>(convert(i));
  };
  switch (info.type) {
    case kFloat:
      tensor->reals.resize(elements);
      if (elements != 0) std::memcpy(tensor->reals.data(), p, raw.size());
      break;
    case kDouble:
      reals([&](uint64_t i) { return static_cast<float>(load<double>(p + 8 * i)); });
      break;
    case kFloat16:
      reals([&](uint64_t i) { return half_to_float(load<uint16_t>(p + 2 * i)); });
      break;
    case kBfloat16:
      reals([&](uint64_t i) { return bfloat16_to_float(load<uint16_t>(p + 2 * i)); });
      break;
    case kInt64:
    case kUint64:
      integers([&](uint64_t i) { return load<int64_t>(p + 8 * i); });
      break;
    case kInt32:
      integers([&](uint64_t i) { return load<int32_t>(p + 4 * i); });
      break;
    case kUint32:
      integers([&](uint64_t i) { return load<uint32_t>(p + 4 * i); });
      break;
    case kInt16:
      integers([&](uint64_t i) { return load<int16_t>(p + 2 * i); });
      break;
    case kUint16:
      integers([&](uint64_t i) { return load<uint16_t>(p + 2 * i); });
      break;
    default: {  // 8, 4 and 2 bit, packed low bits first as our own format is
      const auto bytes = std::as_bytes(std::span(raw));
      integers([&](uint64_t i) { return format::get_code(bytes, i, info.bits, info.is_signed); });
    }
  }
}

// The typed fields: which one holds a type, and how its entries become numbers.
Checked decode_fields(const ElementInfo& info, const onnx::TensorProto& proto, uint64_t elements,
                      Tensor* tensor) {
  const auto count_is = [&](int have, uint64_t want) -> Checked {
    if (have >= 0 && static_cast<uint64_t>(have) == want) return Ok{};
    return bad(proto, std::to_string(have) + " values of " + info.name + " for shape " +
                          to_string(tensor->shape));
  };
  if (info.type == kFloat) {
    MPQ_CHECK(count_is(proto.float_data_size(), elements));
    tensor->reals.assign(proto.float_data().begin(), proto.float_data().end());
  } else if (info.type == kDouble) {
    MPQ_CHECK(count_is(proto.double_data_size(), elements));
    for (const double v : proto.double_data()) tensor->reals.push_back(static_cast<float>(v));
  } else if (info.type == kInt64) {
    MPQ_CHECK(count_is(proto.int64_data_size(), elements));
    tensor->integers.assign(proto.int64_data().begin(), proto.int64_data().end());
  } else if (info.type == kUint32 || info.type == kUint64) {
    MPQ_CHECK(count_is(proto.uint64_data_size(), elements));
    for (const uint64_t v : proto.uint64_data())
      tensor->integers.push_back(static_cast<int64_t>(v));
  } else if (info.bits < 8) {  // each entry carries one packed byte
    MPQ_CHECK(count_is(proto.int32_data_size(), format::packed_bytes(elements, info.bits)));
    std::string packed;
    for (const int32_t v : proto.int32_data()) packed += static_cast<char>(v);
    decode_raw(info, packed, elements, tensor);
  } else {
    MPQ_CHECK(count_is(proto.int32_data_size(), elements));
    for (const int32_t v : proto.int32_data()) {
      if (info.type == kFloat16)
        tensor->reals.push_back(half_to_float(static_cast<uint16_t>(v)));
      else if (info.type == kBfloat16)
        tensor->reals.push_back(bfloat16_to_float(static_cast<uint16_t>(v)));
      else if (v < info.lowest() || v > info.highest())
        return bad(proto, "value " + std::to_string(v) + " does not fit " + info.name);
      else
        tensor->integers.push_back(v);
    }
  }
  return Ok{};
}

bool parse_number(const std::string& text, uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<std::string> read_external_bytes(const onnx::TensorProto& proto, const std::string& folder,
                                        const ImportOptions& options, uint64_t bytes) {
  if (!options.external_data) return bad(proto, "external data is switched off");
  std::string location;
  uint64_t offset = 0, length = bytes;
  for (const onnx::StringStringEntryProto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if ((entry.key() == "offset" && !parse_number(entry.value(), &offset)) ||
        (entry.key() == "length" && !parse_number(entry.value(), &length)))
      return bad(proto, "external " + entry.key() + " is no number");
  }
  if (length != bytes)
    return bad(proto, "external length " + std::to_string(length) + ", the shape needs " +
                          std::to_string(bytes));
  auto data = read_external(folder, location, offset, bytes);
  if (!data.ok())
    return Error{data.error().code,
                 "tensor '" + proto.name().substr(0, 200) + "': " + data.error().message};
  return data;
}

}  // namespace

const ElementInfo* element_info(int32_t type) {
  for (const ElementInfo& info : kElements)
    if (info.type == type) return &info;
  return nullptr;
}

Result<Tensor> read_tensor(const onnx::TensorProto& proto, const std::string& folder,
                           const ImportOptions& options) {
  const ElementInfo* info = element_info(proto.data_type());
  if (info == nullptr)
    return bad(proto, "element type " + std::to_string(proto.data_type()) + " is not supported");
  Tensor tensor{.type = info->type, .shape = Shape(proto.dims().begin(), proto.dims().end())};
  uint64_t elements = 0;
  if (tensor.shape.size() > 8 || !checked_elements(tensor.shape, &elements) ||
      elements > options.max_tensor_elements)
    return bad(proto,
               "shape " + to_string(tensor.shape) + " is negative, of too high rank or too large");
  const uint64_t bytes = format::packed_bytes(elements, info->bits);
  const bool external = proto.data_location() == onnx::TensorProto::EXTERNAL;
  if (!external && !proto.has_raw_data()) {
    MPQ_CHECK(decode_fields(*info, proto, elements, &tensor));
    return tensor;
  }
  std::string loaded;
  if (external) {
    MPQ_TRY(loaded, read_external_bytes(proto, folder, options, bytes));
  }
  const std::string& raw = external ? loaded : proto.raw_data();
  if (raw.size() != bytes)
    return bad(proto, std::to_string(raw.size()) + " bytes of " + info->name + " for shape " +
                          to_string(tensor.shape) + ", expected " + std::to_string(bytes));
  decode_raw(*info, raw, elements, &tensor);
  return tensor;
}

Tensor make_integers(Shape shape, std::vector<int64_t> values) {
  return {.type = kInt64, .shape = std::move(shape), .integers = std::move(values)};
}

}  // namespace mpq::convert
