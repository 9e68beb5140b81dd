// SHA-256 (FIPS 180-4), with the CPU's SHA instructions when it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mpq::format {

using Digest = std::array<std::byte, 32>;

// Processes `blocks` blocks of 64 bytes. state: eight words.
using Sha256Blocks = void (*)(uint32_t* state, const uint8_t* data, size_t blocks);

void sha256_blocks_portable(uint32_t* state, const uint8_t* data, size_t blocks);
Sha256Blocks sha256_blocks_shani();  // null when this CPU or build lacks it
Sha256Blocks sha256_blocks_best();

class Sha256 {
 public:
  explicit Sha256(Sha256Blocks blocks = sha256_blocks_best());
  void update(std::span<const std::byte> bytes);
  Digest finish();  // once

 private:
  Sha256Blocks blocks_;
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> tail_;
  uint64_t size_ = 0;
};

Digest sha256(std::span<const std::byte> bytes);
std::string to_hex(const Digest& digest);

}  // namespace mpq::format
