// Direct convolution with vpdpbusd: any stride, any dilation, weights of 8, 4 or 2 bits.
//
// Work is cut into units (at most 14 neighbouring pixels of an output row) and panels (64 channels).
// Narrow weights are widened to int8 once a panel, into scratch, and then serve every pixel. Which
// loop is outside depends on the footprint: layers whose widened weights leave room in L2 keep them
// all and walk the pixels once, so activations stay in L1; others walk panel by panel and fetch the
// next panel's packed bytes into L2 meanwhile.

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/panels.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {
namespace {

constexpr size_t kResidentBytes = 512 * 1024;  // widened weights that may stay in L2 together

uint32_t blocks_of_row(const ConvShape& s) { return (s.ow + kMaxPixels - 1) / kMaxPixels; }
size_t panel_bytes(const ConvShape& s, uint32_t cb) { return panel_groups(s, cb) * kGroupBytes; }
bool all_resident(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * panel_bytes(s, cb) <= kResidentBytes;
}

// One GFNI affine map takes a field of every byte and sign-extends it. Row i of the matrix, from the
// top byte down, names the source bits of result bit i.
constexpr uint64_t field_matrix(uint32_t bits, uint32_t field) {
  uint64_t matrix = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t source = field * bits + (i < bits ? i : bits - 1);
    matrix |= (uint64_t{1} << source) << (8 * (7 - i));
  }
  return matrix;
}

template <uint32_t kBits>
void widen_panel(const uint8_t* packed, size_t groups, int8_t* wide) {
  constexpr uint32_t kFields = 8 / kBits;
  const size_t lines = groups * 4 / kFields;
  for (size_t i = 0; i < lines; ++i, packed += 64) {
    const __m512i line = _mm512_loadu_si512(packed);
#pragma GCC unroll 4
    for (uint32_t f = 0; f < kFields; ++f, wide += 64)
      _mm512_store_si512(wide, _mm512_gf2p8affine_epi64_epi8(
                                   line, _mm512_set1_epi64(static_cast<long long>(field_matrix(kBits, f))), 0));
  }
}

struct Unit {
  uint32_t image, y, x, pixels;
};

Unit unit_at(const ConvShape& s, uint32_t unit) {
  const uint32_t per_row = blocks_of_row(s), row = unit / per_row, i = unit % per_row;
  const uint32_t width = s.ow / per_row, extra = s.ow % per_row;  // balanced: widths differ by one
  return {row / s.oh, row % s.oh, i * width + (i < extra ? i : extra), width + (i < extra ? 1 : 0)};
}

alignas(64) constexpr int32_t kNoBias[kPanelChannels] = {};

void run_unit(const ConvArgs& a, TileArgs tile, const Unit& u, uint32_t panel, bool bounded) {
  const ConvShape& s = a.shape;
  const uint32_t channel = panel * kPanelChannels;
  alignas(64) int32_t sums[kMaxPixels * kPanelChannels];
  tile.x = a.x.data + u.image * a.x.image + static_cast<ptrdiff_t>(u.y) * s.stride_h * a.x.row +
           static_cast<ptrdiff_t>(u.x) * tile.pixel;
  tile.start = a.epilogue.acc_bias != nullptr ? a.epilogue.acc_bias + channel : kNoBias;
  tile.sums = sums;
  multiply_block(tile, u.pixels);
  const EpilogueBlock at = {.image = u.image,
                            .y = u.y,
                            .x = u.x,
                            .channel = channel,
                            .pixels = u.pixels,
                            .channels = s.o - channel < kPanelChannels ? s.o - channel : kPanelChannels,
                            .dense_at = ((size_t{u.image} * s.oh + u.y) * s.ow + u.x) * s.o + channel,
                            .dense_pixel = s.o};
  run_epilogue(sums, a.epilogue, a.y, a.dense, at, bounded);
}

TileArgs tile_args(const ConvArgs& a) {
  const ConvShape& s = a.shape;
  const uint32_t cb = a.x.cb;
  const bool joined = s.dilation_w == 1;  // the taps of a kernel row are one run
  return {.pixel = static_cast<ptrdiff_t>(s.stride_w) * cb,
          .blocks = (s.c + cb - 1) / cb,
          .rows = s.r,
          .taps = joined ? 1 : s.s,
          .block_step = a.x.plane,
          .row_step = static_cast<ptrdiff_t>(s.dilation_h) * a.x.row,
          .tap_step = static_cast<ptrdiff_t>(s.dilation_w) * cb,
          .groups = (joined ? s.s : 1) * (cb / 4)};
}

bool bounded_panel(const Epilogue& e, uint32_t panel) {
  return e.out == Elem::u8 && is_bounded(e, panel * kPanelChannels);
}

template <uint32_t kBits>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  const size_t groups = panel_groups(s, a.x.cb), wide_bytes = groups * kGroupBytes;
  const size_t packed_bytes = wide_bytes / 8 * kBits;
  const auto* packed = static_cast<const uint8_t*>(a.weights);
  auto* scratch = static_cast<int8_t*>(context.scratch);
  TileArgs tile = tile_args(a);

  if (all_resident(s, a.x.cb)) {
    if constexpr (kBits < 8)
      for (uint32_t p = part.panel_begin; p < part.panel_end; ++p)
        widen_panel<kBits>(packed + p * packed_bytes, groups,
                           scratch + (p - part.panel_begin) * wide_bytes);
    bool bounded = true;
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p)
      bounded = bounded && bounded_panel(a.epilogue, p);
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      const Unit u = unit_at(s, unit);
      for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
        tile.w = kBits == 8 ? reinterpret_cast<const int8_t*>(packed + p * packed_bytes)
                            : scratch + (p - part.panel_begin) * wide_bytes;
        run_unit(a, tile, u, p, bounded);
      }
    }
    return;
  }

  const uint32_t unit_count = part.unit_end - part.unit_begin;
  const size_t runs = size_t{tile.blocks} * tile.rows * tile.taps;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    tile.w = reinterpret_cast<const int8_t*>(packed + p * packed_bytes);
    if constexpr (kBits < 8) {
      widen_panel<kBits>(packed + p * packed_bytes, groups, scratch);
      tile.w = scratch;
    }
    const bool last = p + 1 == part.panel_end;
    const size_t share = packed_bytes / (size_t{unit_count} * runs * 128);  // two runs a unit
    tile.prefetch_bytes = last ? 0 : static_cast<uint32_t>((share + 1) * 128);
    const size_t unit_prefetch = tile.prefetch_bytes * runs;
    const bool bounded = bounded_panel(a.epilogue, p);
    for (uint32_t i = 0; i < unit_count; ++i) {
      // Past the end of the weights a prefetch is harmless but wasted.
      if (!last && i * unit_prefetch < packed_bytes)
        tile.prefetch = reinterpret_cast<const int8_t*>(packed + (p + 1) * packed_bytes + i * unit_prefetch);
      else
        tile.prefetch_bytes = 0;
      run_unit(a, tile, unit_at(s, part.unit_begin + i), p, bounded);
    }
  }
}

template <uint32_t kBits>
size_t packed_bytes(const ConvShape& s, uint32_t cb) {
  return panels_bytes(s, cb, kBits);
}

template <uint32_t kBits>
void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_panels(s, cb, kBits, canonical, packed);
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = s.n * s.oh * blocks_of_row(s);
  *panels = panel_count(s);
}

template <uint32_t kBits>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  if (kBits == 8) return 0;
  return all_resident(s, cb) ? panel_count(s) * panel_bytes(s, cb) : panel_bytes(s, cb);
}

float cost(const ConvShape&, uint32_t) { return 1.0F; }

template <uint32_t kBits>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,        kIsaAvx512Vnni, weights, 255, layout, panels_fit, packed_bytes<kBits>,
          pack<kBits>, units,          scratch_bytes<kBits>, run<kBits>, cost};
}

}  // namespace

const ConvKernel conv_u8s8_14x64_avx512vnni =
    row<8>("conv_u8s8_14x64_avx512vnni", Elem::s8, "panel64_s8_v1");
const ConvKernel conv_u8s4_14x64_avx512vnni =
    row<4>("conv_u8s4_14x64_avx512vnni", Elem::s4, "panel64_s4_v1");
const ConvKernel conv_u8s2_14x64_avx512vnni =
    row<2>("conv_u8s2_14x64_avx512vnni", Elem::s2, "panel64_s2_v1");

}  // namespace mpq::kernels
