#include "tests/cuda/problem.h"

namespace mpq::test {

cuda::Codes CudaProblem::expect_codes(std::string name, const std::vector<uint8_t>& codes,
                                      uint32_t channels, uint32_t bits) {
  const std::vector<uint8_t> all(codes.size(), static_cast<uint8_t>((1U << bits) - 1));
  std::vector<uint8_t> bytes = pack_pixels(codes, channels, bits, false);
  uint8_t* at = device.allocate(bytes.size());
  expected.push_back(
      {std::move(name), at, std::move(bytes), pack_pixels(all, channels, bits, false), 0xEE});
  return {at, code_pitch(channels, bits), bits};
}

cuda::Codes CudaProblem::upload_codes(const std::vector<uint8_t>& codes, uint32_t channels,
                                      uint32_t bits) {
  return {device.upload(pack_pixels(codes, channels, bits)), code_pitch(channels, bits), bits};
}

std::string difference(const CudaProblem& p) {
  for (const Expected& e : p.expected)
    for (size_t i = 0; i < e.bytes.size(); ++i)
      if ((e.at[i] & e.mask[i]) != (e.bytes[i] & e.mask[i]))
        return std::string(p.launch.name) + ": " + e.name + ": byte " + std::to_string(i) + " is " +
               std::to_string(e.at[i] & e.mask[i]) + ", not " +
               std::to_string(e.bytes[i] & e.mask[i]);
  return {};
}

}  // namespace mpq::test
