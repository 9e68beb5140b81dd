#include "format/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "format/sha256_constants.h"

#ifdef MPQ_HAVE_SHANI
#include <cpuid.h>
#endif

namespace mpq::format {

#ifdef MPQ_HAVE_SHANI
void sha256_blocks_shani_x86(uint32_t* state, const uint8_t* data,
                             size_t blocks);  // sha256_shani.cc

namespace {

bool has_shani() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_SSE4_1) == 0) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;
}

}  // namespace

Sha256Blocks sha256_blocks_shani() { return has_shani() ? sha256_blocks_shani_x86 : nullptr; }
#else
Sha256Blocks sha256_blocks_shani() { return nullptr; }
#endif

Sha256Blocks sha256_blocks_best() {
  static const Sha256Blocks best =
      sha256_blocks_shani() != nullptr ? sha256_blocks_shani() : sha256_blocks_portable;
  return best;
}

void sha256_blocks_portable(uint32_t* state, const uint8_t* data, size_t blocks) {
  for (; blocks != 0; --blocks, data += 64) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      const uint8_t* p = data + 4 * i;
      w[i] = static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 |
             static_cast<uint32_t>(p[2]) << 8 | p[3];
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t x = w[i - 15], y = w[i - 2];
      const uint32_t s0 = std::rotr(x, 7) ^ std::rotr(x, 18) ^ (x >> 3);
      const uint32_t s1 = std::rotr(y, 17) ^ std::rotr(y, 19) ^ (y >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kSha256RoundConstants[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state[i] += sums[i];
  }
}

Sha256::Sha256(Sha256Blocks blocks)
    : blocks_(blocks),
      state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
      tail_{} {}

void Sha256::update(std::span<const std::byte> bytes) {
  const size_t used = size_ % 64;
  size_ += bytes.size();
  if (used != 0) {
    const size_t n = std::min(bytes.size(), 64 - used);
    std::memcpy(tail_.data() + used, bytes.data(), n);
    if (used + n < 64) return;
    blocks_(state_.data(), tail_.data(), 1);
    bytes = bytes.subspan(n);
  }
  blocks_(state_.data(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size() / 64);
  const auto rest = bytes.subspan(bytes.size() / 64 * 64);
  if (!rest.empty()) std::memcpy(tail_.data(), rest.data(), rest.size());
}

Digest Sha256::finish() {
  // One bit, zeros, and the length in bits in the last 8 bytes of a block.
  const uint64_t bits = size_ * 8;
  std::array<std::byte, 72> end{};
  end[0] = std::byte{0x80};
  const size_t zeros = (119 - size_ % 64) % 64;
  for (int i = 0; i < 8; ++i)
    end[1 + zeros + static_cast<size_t>(i)] = static_cast<std::byte>(bits >> (56 - 8 * i));
  update(std::span(end).first(1 + zeros + 8));
  Digest digest;
  for (size_t i = 0; i < 32; ++i)
    digest[i] = static_cast<std::byte>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string to_hex(const Digest& digest) {
  std::string text;
  for (const std::byte b : digest) {
    text += "0123456789abcdef"[std::to_integer<int>(b) >> 4];
    text += "0123456789abcdef"[std::to_integer<int>(b) & 15];
  }
  return text;
}

}  // namespace mpq::format
