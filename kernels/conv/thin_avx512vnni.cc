// Convolution of images of fewer than 4 channels (thin.h), 8-bit weights, any stride.

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/thin.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {
namespace {

constexpr size_t kOverrun = 64;  // that the last vector of a copied row is longer than the row

// The copy of the input under some rows of one image's output.
struct ThinRows {
  uint32_t first, count;  // input rows
  uint32_t pixels;        // of each
  ptrdiff_t row;          // bytes from one to the next
};
ThinRows thin_rows(const ConvShape& s, uint32_t y_begin, uint32_t y_end) {
  const uint32_t pixels = (s.ow - 1) * s.stride_w + s.s;
  return {.first = y_begin * s.stride_h,
          .count = (y_end - 1 - y_begin) * s.stride_h + (s.r - 1) * s.dilation_h + 1,
          .pixels = pixels,
          .row = static_cast<ptrdiff_t>(pixels) * s.c};
}
size_t copy_bytes(const ConvShape& s) {
  const ThinRows rows = thin_rows(s, 0, s.oh);
  return (static_cast<size_t>(rows.row) * rows.count + kOverrun + 63) / 64 * 64;
}

size_t scratch_bytes(const ConvShape& s, uint32_t) {
  return (thin_groups(s) * sizeof(ptrdiff_t) + 63) / 64 * 64 + copy_bytes(s);
}

// 16 pixels of 4 bytes at a time to the front of a vector, whose rest the next one covers.
void copy_rows(const ConvArgs& a, uint32_t image, const ThinRows& rows, uint8_t* to) {
  const uint32_t c = a.shape.c;
  alignas(64) uint8_t from[64] = {};
  for (uint32_t i = 0; i < 16 * c; ++i) from[i] = static_cast<uint8_t>(i / c * 4 + i % c);
  const __m512i order = _mm512_load_si512(from);
  const uint8_t* x = a.x.data + image * a.x.image + rows.first * a.x.row;
  for (uint32_t y = 0; y < rows.count; ++y, x += a.x.row, to += rows.row)
    for (uint32_t i = 0; i < rows.pixels; i += 16)
      _mm512_storeu_si512(
          to + size_t{i} * c,
          _mm512_permutexvar_epi8(
              order, _mm512_maskz_loadu_epi32(Avx512Lanes::first(rows.pixels - i), x + i * 4)));
}

// Units of one image.
void run_image(const ConvArgs& a, const ConvPart& part, const TileArgs& common, uint8_t* copy) {
  const ConvShape& s = a.shape;
  const size_t panel_bytes = thin_groups(s) * kGroupBytes;
  const Unit first = unit_at(s, part.unit_begin);
  const ThinRows rows = thin_rows(s, first.y, unit_at(s, part.unit_end - 1).y + 1);
  copy_rows(a, first.image, rows, copy);
  alignas(64) int32_t sums[kMaxPixels * kPanelChannels];
  TileArgs tile = common;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    const PanelForm form =
        panel_form(a.epilogue, p * kPanelChannels, panel_max_sum(thin_groups(s), 8));
    alignas(64) int32_t lowered[kPanelChannels];
    const int32_t* start = form_start(form, start_of(a, p), lowered);
    const auto* w = static_cast<const int8_t*>(a.weights) + p * panel_bytes;
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      const Unit u = unit_at(s, unit);
      const uint32_t channels = pass_channels(u.pixels);
      tile.x = copy + static_cast<ptrdiff_t>(u.y * s.stride_h - rows.first) * rows.row +
               static_cast<ptrdiff_t>(u.x) * tile.pixel;
      for (uint32_t c = 0; c < kPanelChannels; c += channels) {
        tile.w = w + size_t{4} * c;
        tile.start = start + c;
        tile.sums = sums + c;
        kTiles[u.pixels](tile);
      }
      run_epilogue(sums, a.epilogue, a.y, a.dense, block_at(s, u, p), form);
    }
  }
}

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  auto* offsets = static_cast<ptrdiff_t*>(context.scratch);
  auto* copy =
      static_cast<uint8_t*>(context.scratch) + (thin_groups(s) * sizeof(ptrdiff_t) + 63) / 64 * 64;
  const ptrdiff_t row = thin_rows(s, 0, 1).row;
  for (uint32_t r = 0, g = 0; r < s.r; ++r)
    for (size_t i = 0; i < thin_row_groups(s); ++i, ++g)
      offsets[g] = static_cast<ptrdiff_t>(r) * s.dilation_h * row + static_cast<ptrdiff_t>(4 * i);
  const TileArgs tile = {.pixel = static_cast<ptrdiff_t>(s.stride_w) * s.c,
                         .offsets = offsets,
                         .groups = thin_groups(s),
                         .sums_step = kPanelChannels,
                         .prefetch = static_cast<const int8_t*>(a.weights)};
  const uint32_t image_units = s.oh * blocks_of_row(s);
  for (uint32_t unit = part.unit_begin; unit < part.unit_end;) {
    const uint32_t end = (unit / image_units + 1) * image_units;
    ConvPart now = part;
    now.unit_begin = unit;
    now.unit_end = unit = end < part.unit_end ? end : part.unit_end;
    run_image(a, now, tile, copy);
  }
}

}  // namespace

const ConvKernel conv_u8s8_thin_avx512vnni = {"conv_u8s8_thin_avx512vnni",
                                              kIsaAvx512Vnni,
                                              Elem::s8,
                                              255,
                                              "thin64_s8_v1",
                                              thin_fits,
                                              thin_bytes,
                                              pack_thin,
                                              row_units<kMaxPixels>,
                                              scratch_bytes,
                                              run,
                                              thin_cost};

}  // namespace mpq::kernels
