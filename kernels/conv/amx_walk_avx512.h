// How the AMX rows walk panels of 64 channels (panels.h): tiles of 16 pixels in pairs, times 32
// channels, in four tile registers of sums.
//
// An output row's pixels lie at a constant step in the input, so a tile of codes is one load from
// where they are, whatever the kernel, the stride or the dilation. Where the input's rows continue
// that step (stride 1, or rows of no halo), a tile runs over the ends of rows: it then computes a
// few "pixels" of the halo too, which are dropped, and 7 x 7 images do not leave half of each tile
// empty. The last tile of a run steps back to be whole: what it computes twice has the same bytes.
//
// Narrow weights are widened to int8 in front of their first use, a few k-blocks ahead, by the
// vector ports that idle while tiles multiply; so does the epilogue of the tiles before.
//
// Tiles: NativeTiles, or the tests' model of them. All static: each file compiles its own.
#pragma once

#include "kernels/conv/blocks.h"
#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/panels.h"
#include "kernels/conv/tiles_amx.h"
#include "kernels/conv/widen_avx512.h"

namespace mpq::kernels {

static constexpr uint32_t kTilePixels = 16;
static constexpr size_t kHalf = 32;                       // channels of a pass
static constexpr size_t kAmxResidentBytes = 1024 * 1024;  // widened weights that stay in L2
static constexpr size_t kLead = 3;                        // k-blocks between widening and use
static constexpr size_t kRing = 8;                        // k-blocks kept if used once
static constexpr uint32_t kSliceMin = 2;                  // pixels of an epilogue's slice

// k in blocks of at most 64 codes that lie together in memory, all of one length.
struct KBlocks {
  uint32_t groups;  // k-groups (4 k) of a block
  size_t count;
  KBlocks(const ConvShape& s, uint32_t cb) {
    const uint32_t run = (s.dilation_w == 1 ? s.s : 1) * (cb / 4);  // k-groups that lie together
    uint32_t pieces = (run + 15) / 16;
    while (run % pieces != 0) ++pieces;
    groups = run / pieces;
    count = panel_groups(s, cb) / groups;
  }
};

// Runs of pixels whose inputs lie at one step: whole images, or rows.
struct Runs {
  uint32_t rows;   // output rows of a run
  uint32_t pitch;  // steps from a row of it to the next
  explicit Runs(const ConvArgs& a) : rows(1), pitch(a.shape.ow) {
    const ConvShape& s = a.shape;
    const ptrdiff_t step = static_cast<ptrdiff_t>(s.stride_w) * a.x.cb,
                    row = static_cast<ptrdiff_t>(s.stride_h) * a.x.row;
    if (s.oh == 1 || row % step != 0 || row / step < s.ow) return;
    const uint64_t steps = static_cast<uint64_t>(row / step), all = (s.oh - 1) * steps + s.ow;
    if ((all + 15) / 16 > uint64_t{s.oh} * ((s.ow + 15) / 16)) return;
    rows = s.oh;
    pitch = static_cast<uint32_t>(steps);
  }
};

// Up to 16 neighbours of a run, of which [begin, end) are this tile's to write.
struct Tile {
  const uint8_t* x = nullptr;
  uint32_t image = 0, row = 0;  // of the run's first pixel
  uint32_t first = 0, pixels = 0, begin = 0, end = 0;
};

static uint64_t pixels_of(const ConvShape& s) { return uint64_t{s.n} * s.oh * s.ow; }
[[maybe_unused]] static void amx_units(const ConvShape& s, uint32_t* units, uint32_t* panels) {
  *units = static_cast<uint32_t>((pixels_of(s) + kTilePixels - 1) / kTilePixels);
  *panels = panel_count(s);
}

// The tiles of a part, in order.
class TileWalk {
 public:
  TileWalk(const ConvArgs& a, const ConvPart& part) : a_(a), runs_(a) {
    uint32_t units = 0, panels = 0;
    amx_units(a.shape, &units, &panels);
    next_ = pixels_of(a.shape) * part.unit_begin / units;
    end_ = pixels_of(a.shape) * part.unit_end / units;
  }
  const Runs& runs() const { return runs_; }

  // False at the end.
  bool next(Tile* tile) {
    const ConvShape& s = a_.shape;
    if (at_ == to_) {
      if (next_ == end_) return false;
      const uint64_t run_pixels = uint64_t{runs_.rows} * s.ow, run = next_ / run_pixels;
      const uint64_t stop = (run + 1) * run_pixels < end_ ? (run + 1) * run_pixels : end_;
      const uint32_t runs_per_image = s.oh / runs_.rows;
      image_ = static_cast<uint32_t>(run / runs_per_image);
      row_ = static_cast<uint32_t>(run % runs_per_image) * runs_.rows;
      at_ = from_ = step_of(static_cast<uint32_t>(next_ - run * run_pixels));
      to_ = step_of(static_cast<uint32_t>(stop - 1 - run * run_pixels)) + 1;
      next_ = stop;
    }
    const uint32_t length = to_ - from_;
    tile->pixels = length < kTilePixels ? length : kTilePixels;
    tile->begin = at_;
    tile->end = at_ + kTilePixels < to_ ? at_ + kTilePixels : to_;
    tile->first = tile->end - at_ == tile->pixels ? at_ : to_ - tile->pixels;
    tile->image = image_;
    tile->row = row_;
    tile->x = a_.x.data + image_ * a_.x.image +
              static_cast<ptrdiff_t>(row_) * s.stride_h * a_.x.row +
              static_cast<ptrdiff_t>(tile->first) * s.stride_w * a_.x.cb;
    at_ = tile->end;
    return true;
  }

 private:
  uint32_t step_of(uint32_t pixel) const {
    return pixel / a_.shape.ow * runs_.pitch + pixel % a_.shape.ow;
  }
  const ConvArgs& a_;
  Runs runs_;
  uint64_t next_ = 0, end_ = 0;                                // pixels not yet in a run
  uint32_t image_ = 0, row_ = 0, from_ = 0, at_ = 0, to_ = 0;  // the run, in steps
};

// Sums that wait for their epilogue, which runs in slices while the next tiles multiply.
class Pending {
 public:
  // All earlier ones are written.
  void set(const ConvArgs& a, const Runs& runs, const Tile tiles[2], int count, uint32_t panel,
           PanelForm form, const int32_t* sums) {
    a_ = &a;
    form_ = form;
    count_ = 0;
    left_ = 0;
    for (int t = 0; t < count; ++t) {
      const Tile& tile = tiles[t];
      for (uint32_t at = tile.begin; at < tile.end;) {
        const uint32_t y = at / runs.pitch, x = at % runs.pitch;
        if (x >= a.shape.ow) {  // halo
          at += runs.pitch - x;
          continue;
        }
        const uint32_t rest = tile.end - at, room = a.shape.ow - x;
        const Unit u = {tile.image, tile.row + y, x, rest < room ? rest : room};
        sums_[count_] = sums + (t * kTilePixels + at - tile.first) * kPanelChannels;
        blocks_[count_++] = block_at(a.shape, u, panel);
        left_ += u.pixels;
        at += u.pixels;
      }
    }
    next_ = 0;
  }
  uint32_t left() const { return left_; }

  void write(uint32_t pixels) {
    if (pixels > left_) pixels = left_;
    left_ -= pixels;
    while (pixels > 0) {
      EpilogueBlock& block = blocks_[next_];
      const EpilogueBlock rest = block;
      if (block.pixels > pixels) block.pixels = pixels;
      run_epilogue(sums_[next_], a_->epilogue, a_->y, a_->dense, block, form_);
      pixels -= block.pixels;
      if (block.pixels == rest.pixels) {
        ++next_;
        continue;
      }
      sums_[next_] += block.pixels * kPanelChannels;
      const uint32_t done = block.pixels;
      block = rest;
      block.x += done;
      block.dense_at += done * block.dense_pixel;
      block.pixels -= done;
    }
  }

 private:
  const ConvArgs* a_ = nullptr;
  PanelForm form_ = {};
  uint32_t count_ = 0, next_ = 0, left_ = 0;
  EpilogueBlock blocks_[2 * kTilePixels];
  const int32_t* sums_[2 * kTilePixels];
};

// One pass: one or two tiles times half a panel.
struct Pass {
  const Tile* tiles;
  size_t pixel;              // bytes from a pixel's codes to the next one's
  const ptrdiff_t* offsets;  // of every k-group
  KBlocks blocks;
  const uint8_t* packed;  // the half's first k-group, where it is widened on the way
  int8_t* wide;           // the half's widened weights, or null: `packed` is 8 bits wide
  size_t kept;            // k-blocks that `wide` holds
  const int32_t* start;   // 32
  int32_t* sums;          // [32 pixels][64]
  uint32_t slice;         // pixels of pending epilogues a k-block
  const uint8_t* prefetch;
  size_t prefetch_lines;  // a k-block
};

template <typename Tiles, uint32_t kBits, int kTiles, bool kWiden>
static void multiply_half(Tiles& t, const Pass& p, uint32_t half, Pending* pending) {
  constexpr size_t kPackedGroup = kGroupBytes / 8 * kBits;
  constexpr size_t kWideGroup = kBits == 8 ? kGroupBytes : kGroupBytes / 2;
  const uint32_t groups = p.blocks.groups;
  const size_t count = p.blocks.count, block_bytes = groups * kWideGroup;
  const auto widen = [&](size_t block) {
    if constexpr (kWiden)
      widen_half<kBits>(p.packed + block * groups * kPackedGroup, groups, half,
                        p.wide + block % p.kept * block_bytes);
  };
  for (size_t b = 0; b < kLead && b < count; ++b) widen(b);
  t.template load<0>(p.start, 0);
  t.template load<1>(p.start + 16, 0);
  if constexpr (kTiles == 2) {
    t.template load<2>(p.start, 0);
    t.template load<3>(p.start + 16, 0);
  }
  const uint8_t* prefetch = p.prefetch;
  const ptrdiff_t* offset = p.offsets;
  for (size_t b = 0; b < count; ++b, offset += groups) {
    if (b + kLead < count) widen(b + kLead);
    const int8_t* w = kBits == 8 ? reinterpret_cast<const int8_t*>(p.packed) + b * block_bytes
                                 : p.wide + (kWiden ? b % p.kept : b) * block_bytes;
    t.template load<6>(w, kWideGroup);
    t.template load<4>(p.tiles[0].x + *offset, p.pixel);
    t.template multiply<0, 4, 6>();
    t.template load<7>(w + 64, kWideGroup);
    t.template multiply<1, 4, 7>();
    if constexpr (kTiles == 2) {
      t.template load<5>(p.tiles[1].x + *offset, p.pixel);
      t.template multiply<2, 5, 6>();
      t.template multiply<3, 5, 7>();
    }
    for (size_t i = 0; i < p.prefetch_lines; ++i, prefetch += 64)
      _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
    if (pending->left() != 0) pending->write(p.slice);
  }
  constexpr size_t kStep = kPanelChannels * sizeof(int32_t);
  t.template store<0>(p.sums, kStep);
  t.template store<1>(p.sums + 16, kStep);
  if constexpr (kTiles == 2) {
    t.template store<2>(p.sums + kTilePixels * kPanelChannels, kStep);
    t.template store<3>(p.sums + kTilePixels * kPanelChannels + 16, kStep);
  }
}

template <uint32_t kBits>
static size_t amx_packed_panel_bytes(const ConvShape& s, uint32_t cb) {
  return panel_groups(s, cb) * kGroupBytes / 8 * kBits;
}
// Whether all panels are widened ahead, and pixels are outside.
static bool amx_resident(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * panel_groups(s, cb) * kGroupBytes <= kAmxResidentBytes;
}
template <uint32_t kBits>
static size_t amx_scratch_bytes(const ConvShape& s, uint32_t cb) {
  const size_t wide = kBits == 8 ? 0 : panel_groups(s, cb) * kGroupBytes;
  return offset_bytes(s, cb) + wide * (amx_resident(s, cb) ? panel_count(s) : 1);
}

template <typename Tiles, uint32_t kBits>
class AmxConv {
 public:
  AmxConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a), part_(part), blocks_(a.shape, a.x.cb), groups_(panel_groups(a.shape, a.x.cb)) {
    offsets_ = static_cast<ptrdiff_t*>(context.scratch);
    wide_ = static_cast<int8_t*>(context.scratch) + offset_bytes(a.shape, a.x.cb);
    packed_bytes_ = amx_packed_panel_bytes<kBits>(a.shape, a.x.cb);
    fill_offsets(a, offsets_);
  }

  void run() {
    if (part_.unit_begin == part_.unit_end || part_.panel_begin == part_.panel_end) return;
    if (amx_resident(a_.shape, a_.x.cb))
      run_resident();
    else
      run_by_panel();
    pending_.write(pending_.left());
    tiles_.release();
  }

 private:
  const uint8_t* packed(uint32_t panel) const {
    return static_cast<const uint8_t*>(a_.weights) + panel * packed_bytes_;
  }
  int64_t max_sum() const { return static_cast<int64_t>(groups_) * 4 * 255 * (1 << (kBits - 1)); }

  // One or two tiles of one height; 0 at the end.
  int next_pair(TileWalk* walk, Tile pair[2]) {
    if (!has_next_ && !walk->next(&next_)) return 0;
    pair[0] = next_;
    has_next_ = walk->next(&next_);
    if (!has_next_ || next_.pixels != pair[0].pixels) return 1;
    pair[1] = next_;
    has_next_ = false;
    return 2;
  }

  void configure(uint32_t pixels) {
    if (pixels == configured_) return;
    tiles_.configure(tile_config(pixels, blocks_.groups));
    configured_ = pixels;
  }

  // All channels of a panel: two passes, then its sums wait.
  template <int kTiles, bool kWiden>
  void run_pair(const TileWalk& walk, const Tile pair[2], uint32_t panel, int8_t* wide, size_t kept,
                PanelForm form, const uint8_t* prefetch, size_t prefetch_lines) {
    alignas(64) int32_t lowered[kPanelChannels];
    const int32_t* start = form_start(form, start_of(a_, panel), lowered);
    const size_t passes = 2 * blocks_.count;
    const auto slice = static_cast<uint32_t>((pending_.left() + passes - 1) / passes);
    int32_t* sums = sums_[turn_];
    Pass pass = {.tiles = pair,
                 .pixel = static_cast<size_t>(a_.shape.stride_w) * a_.x.cb,
                 .offsets = offsets_,
                 .blocks = blocks_,
                 .packed = packed(panel),
                 .wide = wide,
                 .kept = kept,
                 .start = start,
                 .sums = sums,
                 .slice = slice < kSliceMin ? kSliceMin : slice,
                 .prefetch = prefetch,
                 .prefetch_lines = prefetch_lines};
    for (uint32_t half = 0; half < 2; ++half) {
      multiply_half<Tiles, kBits, kTiles, kWiden>(tiles_, pass, half, &pending_);
      if (kBits == 8) pass.packed += kGroupBytes / 2;
      pass.wide += kept * blocks_.groups * (kGroupBytes / 2);
      pass.start += kHalf;
      pass.sums += kHalf;
      pass.prefetch += blocks_.count * prefetch_lines * 64;
    }
    pending_.write(pending_.left());
    pending_.set(a_, walk.runs(), pair, kTiles, panel, form, sums);
    turn_ ^= 1;
  }

  template <bool kWiden>
  void run_tiles(const TileWalk& walk, const Tile pair[2], int count, uint32_t panel, int8_t* wide,
                 size_t kept, PanelForm form, const uint8_t* prefetch, size_t prefetch_lines) {
    configure(pair[0].pixels);
    if (count == 2)
      run_pair<2, kWiden>(walk, pair, panel, wide, kept, form, prefetch, prefetch_lines);
    else
      run_pair<1, kWiden>(walk, pair, panel, wide, kept, form, prefetch, prefetch_lines);
  }

  PanelForm form_of(uint32_t panel) const {
    return panel_form(a_.epilogue, panel * kPanelChannels, max_sum());
  }

  // Weights that fit: each widened once, then pixels outside and panels inside.
  void run_resident() {
    const size_t wide_bytes = groups_ * kGroupBytes;
    PanelForm form = form_of(part_.panel_begin);
    for (uint32_t p = part_.panel_begin + 1; p < part_.panel_end; ++p)
      form = weaker(form, form_of(p));
    TileWalk walk(a_, part_);
    Tile pair[2];
    bool first = true;
    for (int count; (count = next_pair(&walk, pair)) != 0; first = false)
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        int8_t* wide = kBits == 8 ? nullptr : wide_ + (p - part_.panel_begin) * wide_bytes;
        if (first && kBits < 8)
          run_tiles<(kBits < 8)>(walk, pair, count, p, wide, blocks_.count, form, nullptr, 0);
        else
          run_tiles<false>(walk, pair, count, p, wide, blocks_.count, form, nullptr, 0);
      }
  }

  // Larger weights: panels outside; the next panel's packed bytes come to L2 meanwhile.
  void run_by_panel() {
    size_t pairs = 0;
    Tile pair[2];
    for (TileWalk walk(a_, part_); next_pair(&walk, pair) != 0;) ++pairs;
    const size_t lines = packed_bytes_ / 64, calls = pairs * 2 * blocks_.count,
                 per_block = (lines + calls - 1) / calls;
    for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
      const PanelForm form = form_of(p);
      const uint8_t *next = packed(p + 1), *end = next;
      if (p + 1 < part_.panel_end) end += packed_bytes_;
      TileWalk walk(a_, part_);
      bool first = true;
      for (int count; (count = next_pair(&walk, pair)) != 0; first = false) {
        const size_t fetch = next < end ? per_block : 0;
        // Used once: a few k-blocks that stay in L1.
        const size_t kept = pairs == 1 && blocks_.count > kRing ? kRing : blocks_.count;
        if (first && kBits < 8)
          run_tiles<(kBits < 8)>(walk, pair, count, p, wide_, kept, form, next, fetch);
        else
          run_tiles<false>(walk, pair, count, p, wide_, kept, form, next, fetch);
        next += 2 * blocks_.count * fetch * 64;
      }
    }
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  KBlocks blocks_;
  size_t groups_, packed_bytes_;
  ptrdiff_t* offsets_;
  int8_t* wide_;
  Tiles tiles_ = {};
  Tile next_ = {};
  bool has_next_ = false;
  uint32_t configured_ = 0;
  uint32_t turn_ = 0;
  Pending pending_;
  alignas(64) int32_t sums_[2][2 * kTilePixels * kPanelChannels];
};

template <uint32_t kBits>
static size_t amx_weights_bytes(const ConvShape& s, uint32_t cb) {
  return panels_bytes(s, cb, kBits);
}
template <uint32_t kBits>
static void amx_pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_panels(s, cb, kBits, canonical, packed);
}
template <typename Tiles, uint32_t kBits>
static void amx_run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  AmxConv<Tiles, kBits>(a, part, context).run();
}
static float amx_cost(const ConvShape&, uint32_t) { return 0.3F; }

template <typename Tiles, uint32_t kBits>
static constexpr ConvKernel amx_row(const char* name, IsaMask isa, Elem weights,
                                    const char* layout) {
  return {name,
          isa,
          weights,
          255,
          layout,
          panels_fit,
          amx_weights_bytes<kBits>,
          amx_pack<kBits>,
          amx_units,
          amx_scratch_bytes<kBits>,
          amx_run<Tiles, kBits>,
          amx_cost};
}

}  // namespace mpq::kernels
