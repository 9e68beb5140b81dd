// How the AVX-512 rows that multiply by panels of 64 channels walk them, whatever they multiply by.
//
// Work is cut into units (neighbouring pixels of an output row) and panels. Narrow
// weights are widened to int8 once a panel, into scratch, and then serve every pixel. Which loop is
// outside depends on the footprint: layers whose widened weights leave room in L2 keep them all and
// walk the pixels once, so activations stay in L1; others walk panel by panel and fetch the next
// panel's packed bytes into L2 meanwhile. All static: each file compiles its own.
#pragma once

#include "kernels/conv/blocks.h"
#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/panels.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {

static constexpr size_t kResidentBytes =
    512 * 1024;  // widened weights that may stay in L2 together
// Panels whose forms of epilogue lie side by side.
static constexpr uint32_t kResidentPanels = 64;

static size_t wide_panel_bytes(const ConvShape& s, uint32_t cb) {
  return panel_groups(s, cb) * kGroupBytes;
}
static bool all_resident(const ConvShape& s, uint32_t cb) {
  return panel_count(s) <= kResidentPanels &&
         panel_count(s) * wide_panel_bytes(s, cb) <= kResidentBytes;
}

// A Method multiplies units by panels widened to int8:
//   kBits                        of packed weights; 8: used where they lie
//   kHeadBytes                   of a packed panel, before its k-groups
//   widen(groups, count, wide)   the panel's k-groups to 256 bytes each
//   start(head, start, buffer)   where accumulators of a panel start
//   kUnitPixels                  of a unit, at most
//   kFewPixels, kStretch         pixels whose sums may wait in L1 while so many k-groups are used
//   lines(groups, pixels)        of 64 bytes that multiply() prefetches
//   multiply(tile, pixels)       all 64 channels of a unit
//   correct(args, part, to)      what multiply() takes off the sums of each pixel, or nothing
template <typename Method>
static size_t packed_panel_bytes(size_t groups) {
  return Method::kHeadBytes + groups * kGroupBytes / 8 * Method::kBits;
}

// Of scratch.
template <typename Method>
static size_t wide_bytes(const ConvShape& s, uint32_t cb) {
  if (Method::kBits == 8) return 0;
  return (all_resident(s, cb) ? panel_count(s) : 1) * wide_panel_bytes(s, cb);
}

// Matrix products of these rows whose panels are shared out read a copy of their input. Codes of
// one pixel lie a plane apart, and Zen 4 prefetches a dozen such steps ahead, beyond the last plane
// into whatever follows: where another thread writes there, it waits for its lines again and again
// (BERT-base, two threads: 24.4 instead of 21.1 ms).
static size_t copy_bytes(const ConvShape& s, uint32_t cb) {
  const bool product =
      s.n == 1 && s.oh == 1 && s.r == 1 && s.s == 1 && s.ow > 1 && s.stride_w == 1 && cb == 64;
  return product ? (size_t{s.c} + 63) / 64 * s.ow * 64 : 0;
}
static Planes copy_planes(const ConvArgs& a, const ConvPart& part, uint8_t* to) {
  const ConvShape& s = a.shape;
  if (copy_bytes(s, a.x.cb) == 0 || part.panel_end - part.panel_begin == panel_count(s)) return a.x;
  const Planes copy = {.data = to, .plane = static_cast<ptrdiff_t>(s.ow) * 64, .cb = 64};
  const uint8_t* from = a.x.data;
  for (uint32_t c = 0; c < s.c; c += 64, from += a.x.plane, to += copy.plane)
    __builtin_memcpy(to, from, static_cast<size_t>(copy.plane));
  return copy;
}

// Of run_panels(), before what correct() makes.
template <typename Method>
static size_t walk_bytes(const ConvShape& s, uint32_t cb) {
  return offset_bytes(s, cb) + copy_bytes(s, cb) + wide_bytes<Method>(s, cb);
}

// What one call of run_panels() works on.
struct PanelWork {
  const ConvArgs& a;
  const ConvPart& part;
  size_t groups;               // of a panel
  const uint8_t* packed;       // all panels
  size_t packed_bytes;         // of a panel
  int8_t* wide;                // scratch for widened weights
  const int32_t* corrections;  // [unit][kUnitPixels], or null
  TileArgs tile;               // what is the same for all tiles
};

template <typename Method>
static const int32_t* corrections_of(const PanelWork& w, uint32_t unit) {
  return w.corrections == nullptr
             ? nullptr
             : w.corrections + size_t{unit - w.part.unit_begin} * Method::kUnitPixels;
}

template <typename Method>
static Unit unit_of(const ConvShape& s, uint32_t unit) {
  return unit_at(s, unit, Method::kUnitPixels);
}

template <typename Method>
__attribute__((always_inline)) static inline void run_unit(const PanelWork& w, TileArgs tile,
                                                           uint32_t unit, const Unit& u,
                                                           uint32_t panel, PanelForm form) {
  const ConvArgs& a = w.a;
  const EpilogueBlock at = block_at(a.shape, u, panel);
  prefetch_block(a.epilogue, a.y, at);
  alignas(64) int32_t sums[Method::kUnitPixels * kPanelChannels];
  tile.sums = sums;
  alignas(64) int32_t lowered[kPanelChannels];
  const uint8_t* head = w.packed + panel * w.packed_bytes;
  tile.start = Method::start(head, form_start(form, start_of(a, panel), lowered), lowered);
  tile.correction = corrections_of<Method>(w, unit);
  tile.x = input_of(a, u);
  Method::multiply(tile, u.pixels);
  run_epilogue(sums, a.epilogue, a.y, a.dense, at, form);
}

// Weights that fit: widened once, then pixels outside and panels inside.
template <typename Method>
static void run_resident(const PanelWork& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, corrections, common] = w;
  const size_t wide_bytes = groups * kGroupBytes;
  TileArgs tile = common;
  PanelForm forms[kResidentPanels];
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    forms[p] = panel_form(a.epilogue, p * kPanelChannels, panel_max_sum(groups, Method::kBits));
    if constexpr (Method::kBits < 8)
      Method::widen(packed + p * packed_bytes + Method::kHeadBytes, groups,
                    wide + (p - part.panel_begin) * wide_bytes);
  }
  for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
    const Unit u = unit_of<Method>(a.shape, unit);
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
      tile.w = Method::kBits == 8 ? reinterpret_cast<const int8_t*>(packed + p * packed_bytes)
                                  : wide + (p - part.panel_begin) * wide_bytes;
      run_unit<Method>(w, tile, unit, u, p, forms[p]);
    }
  }
}

// Larger weights: panels outside; the next panel's packed bytes come to L2 meanwhile.
template <typename Method>
static void run_by_panel(const PanelWork& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, corrections, common] = w;
  TileArgs tile = common;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    tile.w = reinterpret_cast<const int8_t*>(packed + p * packed_bytes);
    if constexpr (Method::kBits < 8) {
      Method::widen(packed + p * packed_bytes + Method::kHeadBytes, groups, wide);
      tile.w = wide;
    }
    const PanelForm form =
        panel_form(a.epilogue, p * kPanelChannels, panel_max_sum(groups, Method::kBits));
    const uint8_t* next = packed + (p + 1) * packed_bytes;
    const uint8_t* next_end = next + (p + 1 < part.panel_end ? packed_bytes : 0);
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      tile.prefetch_step = next < next_end ? 64 : 0;
      tile.prefetch = tile.prefetch_step != 0 ? reinterpret_cast<const int8_t*>(next) : wide;
      const Unit u = unit_of<Method>(a.shape, unit);
      next += 64 * Method::lines(groups, u.pixels);
      run_unit<Method>(w, tile, unit, u, p, form);
    }
  }
}

// Few pixels (the 7x7 layers, the classifier): a widened panel would cost a round trip to L2 for a
// handful of uses. So k is cut: a stretch is widened into L1 and used by all pixels, whose sums
// wait in L1 too.
template <typename Method>
static void run_few_pixels(const PanelWork& w) {
  const auto [a, part, groups, packed, packed_bytes, wide, corrections, common] = w;
  constexpr size_t kPackedGroup = kGroupBytes / 8 * Method::kBits, kStretch = Method::kStretch;
  alignas(64) int32_t sums[Method::kFewPixels * kPanelChannels];
  TileArgs tile = common;
  tile.w = wide;
  const uint8_t* const end = packed + part.panel_end * packed_bytes;
  for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
    const uint8_t* head = packed + p * packed_bytes;
    const uint8_t* from = head + Method::kHeadBytes;
    const PanelForm form =
        panel_form(a.epilogue, p * kPanelChannels, panel_max_sum(groups, Method::kBits));
    alignas(64) int32_t lowered[kPanelChannels];
    const int32_t* start = Method::start(head, form_start(form, start_of(a, p), lowered), lowered);
    for (size_t g = 0; g < groups; g += kStretch, from += kStretch * kPackedGroup) {
      tile.groups = groups - g < kStretch ? groups - g : kStretch;
      tile.offsets = common.offsets + g;
      Method::widen(from, tile.groups, wide);
      const uint8_t* next = from + kStretch * kPackedGroup;
      const uint8_t* next_end =
          next + kStretch * kPackedGroup < end ? next + kStretch * kPackedGroup : end;
      tile.sums = sums;
      for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
        const Unit u = unit_of<Method>(a.shape, unit);
        tile.start = g == 0 ? start : tile.sums;
        tile.start_step = g == 0 ? 0 : kPanelChannels;
        tile.correction = g == 0 ? corrections_of<Method>(w, unit) : nullptr;
        tile.prefetch_step = next < next_end ? 64 : 0;
        tile.prefetch = tile.prefetch_step != 0 ? reinterpret_cast<const int8_t*>(next) : wide;
        next += 64 * Method::lines(tile.groups, u.pixels);
        if (g + kStretch >= groups) prefetch_block(a.epilogue, a.y, block_at(a.shape, u, p));
        tile.x = input_of(a, u);
        Method::multiply(tile, u.pixels);
        tile.sums += u.pixels * kPanelChannels;
      }
    }
    const int32_t* done = sums;
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit) {
      const Unit u = unit_of<Method>(a.shape, unit);
      run_epilogue(done, a.epilogue, a.y, a.dense, block_at(a.shape, u, p), form);
      done += u.pixels * kPanelChannels;
    }
  }
}

template <typename Method>
static void run_panels(const ConvArgs& args, const ConvPart& part, const KernelContext& context) {
  ConvArgs a = args;
  const ConvShape& s = a.shape;
  const size_t groups = panel_groups(s, a.x.cb);
  auto* offsets = static_cast<ptrdiff_t*>(context.scratch);
  auto* copy = static_cast<uint8_t*>(context.scratch) + offset_bytes(s, a.x.cb);
  auto* wide = reinterpret_cast<int8_t*>(copy + copy_bytes(s, a.x.cb));
  a.x = copy_planes(args, part, copy);
  auto* corrections = reinterpret_cast<int32_t*>(wide + wide_bytes<Method>(s, a.x.cb));
  fill_offsets(a, offsets);
  const bool corrects = Method::correct(a, part, offsets, corrections);
  const PanelWork work = {.a = a,
                          .part = part,
                          .groups = groups,
                          .packed = static_cast<const uint8_t*>(a.weights),
                          .packed_bytes = packed_panel_bytes<Method>(groups),
                          .wide = wide,
                          .corrections = corrects ? corrections : nullptr,
                          .tile = {.pixel = static_cast<ptrdiff_t>(s.stride_w) * a.x.cb,
                                   .offsets = offsets,
                                   .groups = groups,
                                   .sums_step = kPanelChannels,
                                   .prefetch = wide}};
  uint32_t pixels = 0;
  for (uint32_t unit = part.unit_begin; unit < part.unit_end && pixels <= Method::kFewPixels;
       ++unit)
    pixels += unit_of<Method>(s, unit).pixels;
  if (Method::kBits < 8 && pixels <= Method::kFewPixels)
    run_few_pixels<Method>(work);
  else if (all_resident(s, a.x.cb))
    run_resident<Method>(work);
  else
    run_by_panel<Method>(work);
}

}  // namespace mpq::kernels
