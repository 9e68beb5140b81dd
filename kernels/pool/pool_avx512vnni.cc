// A pixel of a block is one register of codes (max) or cb / 16 registers of sums (average).

#include <immintrin.h>

#include "kernels/pool/rows.h"

namespace mpq::kernels {
namespace {

bool fits(const PoolShape&, uint32_t) { return true; }

void run_max(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  const __mmask64 block_mask = ~__mmask64{0} >> (64 - a.x.cb);
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const PoolUnit at = pool_unit(s, a.x.cb, unit);
    const PoolSpan rows = pool_rows(s, at.y);
    for (uint32_t x = 0; x < s.ow; ++x) {
      const PoolSpan columns = pool_columns(s, x);
      __m512i best = _mm512_setzero_si512();
      for (uint32_t i = rows.begin; i < rows.end; ++i) {
        const uint8_t* p = pool_pixel(a.x, at.n, at.block, i, columns.begin);
        for (uint32_t j = columns.begin; j < columns.end; ++j, p += a.x.cb)
          best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(block_mask, p));
      }
      _mm512_mask_storeu_epi8(pool_pixel(a.y, at.n, at.block, at.y, x), block_mask, best);
    }
  }
}

// Up to 16 channels of one output.
__m512 average(const PoolArgs& a, const PoolUnit& at, PoolSpan rows, PoolSpan columns,
               uint32_t channel, __mmask16 lanes) {
  __m512i sum = _mm512_setzero_si512();
  for (uint32_t i = rows.begin; i < rows.end; ++i) {
    const uint8_t* p = pool_pixel(a.x, at.n, at.block, i, columns.begin) + channel;
    for (uint32_t j = columns.begin; j < columns.end; ++j, p += a.x.cb)
      sum = _mm512_add_epi32(sum, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, p)));
  }
  const __m512i zero = _mm512_set1_epi32(pool_pixels(rows, columns) * a.zero_point);
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, zero)),
                         _mm512_set1_ps(a.multiplier), _mm512_set1_ps(a.bias));
}

void run_average(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  const uint32_t cb = a.x.cb, step = cb < 16 ? cb : 16;
  const auto lanes = static_cast<__mmask16>((1U << step) - 1);
  const __m512 lo = _mm512_set1_ps(static_cast<float>(a.lo));
  const __m512 hi = _mm512_set1_ps(static_cast<float>(a.hi));
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const PoolUnit at = pool_unit(s, cb, unit);
    const PoolSpan rows = pool_rows(s, at.y);
    for (uint32_t x = 0; x < s.ow; ++x) {
      const PoolSpan columns = pool_columns(s, x);
      for (uint32_t channel = 0; channel < cb; channel += step) {
        const __m512 v = average(a, at, rows, columns, channel, lanes);
        if (a.out == Elem::f32) {
          alignas(64) float values[16];
          _mm512_store_ps(values, v);
          const uint32_t c = at.block * cb + channel;
          for (uint32_t i = 0; i < step && c + i < s.c; ++i)
            a.dense[((size_t{at.n} * s.c + c + i) * s.oh + at.y) * s.ow + x] = values[i];
        } else {
          const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo), hi));
          _mm_mask_storeu_epi8(pool_pixel(a.y, at.n, at.block, at.y, x) + channel, lanes,
                               _mm512_cvtepi32_epi8(code));
        }
      }
    }
  }
}

}  // namespace

const PoolKernel max_pool_u8_avx512vnni = {"max_pool_u8_avx512vnni", kIsaAvx512Vnni, PoolKind::kMax,
                                           fits, run_max};
const PoolKernel avg_pool_u8_avx512vnni = {"avg_pool_u8_avx512vnni", kIsaAvx512Vnni,
                                           PoolKind::kAverage, fits, run_average};

}  // namespace mpq::kernels
