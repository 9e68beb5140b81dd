// The products of attention on tiles: 16 queries times up to 64 columns in four tile registers.
//
//   scores   queries less 128 (signed) * keys less 128 (signed)
//   values   p (unsigned) * values less 128 (signed)
#pragma once

#include "kernels/attention/head_avx512.h"
#include "kernels/tiles_amx.h"

namespace mpq::kernels {
namespace {

template <typename Tiles>
class AmxHead {
 public:
  static constexpr uint32_t kQueries = 16;
  static constexpr bool kFlipKeys = true;
  // Whole k-blocks of 64, or one that is shorter.
  static constexpr size_t pad_rows(size_t n) { return n <= kBlock ? n : pad(n, kBlock); }

  // Padding counts as 0: queries without a column, keys that do not exist.
  explicit AmxHead(const Scratch<AmxHead>& s) {
    __builtin_memset(s.q, 0, kQueries * s.head_rows);
    __builtin_memset(s.p, 0, kQueries * s.key_rows);
  }
  void finish() { tiles_.release(); }

  void scores(const Scratch<AmxHead>& s, const int32_t*) {
    multiply<true>(s.q, s.k, s.keys, s.head_rows, s.sums);
  }
  void values(const Scratch<AmxHead>& s) { multiply<false>(s.p, s.v, s.head, s.key_rows, s.sums); }

 private:
  static constexpr size_t kBlock = 64;

  // sums[16][columns] = a[16][rows] * b.
  template <bool kSignedA>
  void multiply(const uint8_t* a, const uint8_t* b, size_t columns, size_t rows, int32_t* sums) {
    const size_t block = rows < kBlock ? rows : kBlock;
    if (block != configured_) {
      tiles_.configure(tile_config(kQueries, static_cast<uint32_t>(block / kQuad)));
      configured_ = block;
    }
    size_t column = 0;
    for (; column + 4 * kWidth <= columns; column += 4 * kWidth)
      multiply_columns<kSignedA, 4>(a, b + column * rows, rows, block, sums + column, columns);
    for (; column < columns; column += 2 * kWidth)
      multiply_columns<kSignedA, 2>(a, b + column * rows, rows, block, sums + column, columns);
  }

  template <bool kSignedA, int kVectors>
  void multiply_columns(const uint8_t* a, const uint8_t* b, size_t rows, size_t block,
                        int32_t* sums, size_t sums_step) {
    const size_t vector = rows * kWidth;
    tiles_.template zero<0>();
    tiles_.template zero<1>();
    if constexpr (kVectors == 4) {
      tiles_.template zero<2>();
      tiles_.template zero<3>();
    }
    for (size_t row = 0; row < rows; row += block, a += block, b += block * kWidth) {
      tiles_.template load<4>(a, rows);
      add<kSignedA, 0, 6>(b);
      add<kSignedA, 1, 7>(b + vector);
      if constexpr (kVectors == 4) {
        add<kSignedA, 2, 6>(b + 2 * vector);
        add<kSignedA, 3, 7>(b + 3 * vector);
      }
    }
    const size_t step = sums_step * sizeof(int32_t);
    tiles_.template store<0>(sums, step);
    tiles_.template store<1>(sums + kWidth, step);
    if constexpr (kVectors == 4) {
      tiles_.template store<2>(sums + 2 * kWidth, step);
      tiles_.template store<3>(sums + 3 * kWidth, step);
    }
  }

  template <bool kSignedA, int kSums, int kColumnsTile>
  void add(const uint8_t* b) {
    tiles_.template load<kColumnsTile>(b, kWidth * kQuad);
    if constexpr (kSignedA)
      tiles_.template multiply_signed<kSums, 4, kColumnsTile>();
    else
      tiles_.template multiply<kSums, 4, kColumnsTile>();
  }

  Tiles tiles_ = {};
  size_t configured_ = 0;
};

}  // namespace
}  // namespace mpq::kernels
