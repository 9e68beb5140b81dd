// Blocks of 16 channels and more: 16 bytes of codes (max) or 8 sums (average) at a time.

#include <immintrin.h>

#include "kernels/math/lanes.h"
#include "kernels/math/lanes_avx2.h"
#include "kernels/pool/rows.h"

namespace mpq::kernels {
namespace {

bool fits(const PoolShape&, uint32_t cb) { return cb % 16 == 0; }

void run_max(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const PoolUnit at = pool_unit(s, a.x.cb, unit);
    const PoolSpan rows = pool_rows(s, at.y);
    for (uint32_t x = 0; x < s.ow; ++x) {
      const PoolSpan columns = pool_columns(s, x);
      uint8_t* y = pool_pixel(a.y, at.n, at.block, at.y, x);
      for (uint32_t channel = 0; channel < a.x.cb; channel += 16) {
        __m128i best = _mm_setzero_si128();
        for (uint32_t i = rows.begin; i < rows.end; ++i) {
          const uint8_t* p = pool_pixel(a.x, at.n, at.block, i, columns.begin) + channel;
          for (uint32_t j = columns.begin; j < columns.end; ++j, p += a.x.cb)
            best = _mm_max_epu8(best, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y + channel), best);
      }
    }
  }
}

// 8 channels of one output.
__m256 average(const PoolArgs& a, const PoolUnit& at, PoolSpan rows, PoolSpan columns,
               uint32_t channel) {
  __m256i sum = _mm256_setzero_si256();
  for (uint32_t i = rows.begin; i < rows.end; ++i) {
    const uint8_t* p = pool_pixel(a.x, at.n, at.block, i, columns.begin) + channel;
    for (uint32_t j = columns.begin; j < columns.end; ++j, p += a.x.cb) {
      const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      sum = _mm256_add_epi32(sum, _mm256_cvtepu8_epi32(codes));
    }
  }
  const __m256i zero = _mm256_set1_epi32(pool_pixels(rows, columns) * a.zero_point);
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum, zero)),
                         _mm256_set1_ps(a.multiplier), _mm256_set1_ps(a.bias));
}

void run_average(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  const uint32_t cb = a.x.cb;
  const auto lo = static_cast<float>(a.lo);
  const auto hi = static_cast<float>(a.hi);
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const PoolUnit at = pool_unit(s, cb, unit);
    const PoolSpan rows = pool_rows(s, at.y);
    for (uint32_t x = 0; x < s.ow; ++x) {
      const PoolSpan columns = pool_columns(s, x);
      for (uint32_t channel = 0; channel < cb; channel += 8) {
        const __m256 v = average(a, at, rows, columns, channel);
        if (a.out == Elem::f32) {
          alignas(32) float values[8];
          _mm256_store_ps(values, v);
          const uint32_t c = at.block * cb + channel;
          for (uint32_t i = 0; i < 8 && c + i < s.c; ++i)
            a.dense[((size_t{at.n} * s.c + c + i) * s.oh + at.y) * s.ow + x] = values[i];
        } else {
          uint8_t* y = pool_pixel(a.y, at.n, at.block, at.y, x) + channel;
          store_clamped<Avx2Lanes>(y, v, lo, hi);
        }
      }
    }
  }
}

}  // namespace

const PoolKernel max_pool_u8_avx2 = {"max_pool_u8_avx2", kIsaAvx2, PoolKind::kMax, fits, run_max};
const PoolKernel avg_pool_u8_avx2 = {"avg_pool_u8_avx2", kIsaAvx2, PoolKind::kAverage, fits,
                                     run_average};

}  // namespace mpq::kernels
