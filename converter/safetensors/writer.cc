#include "converter/safetensors/writer.h"

#include <nlohmann/json.hpp>

namespace mpq::convert {

std::vector<std::byte> write_safetensors(const std::vector<NamedTensor>& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  size_t end = 0;
  for (const NamedTensor& tensor : tensors) {
    const size_t begin = end;
    end += tensor.data.size_bytes();
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::vector<std::byte> bytes;
  bytes.reserve(sizeof(uint64_t) + text.size() + end);
  for (size_t i = 0; i < sizeof(uint64_t); ++i)
    bytes.push_back(static_cast<std::byte>(text.size() >> (8 * i) & 0xFF));
  const auto append = [&](std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  append(std::as_bytes(std::span(text)));
  for (const NamedTensor& tensor : tensors) append(std::as_bytes(tensor.data));
  return bytes;
}

}  // namespace mpq::convert
