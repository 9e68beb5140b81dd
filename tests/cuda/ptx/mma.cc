// PTX ISA, "Warp Level Matrix Instructions", the integer shapes of mma.sync.
//
// With g = lane / 4, t = lane % 4 and E elements in a 32-bit register:
//   A  register r, element e:  row g + 8 (r mod M/8),  k = 4 E (r div M/8) + E t + e
//   B  register r, element e:  column g,               k = 4 E r + E t + e
//   C  register r:             row g + 8 (r div 2),    column 2 t + r mod 2
#include <algorithm>
#include <array>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

enum : uint8_t { kSignedA = 1, kSignedB = 2, kSaturate = 4 };

// The elements of a byte, lowest first.
template <uint32_t kBits>
using Elements = std::array<int16_t, 8 / kBits>;
template <uint32_t kBits, bool kSigned>
constexpr std::array<Elements<kBits>, 256> kElements = [] {
  std::array<Elements<kBits>, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte)
    for (uint32_t e = 0; e < 8 / kBits; ++e) {
      const uint32_t code = byte >> (kBits * e) & ((1U << kBits) - 1);
      const bool negative = kSigned && code >> (kBits - 1) != 0;
      table[byte][e] = static_cast<int16_t>(static_cast<int32_t>(code) - (negative << kBits));
    }
  return table;
}();

template <uint32_t kBits>
void unpack(uint32_t word, const std::array<Elements<kBits>, 256>& table, int16_t* out) {
  for (uint32_t i = 0; i < 4; ++i)
    std::memcpy(out + 8 / kBits * i, &table[word >> (8 * i) & 255], sizeof(Elements<kBits>));
}

template <uint32_t kM, uint32_t kK, uint32_t kBits>
void multiply(Warp& w, const Inst& in, uint32_t lanes) {
  if (lanes != kAllLanes)
    return w.fail(in, 0, "an aligned instruction reached by a part of the warp");
  constexpr uint32_t kE = 32 / kBits, kRows = kM / 8, kB = kK / (4 * kE), kA = kRows * kB,
                     kC = 2 * kRows;
  alignas(64) int16_t a[kM][kK], b[8][kK];
  const auto& a_table =
      (in.variant & kSignedA) != 0 ? kElements<kBits, true> : kElements<kBits, false>;
  const auto& b_table =
      (in.variant & kSignedB) != 0 ? kElements<kBits, true> : kElements<kBits, false>;
  for (uint32_t r = 0; r < kA; ++r) {
    const uint32_t* words = values<uint32_t>(w, in.op[kC + r]);
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      unpack<kBits>(words[lane], a_table,
                    &a[lane / 4 + 8 * (r % kRows)][4 * kE * (r / kRows) + kE * (lane % 4)]);
  }
  for (uint32_t r = 0; r < kB; ++r) {
    const uint32_t* words = values<uint32_t>(w, in.op[kC + kA + r]);
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      unpack<kBits>(words[lane], b_table, &b[lane / 4][4 * kE * r + kE * (lane % 4)]);
  }
  int32_t product[kM][8];
  for (uint32_t m = 0; m < kM; ++m)
    for (uint32_t n = 0; n < 8; ++n) {
      int32_t sum = 0;
      for (uint32_t k = 0; k < kK; ++k) sum += a[m][k] * b[n][k];
      product[m][n] = sum;
    }
  for (uint32_t r = 0; r < kC; ++r) {
    const uint32_t* c = values<uint32_t>(w, in.op[kC + kA + kB + r]);
    uint32_t* d = values<uint32_t>(w, in.op[r]);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const int32_t p = product[lane / 4 + 8 * (r / 2)][2 * (lane % 4) + r % 2];
      const int64_t exact = int64_t{static_cast<int32_t>(c[lane])} + p;
      d[lane] = (in.variant & kSaturate) != 0
                    ? static_cast<uint32_t>(std::clamp<int64_t>(exact, INT32_MIN, INT32_MAX))
                    : static_cast<uint32_t>(exact);
    }
  }
  ++w.block->counters->mma;
}

template <uint32_t kM, uint32_t kK, uint32_t kBits>
void add_shape(Opcodes& t) {
  constexpr uint32_t kRows = kM / 8, kB = kK * kBits / 128;
  std::string operands;
  for (const auto& [count, letter] :
       {std::pair{2 * kRows, 'W'}, {kRows * kB, 'w'}, {kB, 'w'}, {2 * kRows, 'w'}})
    operands.append(std::to_string(count)).append(1, letter);
  const std::string bits = std::to_string(kBits);
  for (uint8_t variant = 0; variant < 8; ++variant) {
    const char* a = (variant & kSignedA) != 0 ? ".s" : ".u";
    const char* b = (variant & kSignedB) != 0 ? ".s" : ".u";
    std::string opcode =
        "mma.sync.aligned.m" + std::to_string(kM) + "n8k" + std::to_string(kK) + ".row.col";
    if ((variant & kSaturate) != 0) opcode += ".satfinite";
    t.add(opcode + ".s32" + a + bits + b + bits + ".s32",
          {.operands = operands, .execute = multiply<kM, kK, kBits>, .variant = variant});
  }
}

}  // namespace

void add_mma(Opcodes& t) {
  add_shape<8, 16, 8>(t);
  add_shape<16, 16, 8>(t);
  add_shape<16, 32, 8>(t);
  add_shape<8, 32, 4>(t);
  add_shape<16, 32, 4>(t);
  add_shape<16, 64, 4>(t);
}

}  // namespace mpq::ptx
