// quantize: two orders of memory, 16 floats at a time. Channels contiguous (matrix rows): a pixel's
// channels become its bytes. Pixels contiguous and blocks of 4 (images): 16 pixels of up to 4
// channels become 16 dwords.
//
// image_quantize: a 256-entry table is 4 registers; vpermi2b looks 64 codes up in 2 of them by
// their low 7 bits, and bit 7 chooses between the halves.

#include <immintrin.h>

#include "kernels/math/lanes_avx512.h"
#include "kernels/quantize/rows.h"

namespace mpq::kernels {
namespace {

struct Constants {
  __m512 scale, lo, hi;
  __m512i zero_point;
};

__m512i codes_of(const Constants& k, const float* x, __mmask16 lanes) {
  const __m512 v = _mm512_div_ps(_mm512_maskz_loadu_ps(lanes, x), k.scale);
  const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, k.lo), k.hi));
  return _mm512_add_epi32(code, k.zero_point);
}

bool fits(const QuantizeArgs& a) {
  return a.strides.channel == 1 || (a.strides.pixel == 1 && a.y.cb == 4);
}

void quantize_channels(const Constants& k, const float* x, uint8_t* y, uint32_t channels) {
  for (uint32_t c = 0; c < channels; c += 16) {
    const __mmask16 lanes = Avx512Lanes::first(channels - c);
    _mm_mask_storeu_epi8(y + c, lanes, _mm512_cvtepi32_epi8(codes_of(k, x + c, lanes)));
  }
}

void quantize_pixels(const Constants& k, const float* x, ptrdiff_t channel_stride, uint8_t* y,
                     uint32_t width, uint32_t channels) {
  for (uint32_t i = 0; i < width; i += 16) {
    const __mmask16 lanes = Avx512Lanes::first(width - i);
    __m512i pixels = _mm512_setzero_si512();
    for (uint32_t c = 0; c < channels; ++c) {
      const __m512i code = codes_of(k, x + c * channel_stride + i, lanes);
      pixels = _mm512_or_si512(pixels,
                               _mm512_sll_epi32(code, _mm_cvtsi32_si128(8 * static_cast<int>(c))));
    }
    _mm512_mask_storeu_epi32(y + size_t{i} * 4, lanes, pixels);
  }
}

void run(const QuantizeArgs& a, const WorkRange& range) {
  const uint32_t cb = a.y.cb;
  const Constants k = {
      _mm512_set1_ps(a.scale), _mm512_set1_ps(static_cast<float>(a.lo - a.zero_point)),
      _mm512_set1_ps(static_cast<float>(a.hi - a.zero_point)), _mm512_set1_epi32(a.zero_point)};
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

struct Table256 {
  __m512i part[4];
};

Table256 load_table(const uint8_t* table) {
  return {{_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64),
           _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)}};
}

__m512i look_up(const Table256& t, __m512i index) {
  const __m512i low = _mm512_permutex2var_epi8(t.part[0], index, t.part[1]);
  const __m512i high = _mm512_permutex2var_epi8(t.part[2], index, t.part[3]);
  return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(index), high);
}

bool fits_rgb(const ImageQuantizeArgs& a) { return a.shape.c == 3 && a.y.cb == 4; }

// 16 pixels: 48 bytes r g b r g b ... spread to 64 bytes r g b 0 r g b 0 ...
void run_rgb(const ImageQuantizeArgs& a, const WorkRange& range) {
  alignas(64) uint8_t spread[64];
  for (uint32_t i = 0; i < 64; ++i) spread[i] = static_cast<uint8_t>(i / 4 * 3 + i % 4);
  const __m512i from = _mm512_load_si512(spread);
  constexpr __mmask64 kRed = 0x1111111111111111, kGreen = kRed << 1, kBlue = kRed << 2;
  const Table256 red = load_table(a.table), green = load_table(a.table + 256);
  const Table256 blue = load_table(a.table + 512);
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(a.shape, 4, unit);
    const uint8_t* pixels = a.pixels + (size_t{at.n} * a.shape.h + at.y) * a.shape.w * 3;
    uint8_t* y = codes_at(a.y, at);
    for (uint32_t x = 0; x < a.shape.w; x += 16) {
      const uint32_t count = a.shape.w - x < 16 ? a.shape.w - x : 16;
      const __mmask64 bytes = ~__mmask64{0} >> (64 - count * 3);
      const __m512i rgb =
          _mm512_permutexvar_epi8(from, _mm512_maskz_loadu_epi8(bytes, pixels + size_t{x} * 3));
      __m512i codes = _mm512_maskz_mov_epi8(kRed, look_up(red, rgb));
      codes = _mm512_mask_mov_epi8(codes, kGreen, look_up(green, rgb));
      codes = _mm512_mask_mov_epi8(codes, kBlue, look_up(blue, rgb));
      _mm512_mask_storeu_epi32(y + size_t{x} * 4, Avx512Lanes::first(count), codes);
    }
  }
}

}  // namespace

const QuantizeKernel quantize_f32_avx512vnni = {"quantize_f32_avx512vnni", kIsaAvx512Vnni, fits,
                                                run};
const ImageQuantizeKernel image_quantize_c3_avx512vnni = {"image_quantize_c3_avx512vnni",
                                                          kIsaAvx512Vnni, fits_rgb, run_rgb};

}  // namespace mpq::kernels
