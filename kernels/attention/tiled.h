// Attention of one head of one sequence for vectors of L::kWidth 32-bit lanes. Codes minus 128 are
// 16-bit numbers here and both products are the same loop: pairs of a row of A, broadcast, times
// pairs of B packed as [columns / width][pairs][width][2]. A pair's products sum to at most 2 * 255
// * 128, far inside 32 bits: nothing saturates.
//
//   scores   A: four queries    B: keys as columns, pairs of head columns
//   values   A: their p         B: head columns as columns, pairs of keys
//
// Rows, keys and head columns that do not exist are 0.
#pragma once

#include "kernels/attention/rows.h"
#include "kernels/math/functions.h"
#include "kernels/math/lanes.h"
#include "kernels/math/lanes_scalar.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kQueries = 4;  // rows of A; two vectors of columns fill 8 accumulators

// Places in the scratch of a thread; none without a base, to count its bytes.
template <typename L>
struct AttentionScratch {
  static constexpr size_t kColumns = 2 * L::kWidth;
  size_t bytes = 0;
  size_t keys, head;  // padded to whole pairs of vectors
  int16_t *k, *v, *rows, *p;
  int32_t* sums;
  float* s;
  uint8_t* codes;

  AttentionScratch(uint32_t head_size, uint32_t length, void* base)
      : keys(pad(length, kColumns)), head(pad(head_size, kColumns)) {
    const auto take = [&]<typename T>(T** pointer, size_t count) {
      take_place(pointer, count, base, &bytes);
    };
    take(&k, keys * head);
    take(&v, keys * head);
    take(&rows, (keys + kQueries) * head);
    take(&p, kQueries * keys);
    take(&sums, kQueries * (keys > head ? keys : head));
    take(&s, keys);
    take(&codes, keys);
  }
};

template <typename L>
static size_t attention_scratch_bytes(uint32_t head_size, uint32_t max_length) {
  return AttentionScratch<L>(head_size, max_length, nullptr).bytes;
}

// The codes of a head minus 128, [token][stride]; what does not exist is 0.
static inline void centred_rows(const Planes& codes, uint32_t first, uint32_t tokens,
                                uint32_t column, uint32_t columns, size_t padded_tokens,
                                size_t stride, int16_t* to) {
  for (uint32_t t = 0; t < tokens; ++t, to += stride) {
    for (uint32_t c = 0, count = 0; c < columns; c += count) {
      const uint32_t left = codes.cb - (column + c) % codes.cb;  // of the block
      count = left < columns - c ? left : columns - c;
      const uint8_t* from = attention_code(codes, first + t, column + c);
      for (uint32_t i = 0; i < count; ++i) to[c + i] = static_cast<int16_t>(from[i] - 128);
    }
    for (size_t c = columns; c < stride; ++c) to[c] = 0;
  }
  for (size_t i = 0; i < (padded_tokens - tokens) * stride; ++i) to[i] = 0;
}

// Keys as columns: pairs of neighbours in a row stay together.
template <typename L>
static void pack_keys(const int16_t* rows, size_t keys, size_t head, int16_t* to) {
  for (size_t key = 0; key < keys; key += L::kWidth)
    for (size_t pair = 0; pair < head; pair += 2, to += 2 * L::kWidth)
      for (size_t i = 0; i < L::kWidth; ++i)
        __builtin_memcpy(to + 2 * i, rows + (key + i) * head + pair, 2 * sizeof *to);
}

// Head columns as columns: pairs of neighbours in a column.
template <typename L>
static void pack_values(const int16_t* rows, size_t keys, size_t head, int16_t* to) {
  for (size_t column = 0; column < head; column += L::kWidth)
    for (size_t key = 0; key < keys; key += 2, to += 2 * L::kWidth) {
      const int16_t* pair = rows + key * head + column;
      for (size_t i = 0; i < L::kWidth; ++i) {
        to[2 * i] = pair[i];
        to[2 * i + 1] = pair[head + i];
      }
    }
}

// sums[row][column] for kQueries rows of `a` (stride in numbers) and all columns.
template <typename L>
static void multiply_pairs(const int16_t* a, size_t stride, const int16_t* b, size_t columns,
                           size_t rows, int32_t* sums, size_t sums_stride) {
  constexpr size_t kWidth = L::kWidth;
  const size_t vector = rows * kWidth;  // numbers of one vector of columns
  for (size_t column = 0; column < columns; column += 2 * kWidth, b += 2 * vector) {
    typename L::I acc[kQueries][2];
    for (auto& row : acc) row[0] = row[1] = L::zero();
    for (size_t pair = 0; pair < rows / 2; ++pair) {
      const typename L::I b0 = L::load_pairs(b + pair * 2 * kWidth),
                          b1 = L::load_pairs(b + vector + pair * 2 * kWidth);
      for (uint32_t i = 0; i < kQueries; ++i) {
        const typename L::I pairs = L::set_pair(a + i * stride + 2 * pair);
        acc[i][0] = L::add_products(acc[i][0], pairs, b0);
        acc[i][1] = L::add_products(acc[i][1], pairs, b1);
      }
    }
    for (uint32_t i = 0; i < kQueries; ++i) {
      L::store_sums(sums + i * sums_stride + column, acc[i][0]);
      L::store_sums(sums + i * sums_stride + column + kWidth, acc[i][1]);
    }
  }
}

// Runs f for whole vectors of [0, n) and then for single elements.
template <typename L, typename F>
static void each_lane(uint32_t n, F f) {
  uint32_t i = 0;
  for (; i + L::kWidth <= n; i += L::kWidth) f(L(), i);
  for (; i < n; ++i) f(ScalarLanes(), i);
}

// One row of scores -> p; returns their total.
template <typename L>
static int32_t softmax_codes(const AttentionArgs& a, uint32_t head, uint32_t query, uint32_t n,
                             const int32_t* dots, const AttentionScratch<L>& scratch, int16_t* p) {
  float* s = scratch.s;
  const float* bias = a.relative_bias == nullptr ? nullptr : attention_bias(a, head, query, 0);
  // Of the elements in vectors, lane by lane, and of the others.
  typename L::F vector_largest = L::set(kBelowAll);
  float largest = kBelowAll;
  each_lane<L>(n, [&](auto lanes, uint32_t j) {
    using V = decltype(lanes);
    const auto b = bias == nullptr ? V::set(0.0F) : V::load(bias + j);
    const auto x = V::fma(V::load_sums(dots + j), V::set(a.score_scale[head]), b);
    V::store(s + j, x);
    if constexpr (V::kWidth == 1)
      largest = V::max(x, largest);
    else
      vector_largest = V::max(x, vector_largest);
  });
  float lane[L::kWidth];
  L::store(lane, vector_largest);
  for (const float x : lane) largest = ScalarLanes::max(x, largest);
  each_lane<L>(n, [&](auto lanes, uint32_t j) {
    using V = decltype(lanes);
    V::store_codes(scratch.codes + j, parts_of_255<V>(V::sub(V::load(s + j), V::set(largest))));
  });
  int32_t total = 0;
  for (uint32_t j = 0; j < n; ++j) {
    p[j] = scratch.codes[j];
    total += p[j];
  }
  for (size_t j = n; j < scratch.keys; ++j) p[j] = 0;
  return total;
}

template <typename L>
static void write_codes(const AttentionArgs& a, uint32_t head, uint32_t token, const int32_t* acc,
                        int32_t total) {
  const float scale = a.value_scale[head] / static_cast<float>(total);
  uint8_t codes[L::kWidth];
  for (uint32_t c = 0; c < a.head_size; c += L::kWidth) {
    store_clamped<L>(codes, L::fma(L::load_sums(acc + c), L::set(scale), L::set(a.out_bias)),
                     static_cast<float>(a.lo), static_cast<float>(a.hi));
    const uint32_t column = head * a.head_size + c;
    if (c + L::kWidth <= a.head_size && column % L::kWidth == 0 && a.y.cb % L::kWidth == 0) {
      __builtin_memcpy(attention_code(a.y, token, column), codes, sizeof codes);
      continue;
    }
    for (uint32_t i = 0; i < L::kWidth && c + i < a.head_size; ++i)
      *attention_code(a.y, token, column + i) = codes[i];
  }
}

template <typename L>
static void attention_unit(const AttentionArgs& a, uint32_t sequence, uint32_t head, void* base) {
  const uint32_t start = a.starts[sequence], n = a.starts[sequence + 1] - start, d = a.head_size;
  const AttentionScratch<L> scratch(d, n, base);
  const uint32_t q = head * d, k = (a.heads + head) * d, v = (2 * a.heads + head) * d;
  centred_rows(a.qkv, start, n, k, d, scratch.keys, scratch.head, scratch.rows);
  pack_keys<L>(scratch.rows, scratch.keys, scratch.head, scratch.k);
  centred_rows(a.qkv, start, n, v, d, scratch.keys, scratch.head, scratch.rows);
  pack_values<L>(scratch.rows, scratch.keys, scratch.head, scratch.v);
  centred_rows(a.qkv, start, n, q, d, n + kQueries, scratch.head, scratch.rows);
  for (uint32_t first = 0; first < n; first += kQueries) {
    const uint32_t rows = n - first < kQueries ? n - first : kQueries;
    multiply_pairs<L>(scratch.rows + first * scratch.head, scratch.head, scratch.k, scratch.keys,
                      scratch.head, scratch.sums, scratch.keys);
    int32_t total[kQueries] = {};
    for (uint32_t i = 0; i < kQueries; ++i) {
      int16_t* p = scratch.p + i * scratch.keys;
      if (i < rows)
        total[i] =
            softmax_codes<L>(a, head, first + i, n, scratch.sums + i * scratch.keys, scratch, p);
      else
        for (size_t j = 0; j < scratch.keys; ++j) p[j] = 0;
    }
    multiply_pairs<L>(scratch.p, scratch.keys, scratch.v, scratch.head, scratch.keys, scratch.sums,
                      scratch.head);
    for (uint32_t i = 0; i < rows; ++i)
      write_codes<L>(a, head, start + first + i, scratch.sums + i * scratch.head, total[i]);
  }
}

template <typename L>
static void run_attention(const AttentionArgs& a, const WorkRange& range,
                          const KernelContext& context) {
  for (uint32_t unit = range.begin; unit < range.end; ++unit)
    attention_unit<L>(a, unit / a.heads, unit % a.heads, context.scratch);
}

}  // namespace
}  // namespace mpq::kernels
