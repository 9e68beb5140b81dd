// Tensors of a request as the protocol carries them: JSON numbers, nested or flat, or raw bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "integrations/server/config.h"
#include "integrations/server/failure.h"

namespace mpq::serve {

struct WireTensor {
  std::string name, datatype;
  std::vector<int64_t> shape;
  uint64_t elements = 0;
  bool binary = false;
  std::string_view raw;  // binary
  Json data;             // JSON
};

/// Bytes of an element; 0 for BYTES and for what is no type.
size_t element_bytes(std::string_view datatype);

/// Sets name, datatype and shape, when a tensor may have them.
MaybeFailure describe(std::string_view name, std::string_view datatype,
                      std::span<const int64_t> shape, WireTensor* tensor);
/// Sets the bytes of a binary tensor.
MaybeFailure set_raw(std::string_view raw, WireTensor* tensor);
/// Of JSON: name, datatype, shape; `data`, or a slice of *rest of parameters.binary_data_size
/// bytes.
MaybeFailure read_tensor(Json* json, std::string_view* rest, WireTensor* tensor);

/// The elements, little-endian, one behind the other. Numbers out of the type's range are refused.
MaybeFailure elements_of(const WireTensor& tensor, std::vector<std::byte>* bytes);
/// The elements of a BYTES tensor, inside the tensor.
MaybeFailure texts_of(const WireTensor& tensor, std::vector<std::string_view>* texts);
/// INT32 or INT64 elements that fit into 32 bits.
MaybeFailure ids_of(const WireTensor& tensor, std::vector<int32_t>* ids);

/// "data" of the answer: elements of this datatype as a JSON array.
void print_elements(std::string_view datatype, const std::byte* bytes, uint64_t elements,
                    std::string* text);

}  // namespace mpq::serve
