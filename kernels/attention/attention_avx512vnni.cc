// Attention by sums of four products of bytes (vpdpbusd), which take one unsigned and one signed
// side. Scores: keys as they are, unsigned, times queries minus 128; what the keys have too much is
// taken back as -128 * sum of the query. Values: p, unsigned, times values minus 128.
#include "kernels/attention/head_avx512.h"

namespace mpq::kernels {
namespace {

// Two vectors of columns times 8 queries fill 16 accumulators.
struct Vnni {
  static constexpr uint32_t kQueries = 8;
  static constexpr bool kFlipKeys = false;
  static constexpr size_t pad_rows(size_t n) { return n; }
  explicit Vnni(const Scratch<Vnni>&) {}
  static void scores(const Scratch<Vnni>& s, const int32_t* too_much);
  static void values(const Scratch<Vnni>& s);
  static void finish() {}
};

// sums[row][column] for Vnni::kQueries rows of `a` (stride in bytes) and all columns of packed b,
// over `rows` rows of b; sums start at first[row]. kSignedA: a is the signed side, b the unsigned
// one.
template <bool kSignedA>
void multiply_quads(const uint8_t* a, size_t stride, const uint8_t* b, size_t columns, size_t rows,
                    const int32_t* first, int32_t* sums, size_t sums_stride) {
  const size_t vector = rows * kWidth;  // bytes of one vector of columns
  for (size_t column = 0; column < columns; column += kColumns, b += 2 * vector) {
    __m512i acc[Vnni::kQueries][2];
    for (uint32_t i = 0; i < Vnni::kQueries; ++i)
      acc[i][0] = acc[i][1] = _mm512_set1_epi32(first[i]);
    for (size_t row = 0; row < rows; row += kQuad) {
      const __m512i b0 = _mm512_load_si512(b + row * kWidth),
                    b1 = _mm512_load_si512(b + vector + row * kWidth);
#pragma GCC unroll 8
      for (uint32_t i = 0; i < Vnni::kQueries; ++i) {
        int32_t quad;
        __builtin_memcpy(&quad, a + i * stride + row, sizeof quad);
        const __m512i x = _mm512_set1_epi32(quad);
        if constexpr (kSignedA) {
          acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], b0, x);
          acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], b1, x);
        } else {
          acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], x, b0);
          acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], x, b1);
        }
      }
    }
    for (uint32_t i = 0; i < Vnni::kQueries; ++i) {
      _mm512_store_si512(sums + i * sums_stride + column, acc[i][0]);
      _mm512_store_si512(sums + i * sums_stride + column + kWidth, acc[i][1]);
    }
  }
}

void Vnni::scores(const Scratch<Vnni>& s, const int32_t* too_much) {
  multiply_quads<true>(s.q, s.head_rows, s.k, s.keys, s.head_rows, too_much, s.sums, s.keys);
}
void Vnni::values(const Scratch<Vnni>& s) {
  constexpr int32_t kNothing[kQueries] = {};
  multiply_quads<false>(s.p, s.key_rows, s.v, s.head, s.key_rows, kNothing, s.sums, s.head);
}

}  // namespace

const AttentionKernel attention_u8_avx512vnni =
    attention_row<Vnni>("attention_u8_avx512vnni", kIsaAvx512Vnni);

}  // namespace mpq::kernels
