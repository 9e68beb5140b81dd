// 8 codes at a time; rows are multiples of 4 codes, so a tail is 4 codes.

#include <immintrin.h>

#include "kernels/eltwise/rows.h"

namespace mpq::kernels {
namespace {

__m128i load(const uint8_t* p, size_t count) {
  uint64_t bytes = 0;
  __builtin_memcpy(&bytes, p, count);
  return _mm_cvtsi64_si128(static_cast<long long>(bytes));
}

void store(uint8_t* p, size_t count, __m128i codes) {
  const auto bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(codes));
  __builtin_memcpy(p, &bytes, count);
}

__m256 centred(__m128i codes, __m256i zero_point) {
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), zero_point));
}

// 8 codes in the low bytes.
__m128i codes_of(__m256 v, __m256 lo, __m256 hi) {
  const __m256i code = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi));
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
  return _mm_packus_epi16(words, words);
}

__m256 splat(int32_t bound) { return _mm256_set1_ps(static_cast<float>(bound)); }

struct Constants {
  __m256i a_zero, b_zero;
  __m256 a_scale, b_scale, bias, lo, hi, second_scale, second_bias, second_lo, second_hi;
};

// `count` codes; a constant at each call, so that the copies become single moves.
inline void add(const Constants& k, const uint8_t* a, const uint8_t* b, uint8_t* y, uint8_t* second,
                size_t count) {
  const __m256 inner = _mm256_fmadd_ps(centred(load(b, count), k.b_zero), k.b_scale, k.bias);
  const __m256 v = _mm256_fmadd_ps(centred(load(a, count), k.a_zero), k.a_scale, inner);
  store(y, count, codes_of(v, k.lo, k.hi));
  if (second != nullptr)
    store(second, count,
          codes_of(_mm256_fmadd_ps(v, k.second_scale, k.second_bias), k.second_lo, k.second_hi));
}

void run(const AddArgs& args, const WorkRange& range) {
  const AddShape& s = args.shape;
  const Constants k = {_mm256_set1_epi32(args.a_zero_point),
                       _mm256_set1_epi32(args.b_zero_point),
                       _mm256_set1_ps(args.a_scale),
                       _mm256_set1_ps(args.b_scale),
                       _mm256_set1_ps(args.bias),
                       splat(args.lo),
                       splat(args.hi),
                       _mm256_set1_ps(args.second_scale),
                       _mm256_set1_ps(args.second_bias),
                       splat(args.second_lo),
                       splat(args.second_hi)};
  const size_t row_bytes = size_t{s.w} * args.a.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const uint8_t* a = add_row(s, args.a, unit);
    const uint8_t* b = add_row(s, args.b, unit);
    uint8_t* y = add_row(s, args.y, unit);
    uint8_t* second = args.second.data != nullptr ? add_row(s, args.second, unit) : nullptr;
    size_t i = 0;
    for (; i + 8 <= row_bytes; i += 8)
      add(k, a + i, b + i, y + i, second != nullptr ? second + i : nullptr, 8);
    if (i < row_bytes) add(k, a + i, b + i, y + i, second != nullptr ? second + i : nullptr, 4);
  }
}

}  // namespace

const AddKernel add_u8_avx2 = {"add_u8_avx2", kIsaAvx2, run};

}  // namespace mpq::kernels
