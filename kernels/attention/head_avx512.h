// Attention of one head of one sequence, the parts that AVX-512's rows share; a Method does the two
// matrix products. Both sides of them are bytes, one broadcast by rows and one packed as
// [columns / 16][rows / 4][16][4], columns being keys or head columns. All sums are exact.
//
//   Method(scratch)                  once a head
//   kQueries                         rows of a block of queries
//   pad_rows(n)                      rows of a packed matrix, a multiple of 4
//   kFlipKeys                        keys are packed less 128, signed
//   scores(scratch, too_much), values(scratch)   of a block of queries, to scratch.sums
//   finish()                         after the last
#pragma once

#include "kernels/attention/rows.h"
#include "kernels/math/functions.h"
#include "kernels/math/lanes.h"
#include "kernels/math/lanes_avx512.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kWidth = 16, kQuad = 4;
constexpr uint8_t kFlip = 0x80;  // code - 128 as a signed byte
constexpr size_t kColumns = 2 * kWidth;

// Places in the scratch of a thread; none without a base, to count its bytes.
template <typename Method>
struct Scratch {
  static constexpr uint32_t kQueries = Method::kQueries;
  size_t bytes = 0;
  size_t keys, head;           // as columns: padded to whole pairs of vectors
  size_t key_rows, head_rows;  // as rows of a product
  uint8_t *k, *v, *q, *p;
  int32_t* sums;
  float* s;

  Scratch(uint32_t head_size, uint32_t length, void* base)
      : keys(pad(length, kColumns)),
        head(pad(head_size, kColumns)),
        key_rows(Method::pad_rows(pad(length, kWidth))),
        head_rows(Method::pad_rows(pad(head_size, kQuad))) {
    const auto take = [&]<typename T>(T** pointer, size_t count) {
      take_place(pointer, count, base, &bytes);
    };
    take(&k, keys * head_rows);
    take(&v, head * key_rows);
    take(&q, kQueries * head_rows);
    take(&p, kQueries * key_rows);
    take(&sums, kQueries * (keys > head ? keys : head));
    take(&s, key_rows);
  }
};

template <typename Method>
size_t scratch_bytes(uint32_t head_size, uint32_t max_length) {
  return Scratch<Method>(head_size, max_length, nullptr).bytes;
}

// Any geometry: a byte at a time. code(column, row): a byte's address.
template <typename Code>
void pack_bytes(uint8_t* to, size_t columns, size_t padded_columns, size_t rows, size_t padded_rows,
                uint8_t flip, Code code) {
  for (size_t group = 0; group < padded_columns; group += kWidth)
    for (size_t quad = 0; quad < padded_rows; quad += kQuad, to += kWidth * kQuad)
      for (size_t i = 0; i < kWidth; ++i)
        for (size_t part = 0; part < kQuad; ++part) {
          const auto column = static_cast<uint32_t>(group + i),
                     row = static_cast<uint32_t>(quad + part);
          const bool real = column < columns && row < rows;
          to[i * kQuad + part] =
              real ? static_cast<uint8_t>(*code(column, row) ^ flip) : uint8_t{0};
        }
}

// Keys of a head: a column a key, a row a head column.
template <typename Method>
void pack_keys(const AttentionArgs& a, uint32_t start, uint32_t n, uint32_t column,
               const Scratch<Method>& s) {
  constexpr uint8_t kFlipped = Method::kFlipKeys ? kFlip : 0;
  const uint32_t d = a.head_size;
  if (d % kQuad != 0 || a.qkv.cb % kQuad != 0 || a.qkv.image > (1 << 24)) {
    pack_bytes(s.k, n, s.keys, d, s.head_rows, kFlipped, [&](uint32_t key, uint32_t row) {
      return attention_code(a.qkv, start + key, column + row);
    });
    return;
  }
  const __m512i index =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                         _mm512_set1_epi32(static_cast<int>(a.qkv.image)));
  uint8_t* to = s.k;
  for (uint32_t group = 0; group < s.keys; group += kWidth) {
    const bool some = group < n;
    const __mmask16 real = Avx512Lanes::first(some ? n - group : 0);
    for (uint32_t row = 0; row < s.head_rows; row += kQuad, to += kWidth * kQuad) {
      if (row >= d) {
        _mm512_store_si512(to, _mm512_setzero_si512());
        continue;
      }
      // The address of a key that does not exist is not used.
      const uint8_t* const from = attention_code(a.qkv, start + (some ? group : 0), column + row);
      const __m512i quads =
          _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), real, index, from, 1);
      _mm512_store_si512(to,
                         _mm512_xor_si512(quads, _mm512_set1_epi8(static_cast<char>(kFlipped))));
    }
  }
}

// Values of a head: a column a head column, a row a key.
template <typename Method>
void pack_values(const AttentionArgs& a, uint32_t start, uint32_t n, uint32_t column,
                 const Scratch<Method>& s) {
  const uint32_t d = a.head_size;
  if (d % kWidth != 0 || a.qkv.cb % kWidth != 0) {
    pack_bytes(s.v, d, s.head, n, s.key_rows, kFlip, [&](uint32_t c, uint32_t key) {
      return attention_code(a.qkv, start + key, column + c);
    });
    return;
  }
  const __m128i flip = _mm_set1_epi8(static_cast<char>(kFlip));
  uint8_t* to = s.v;
  for (uint32_t group = 0; group < s.head; group += kWidth)
    for (uint32_t quad = 0; quad < s.key_rows; quad += kQuad, to += kWidth * kQuad) {
      __m128i row[kQuad];
      for (uint32_t i = 0; i < kQuad; ++i)
        row[i] = quad + i < n && group < d
                     ? _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(
                                         attention_code(a.qkv, start + quad + i, column + group))),
                                     flip)
                     : _mm_setzero_si128();
      const __m128i lo01 = _mm_unpacklo_epi8(row[0], row[1]),
                    hi01 = _mm_unpackhi_epi8(row[0], row[1]),
                    lo23 = _mm_unpacklo_epi8(row[2], row[3]),
                    hi23 = _mm_unpackhi_epi8(row[2], row[3]);
      auto* out = reinterpret_cast<__m128i*>(to);
      _mm_store_si128(out, _mm_unpacklo_epi16(lo01, lo23));
      _mm_store_si128(out + 1, _mm_unpackhi_epi16(lo01, lo23));
      _mm_store_si128(out + 2, _mm_unpacklo_epi16(hi01, hi23));
      _mm_store_si128(out + 3, _mm_unpackhi_epi16(hi01, hi23));
    }
}

// One row of scores -> p, 0 for keys that do not exist; returns their total.
int32_t softmax_codes(const AttentionArgs& a, uint32_t head, uint32_t query, uint32_t n,
                      const int32_t* dots, float* s, uint8_t* p) {
  using L = Avx512Lanes;
  const float* bias = a.relative_bias == nullptr ? nullptr : attention_bias(a, head, query, 0);
  const __m512 scale = L::set(a.score_scale[head]), below = L::set(kBelowAll);
  __m512 largest = below;
  for (uint32_t j = 0; j < n; j += kWidth) {
    const __mmask16 real = L::first(n - j);
    const __m512 b = bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(real, bias + j);
    const __m512 x = _mm512_mask_mov_ps(below, real, L::fma(L::load_sums(dots + j), scale, b));
    L::store(s + j, x);
    largest = L::max(x, largest);
  }
  const __m512 top = L::set(_mm512_reduce_max_ps(largest));
  const auto parts = [&](uint32_t j) {
    return _mm512_cvtps_epi32(parts_of_255<L>(L::sub(L::load(s + j), top)));
  };
  __m512i total = _mm512_setzero_si512();
  uint32_t j = 0;
  for (; j + 3 * kWidth < n; j += 4 * kWidth) {
    const __m512i q[4] = {parts(j), parts(j + kWidth), parts(j + 2 * kWidth),
                          parts(j + 3 * kWidth)};
    const __m512i codes = L::pack_codes(q);
    total = _mm512_dpbusd_epi32(total, codes, _mm512_set1_epi8(1));
    _mm512_storeu_si512(p + j, codes);
  }
  for (; j < n; j += kWidth) {
    const __m512i codes = parts(j);
    total = _mm512_add_epi32(total, codes);
    _mm_store_si128(reinterpret_cast<__m128i*>(p + j), _mm512_cvtepi32_epi8(codes));
  }
  return _mm512_reduce_add_epi32(total);
}

void write_codes(const AttentionArgs& a, uint32_t head, uint32_t token, const int32_t* acc,
                 int32_t total) {
  using L = Avx512Lanes;
  const __m512 scale = L::set(a.value_scale[head] / static_cast<float>(total));
  const bool whole = a.head_size % kWidth == 0 && a.y.cb % kWidth == 0;
  uint8_t codes[kWidth];
  for (uint32_t c = 0; c < a.head_size; c += kWidth) {
    const uint32_t column = head * a.head_size + c;
    uint8_t* const to = whole ? attention_code(a.y, token, column) : codes;
    store_clamped<L>(to, L::fma(L::load_sums(acc + c), scale, L::set(a.out_bias)),
                     static_cast<float>(a.lo), static_cast<float>(a.hi));
    for (uint32_t i = 0; !whole && i < kWidth && c + i < a.head_size; ++i)
      *attention_code(a.y, token, column + i) = codes[i];
  }
}

// Queries minus 128, signed; returns -128 * their sum. Columns that do not exist
// are 0 or left as they are.
int32_t take_query(const AttentionArgs& a, uint32_t token, uint32_t column, size_t head_rows,
                   uint8_t* to) {
  if (a.head_size % kWidth == 0 && a.qkv.cb % kWidth == 0) {
    const __m128i flip = _mm_set1_epi8(static_cast<char>(kFlip));
    __m128i sums = _mm_setzero_si128();
    for (uint32_t c = 0; c < a.head_size; c += kWidth) {
      const __m128i codes = _mm_loadu_si128(
          reinterpret_cast<const __m128i*>(attention_code(a.qkv, token, column + c)));
      sums = _mm_add_epi32(sums, _mm_sad_epu8(codes, _mm_setzero_si128()));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), _mm_xor_si128(codes, flip));
    }
    const int32_t sum = _mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2);
    return -128 * (sum - 128 * static_cast<int32_t>(a.head_size));
  }
  int32_t sum = 0;
  for (uint32_t c = 0; c < head_rows; ++c) {
    const int32_t x = c < a.head_size ? *attention_code(a.qkv, token, column + c) - 128 : 0;
    to[c] = static_cast<uint8_t>(x);
    sum += x;
  }
  return -128 * sum;
}

template <typename Method>
void attention_unit(const AttentionArgs& a, uint32_t sequence, uint32_t head, void* base) {
  constexpr uint32_t kQueries = Method::kQueries;
  const uint32_t start = a.starts[sequence], n = a.starts[sequence + 1] - start, d = a.head_size;
  const Scratch<Method> s(d, n, base);
  pack_keys(a, start, n, (a.heads + head) * d, s);
  pack_values(a, start, n, (2 * a.heads + head) * d, s);
  Method method(s);
  for (uint32_t first = 0; first < n; first += kQueries) {
    const uint32_t rows = n - first < kQueries ? n - first : kQueries;
    int32_t too_much[kQueries] = {}, total[kQueries] = {};
    for (uint32_t i = 0; i < rows; ++i)
      too_much[i] = take_query(a, start + first + i, head * d, s.head_rows, s.q + i * s.head_rows);
    // Rows that do not exist repeat what is there: their sums are not read.
    method.scores(s, too_much);
    for (uint32_t i = 0; i < rows; ++i)
      total[i] =
          softmax_codes(a, head, first + i, n, s.sums + i * s.keys, s.s, s.p + i * s.key_rows);
    method.values(s);
    for (uint32_t i = 0; i < rows; ++i)
      write_codes(a, head, start + first + i, s.sums + i * s.head, total[i]);
  }
  method.finish();
}

template <typename Method>
void run_heads(const AttentionArgs& a, const WorkRange& range, const KernelContext& context) {
  for (uint32_t unit = range.begin; unit < range.end; ++unit)
    attention_unit<Method>(a, unit / a.heads, unit % a.heads, context.scratch);
}

template <typename Method>
constexpr AttentionKernel attention_row(const char* name, IsaMask isa) {
  return {name, isa, scratch_bytes<Method>, run_heads<Method>};
}

}  // namespace
}  // namespace mpq::kernels
