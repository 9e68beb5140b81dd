// Convolution of images of fewer than 4 channels (thin.h), codes and weights of 8 bits in words of
// 16, any stride. A unit is a band of output rows, whose input lies in L1 as words without gaps.

#include "kernels/conv/epilogue_avx2.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/thin.h"
#include "kernels/conv/tile_avx2.h"
#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kBandRows = 4, kRowPixels = 24;  // pixels of a row at a time
constexpr int kUsualPairs = 11;                     // of a kernel row: 7 pixels of 3
constexpr size_t kOverrun = 32;  // that the last vector of a copied row is longer than the row

struct Band {
  uint32_t image, y, rows;
};
inline uint32_t bands_of_image(const ConvShape& s) { return ceil_div(s.oh, kBandRows); }
inline Band band_at(const ConvShape& s, uint32_t unit) {
  const uint32_t y = unit % bands_of_image(s) * kBandRows;
  return {unit / bands_of_image(s), y, min(kBandRows, s.oh - y)};
}
inline uint32_t input_rows(const ConvShape& s, uint32_t output_rows) {
  return (output_rows - 1) * s.stride_h + (s.r - 1) * s.dilation_h + 1;
}
inline uint32_t input_pixels(const ConvShape& s) { return (s.ow - 1) * s.stride_w + s.s; }
inline size_t offsets_bytes(const ConvShape& s) {
  return (s.r * thin_row_pairs(s) * sizeof(ptrdiff_t) + 63) / 64 * 64;
}

// Pixels of 4 bytes to c words each, 4 at a time.
void copy_row(const uint8_t* x, uint32_t pixels, uint32_t c, int16_t* to) {
  alignas(16) uint8_t order[16] = {};
  for (uint32_t i = 0; i < 4 * c; ++i) order[i] = static_cast<uint8_t>(i / c * 4 + i % c);
  const __m128i close = _mm_load_si128(reinterpret_cast<const __m128i*>(order));
  uint32_t i = 0;
  for (; i + 4 <= pixels; i += 4, x += 16, to += size_t{4} * c)
    store(to, _mm256_cvtepu8_epi16(
                  _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)), close)));
  for (; i < pixels; ++i, x += 4)
    for (uint32_t j = 0; j < c; ++j) *to++ = x[j];
}

void run_band(const ConvArgs& a, const ConvPart& part, const Band& band, TileArgs tile,
              const TileFn tiles[], int16_t* copy) {
  const ConvShape& s = a.shape;
  const size_t row_words = size_t{input_pixels(s)} * s.c;
  const uint8_t* x =
      a.x.data + band.image * a.x.image + static_cast<ptrdiff_t>(band.y) * s.stride_h * a.x.row;
  for (uint32_t i = 0; i < input_rows(s, band.rows); ++i, x += a.x.row)
    copy_row(x, input_pixels(s), s.c, copy + i * row_words);
  alignas(64) int32_t sums[kRowPixels * kPanelChannels];
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    const PanelForm form = panel_form(a.epilogue, p * kPanelChannels);
    for (uint32_t y = 0; y < band.rows; ++y)
      for (uint32_t at = 0; at < s.ow; at += kRowPixels) {
        const uint32_t width = min(s.ow - at, kRowPixels);
        const uint8_t* inputs[kRowPixels];
        for (uint32_t i = 0; i < width; ++i)
          inputs[i] = reinterpret_cast<const uint8_t*>(copy + y * s.stride_h * row_words +
                                                       size_t{at + i} * s.stride_w * s.c);
        const EpilogueBlock block = block_at(s, Unit{band.image, band.y + y, at, width}, p);
        for (uint32_t c = 0; c < channels_of_halves(s, p); c += kQuarterChannels) {
          tile.w = static_cast<const int8_t*>(a.weights) + (p * kPanelChannels + c) /
                                                               kQuarterChannels * s.r *
                                                               thin_row_pairs(s) * kQuarterGroup;
          tile.start = start_of(a, p) + c;
          tile.prefetch = tile.w;
          for (uint32_t i = 0; i < width; i += kTilePixels) {
            tile.pixels = inputs + i;
            tile.sums = sums + i * kPanelChannels + c;
            tiles[min(width - i, kTilePixels) - 1](tile);
          }
        }
        run_epilogues(sums, a, block, form);
      }
  }
}

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  auto* offsets = static_cast<ptrdiff_t*>(context.scratch);
  auto* copy =
      reinterpret_cast<int16_t*>(static_cast<uint8_t*>(context.scratch) + offsets_bytes(s));
  const auto row_bytes = static_cast<ptrdiff_t>(input_pixels(s) * s.c * sizeof(int16_t));
  // A step is a kernel row where it has the pairs of ImageNet's networks, else one pair.
  const bool whole = thin_row_pairs(s) == kUsualPairs;
  const TileFn* tiles = whole ? kTiles<kUsualPairs, Products::words> : kTiles<1, Products::words>;
  TileArgs tile = {};
  for (uint32_t r = 0; r < s.r; ++r)
    for (size_t i = 0; i < thin_row_pairs(s); i += whole ? kUsualPairs : 1)
      offsets[tile.steps++] =
          static_cast<ptrdiff_t>(r * s.dilation_h) * row_bytes + static_cast<ptrdiff_t>(4 * i);
  tile.offsets = offsets;
  tile.steps_at_once = tile.steps;
  for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit)
    run_band(a, part, band_at(s, unit), tile, tiles, copy);
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = s.n * bands_of_image(s);
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t) {
  const size_t words = size_t{input_rows(s, kBandRows)} * input_pixels(s) * s.c;
  return offsets_bytes(s) + (words * sizeof(int16_t) + kOverrun + 63) / 64 * 64;
}

// ResNet-50's first layer, Zen 3.
float cost(const ConvShape&, uint32_t, CpuFamily) { return 6.4F; }

}  // namespace

const ConvKernel conv_u8s8_thin_avx2 = {"conv_u8s8_thin_avx2",
                                        kIsaAvx2,
                                        Elem::s8,
                                        255,
                                        "thin16_s16_v1",
                                        thin_fits,
                                        thin_words_bytes,
                                        pack_thin_words,
                                        units,
                                        scratch_bytes,
                                        run,
                                        cost};

}  // namespace mpq::kernels
