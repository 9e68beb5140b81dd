// The two memory orders of quantize_avx512vnni.cc, 8 floats at a time; tails by masked loads.

#include <immintrin.h>

#include "kernels/quantize/rows.h"

namespace mpq::kernels {
namespace {

struct Constants {
  __m256 scale, lo, hi;
  __m256i zero_point;
};

// All ones in the first `count` lanes.
__m256i lanes8(uint32_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lane);
}

__m256i codes_of(const Constants& k, const float* x, __m256i lanes) {
  const __m256 v = _mm256_div_ps(_mm256_maskload_ps(x, lanes), k.scale);
  const __m256i code = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, k.lo), k.hi));
  return _mm256_add_epi32(code, k.zero_point);
}

bool fits(const QuantizeArgs& a) {
  return a.strides.channel == 1 || (a.strides.pixel == 1 && a.y.cb == 4);
}

void quantize_channels(const Constants& k, const float* x, uint8_t* y, uint32_t channels) {
  for (uint32_t c = 0; c < channels; c += 8) {
    const uint32_t count = channels - c < 8 ? channels - c : 8;
    const __m256i code = codes_of(k, x + c, lanes8(count));
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    const auto bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
    __builtin_memcpy(y + c, &bytes, count);
  }
}

void quantize_pixels(const Constants& k, const float* x, ptrdiff_t channel_stride, uint8_t* y,
                     uint32_t width, uint32_t channels) {
  for (uint32_t i = 0; i < width; i += 8) {
    const __m256i lanes = lanes8(width - i < 8 ? width - i : 8);
    __m256i pixels = _mm256_setzero_si256();
    for (uint32_t c = 0; c < channels; ++c) {
      const __m256i code = codes_of(k, x + c * channel_stride + i, lanes);
      const __m128i shift = _mm_cvtsi32_si128(8 * static_cast<int>(c));
      pixels = _mm256_or_si256(pixels, _mm256_sll_epi32(code, shift));
    }
    _mm256_maskstore_epi32(reinterpret_cast<int*>(y + size_t{i} * 4), lanes, pixels);
  }
}

void run(const QuantizeArgs& a, const WorkRange& range) {
  const uint32_t cb = a.y.cb;
  const Constants k = {
      _mm256_set1_ps(a.scale), _mm256_set1_ps(static_cast<float>(a.lo - a.zero_point)),
      _mm256_set1_ps(static_cast<float>(a.hi - a.zero_point)), _mm256_set1_epi32(a.zero_point)};
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(a.shape, cb, unit);
    const uint32_t channels = codes_channels(a.shape, cb, at.block);
    const float* x = a.x + dense_at(a.strides, at, cb);
    uint8_t* y = codes_at(a.y, at);
    if (a.strides.channel == 1) {
      for (uint32_t i = 0; i < a.shape.w; ++i)
        quantize_channels(k, x + i * a.strides.pixel, y + size_t{i} * cb, channels);
    } else {
      quantize_pixels(k, x, a.strides.channel, y, a.shape.w, channels);
    }
  }
}

}  // namespace

const QuantizeKernel quantize_f32_avx2 = {"quantize_f32_avx2", kIsaAvx2, fits, run};

}  // namespace mpq::kernels
