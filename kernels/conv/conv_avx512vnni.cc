// Direct convolution with vpdpbusd: any stride, any dilation, weights of 8, 4 or 2 bits.
//
// Work is cut into units (at most 14 neighbouring pixels of an output row) and panels (64
// channels). Narrow weights are widened to int8 once a panel, into scratch, and then serve every
// pixel. Which loop is outside depends on the footprint: layers whose widened weights leave room in
// L2 keep them all and walk the pixels once, so activations stay in L1; others walk panel by panel
// and fetch the next panel's packed bytes into L2 meanwhile.

#include "kernels/conv/blocks.h"
#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/panels.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {
namespace {

constexpr size_t kResidentBytes = 512 * 1024;  // widened weights that may stay in L2 together

constexpr uint32_t kFewPixels = 64;  // pixels whose sums (16 KB) may wait in L1 ...
constexpr size_t kStretch = 64;      // ... while so many k-groups (16 KB) are used

size_t panel_bytes(const ConvShape& s, uint32_t cb) { return panel_groups(s, cb) * kGroupBytes; }
bool all_resident(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * panel_bytes(s, cb) <= kResidentBytes;
}

template <uint32_t kBits>
void widen(const uint8_t* packed, size_t groups, int8_t* wide) {
  constexpr uint32_t kFields = 8 / kBits;
  const size_t lines = groups * 4 / kFields;
  for (size_t i = 0; i < lines; ++i, packed += 64) {
    const __m512i line = _mm512_loadu_si512(packed);
#pragma GCC unroll 4
    for (uint32_t f = 0; f < kFields; ++f, wide += 64)
      _mm512_store_si512(wide, widen_field<kBits>(line, f));
  }
}

// What one call of run() works on.
struct Work {
  const ConvArgs& a;
  const ConvPart& part;
  size_t groups;          // of a panel
  const uint8_t* packed;  // all panels
  size_t packed_bytes;    // of a panel
  int8_t* wide;           // scratch for widened weights
  TileArgs tile;          // what is the same for all tiles
};

// All 64 channels of a unit; tile has everything set but x.
void multiply_unit(TileArgs tile, const ConvArgs& a, const Unit& u) {
  const uint32_t channels = pass_channels(u.pixels);
  const TileFn multiply = kTiles[u.pixels];
  tile.x = input_of(a, u);
  for (uint32_t c = 0; c < kPanelChannels; c += channels) {
    multiply(tile);
    tile.w += 4 * channels;
    tile.start += channels;
    tile.sums += channels;
    tile.prefetch += tile.groups * tile.prefetch_step;
  }
}

void run_unit(const ConvArgs& a, TileArgs tile, const Unit& u, uint32_t panel, PanelForm form) {
  const EpilogueBlock at = block_at(a.shape, u, panel);
  prefetch_block(a.epilogue, a.y, at);
  alignas(64) int32_t sums[kMaxPixels * kPanelChannels];
  tile.sums = sums;
  alignas(64) int32_t lowered[kPanelChannels];
  tile.start = form_start(form, start_of(a, panel), lowered);
  multiply_unit(tile, a, u);
  run_epilogue(sums, a.epilogue, a.y, a.dense, at, form);
}

template <uint32_t kBits>
int64_t max_sum(size_t groups) {
  return static_cast<int64_t>(groups) * 4 * 255 * (1 << (kBits - 1));
}

// Weights that fit: widened once, then pixels outside and panels inside.
template <uint32_t kBits>
void run_resident(const Work& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, common] = w;
  const size_t wide_bytes = groups * kGroupBytes;
  TileArgs tile = common;
  PanelForm form =
      panel_form(a.epilogue, part.panel_begin * kPanelChannels, max_sum<kBits>(groups));
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    form = weaker(form, panel_form(a.epilogue, p * kPanelChannels, max_sum<kBits>(groups)));
    if constexpr (kBits < 8)
      widen<kBits>(packed + p * packed_bytes, groups, wide + (p - part.panel_begin) * wide_bytes);
  }
  for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
    const Unit u = unit_at(a.shape, unit);
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
      tile.w = kBits == 8 ? reinterpret_cast<const int8_t*>(packed + p * packed_bytes)
                          : wide + (p - part.panel_begin) * wide_bytes;
      run_unit(a, tile, u, p, form);
    }
  }
}

// Larger weights: panels outside; the next panel's packed bytes come to L2 meanwhile.
template <uint32_t kBits>
void run_by_panel(const Work& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, common] = w;
  TileArgs tile = common;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    tile.w = reinterpret_cast<const int8_t*>(packed + p * packed_bytes);
    if constexpr (kBits < 8) {
      widen<kBits>(packed + p * packed_bytes, groups, wide);
      tile.w = wide;
    }
    const PanelForm form = panel_form(a.epilogue, p * kPanelChannels, max_sum<kBits>(groups));
    const uint8_t* next = packed + (p + 1) * packed_bytes;
    const uint8_t* next_end = next + (p + 1 < part.panel_end ? packed_bytes : 0);
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      const Unit u = unit_at(a.shape, unit);
      tile.prefetch_step = next < next_end ? 64 : 0;
      tile.prefetch = tile.prefetch_step != 0 ? reinterpret_cast<const int8_t*>(next) : wide;
      next += 64 * groups * (kPanelChannels / pass_channels(u.pixels));
      run_unit(a, tile, u, p, form);
    }
  }
}

// Few pixels (the 7x7 layers, the classifier): a widened panel would cost a round trip to L2 for a
// handful of uses. So k is cut: a stretch is widened into L1 and used by all pixels, whose sums
// wait in L1 too.
template <uint32_t kBits>
void run_few_pixels(const Work& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, common] = w;
  constexpr size_t kPackedGroup = kGroupBytes / 8 * kBits;
  alignas(64) int32_t sums[kFewPixels * kPanelChannels];
  TileArgs tile = common;
  tile.w = wide;
  const uint8_t* const end = packed + part.panel_end * packed_bytes;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    const uint8_t* from = packed + p * packed_bytes;
    const PanelForm form = panel_form(a.epilogue, p * kPanelChannels, max_sum<kBits>(groups));
    alignas(64) int32_t lowered[kPanelChannels];
    const int32_t* start = form_start(form, start_of(a, p), lowered);
    for (size_t g = 0; g < groups; g += kStretch, from += kStretch * kPackedGroup) {
      tile.groups = groups - g < kStretch ? groups - g : kStretch;
      tile.offsets = common.offsets + g;
      widen<kBits>(from, tile.groups, wide);
      const uint8_t* next = from + kStretch * kPackedGroup;
      const uint8_t* next_end =
          next + kStretch * kPackedGroup < end ? next + kStretch * kPackedGroup : end;
      tile.sums = sums;
      for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
        const Unit u = unit_at(a.shape, unit);
        tile.start = g == 0 ? start : tile.sums;
        tile.start_step = g == 0 ? 0 : kPanelChannels;
        tile.prefetch_step = next < next_end ? 64 : 0;
        tile.prefetch = tile.prefetch_step != 0 ? reinterpret_cast<const int8_t*>(next) : wide;
        next += 64 * tile.groups * (kPanelChannels / pass_channels(u.pixels));
        if (g + kStretch >= groups) prefetch_block(a.epilogue, a.y, block_at(a.shape, u, p));
        multiply_unit(tile, a, u);
        tile.sums += u.pixels * kPanelChannels;
      }
    }
    const int32_t* done = sums;
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      const Unit u = unit_at(a.shape, unit);
      run_epilogue(done, a.epilogue, a.y, a.dense, block_at(a.shape, u, p), form);
      done += u.pixels * kPanelChannels;
    }
  }
}

template <uint32_t kBits>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  const size_t groups = panel_groups(s, a.x.cb);
  auto* offsets = static_cast<ptrdiff_t*>(context.scratch);
  auto* wide = static_cast<int8_t*>(context.scratch) + offset_bytes(s, a.x.cb);
  fill_offsets(a, offsets);
  const Work work = {.a = a,
                     .part = part,
                     .groups = groups,
                     .packed = static_cast<const uint8_t*>(a.weights),
                     .packed_bytes = groups * kGroupBytes / 8 * kBits,
                     .wide = wide,
                     .tile = {.pixel = static_cast<ptrdiff_t>(s.stride_w) * a.x.cb,
                              .offsets = offsets,
                              .groups = groups,
                              .sums_step = kPanelChannels,
                              .prefetch = wide}};
  uint32_t pixels = 0;
  for (uint32_t unit = part.unit_begin; unit < part.unit_end && pixels <= kFewPixels; ++unit)
    pixels += unit_at(s, unit).pixels;
  if (kBits < 8 && pixels <= kFewPixels)
    run_few_pixels<kBits>(work);
  else if (all_resident(s, a.x.cb))
    run_resident<kBits>(work);
  else
    run_by_panel<kBits>(work);
}

template <uint32_t kBits>
size_t packed_bytes(const ConvShape& s, uint32_t cb) {
  return panels_bytes(s, cb, kBits);
}

template <uint32_t kBits>
void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_panels(s, cb, kBits, canonical, packed);
}

template <uint32_t kBits>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  if (kBits == 8) return offset_bytes(s, cb);
  const size_t panels = all_resident(s, cb) ? panel_count(s) : 1;
  const size_t wide_bytes = panels * panel_bytes(s, cb);
  return offset_bytes(s, cb) + wide_bytes;
}

float cost(const ConvShape&, uint32_t) { return 1.0F; }

template <uint32_t kBits>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,
          kIsaAvx512Vnni,
          weights,
          255,
          layout,
          panels_fit,
          packed_bytes<kBits>,
          pack<kBits>,
          row_units,
          scratch_bytes<kBits>,
          run<kBits>,
          cost};
}

}  // namespace

const ConvKernel conv_u8s8_14x64_avx512vnni =
    row<8>("conv_u8s8_14x64_avx512vnni", Elem::s8, "panel64_s8_v1");
const ConvKernel conv_u8s4_14x64_avx512vnni =
    row<4>("conv_u8s4_14x64_avx512vnni", Elem::s4, "panel64_s4_v1");
const ConvKernel conv_u8s2_14x64_avx512vnni =
    row<2>("conv_u8s2_14x64_avx512vnni", Elem::s2, "panel64_s2_v1");

}  // namespace mpq::kernels
