// How the AMX rows walk panels of 64 channels (panels.h): tiles of 16 pixels in pairs, times 32
// channels, in four tile registers of sums.
//
// An output row's pixels lie at a constant step in the input, so a tile of codes is one load from
// where they are, whatever the kernel, the stride or the dilation. Where the input's rows continue
// that step (stride 1, or rows of no halo), a tile runs over the ends of rows: it then computes a
// few "pixels" of the halo too, which are dropped, and 7 x 7 images do not leave half of each tile
// empty. The last tile of a run steps back to be whole: what it computes twice has the same bytes.
//
// Narrow weights are widened to int8 in front of every use, a few k-blocks ahead, on vector
// ports that idle while tiles multiply; there the epilogue of the tiles before runs, too.
//
// Tiles: NativeTiles, or the tests' model of them. All in an unnamed namespace: each file compiles
// its own.
#pragma once

#include "kernels/conv/blocks.h"
#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/panels.h"
#include "kernels/conv/phases.h"
#include "kernels/conv/widen_avx512.h"
#include "kernels/tiles_amx.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTilePixels = 16;
constexpr size_t kHalf = 32;                      // channels of a pass
constexpr size_t kAmxResidentBytes = 512 * 1024;  // packed weights that stay in L2
constexpr size_t kLead = 3;                       // k-blocks between widening and use
constexpr size_t kRing = 4;                       // k-blocks of widened weights, a power of 2
constexpr uint32_t kSliceMin = 2;                 // pixels of an epilogue's slice
constexpr uint32_t kFixedSliceMin = 4;            // the same of one in 16-bit lanes
constexpr size_t kShallowGroups = 64;  // of a panel that stays in L1 (16 KB) once widened

// k in blocks of at most 64 codes that lie together in memory, all of one length.
struct KBlocks {
  uint32_t groups;  // k-groups (4 k) of a block
  size_t count;
  KBlocks(uint32_t block_groups, size_t blocks) : groups(block_groups), count(blocks) {}
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

uint64_t pixels_of(const ConvShape& s) { return uint64_t{s.n} * s.oh * s.ow; }
void amx_units(const ConvShape& s, uint32_t* units, uint32_t* panels) {
  *units = static_cast<uint32_t>((pixels_of(s) + kTilePixels - 1) / kTilePixels);
  *panels = panel_count(s);
}

// The tiles of a part, in order. Fields are written where they are read, and in the same sizes: a
// copy of what was just written would wait until all multiplications before it are done.
class TileWalk {
 public:
  TileWalk(const ConvArgs& a, const ConvPart& part) : a_(&a), runs_(a) {
    uint32_t units = 0, panels = 0;
    amx_units(a.shape, &units, &panels);
    next_ = pixels_of(a.shape) * part.unit_begin / units;
    end_ = pixels_of(a.shape) * part.unit_end / units;
    enter_run();
  }
  const Runs& runs() const { return runs_; }
  bool more() const { return at_ < to_; }
  uint32_t pixels() const {  // of the next tile
    return to_ - from_ < kTilePixels ? to_ - from_ : kTilePixels;
  }

  void take(Tile* tile) {
    const ConvShape& s = a_->shape;
    const uint32_t end = at_ + kTilePixels < to_ ? at_ + kTilePixels : to_;
    const uint32_t first = end - at_ == pixels() ? at_ : to_ - pixels();
    tile->pixels = pixels();
    tile->begin = at_;
    tile->end = end;
    tile->first = first;
    tile->image = image_;
    tile->row = row_;
    tile->x = a_->x.data + image_ * a_->x.image +
              static_cast<ptrdiff_t>(row_) * s.stride_h * a_->x.row +
              static_cast<ptrdiff_t>(first) * s.stride_w * a_->x.cb;
    at_ = end;
    if (at_ == to_) enter_run();
  }

 private:
  void enter_run() {
    if (next_ == end_) return;
    const ConvShape& s = a_->shape;
    const uint64_t run_pixels = uint64_t{runs_.rows} * s.ow, run = next_ / run_pixels;
    const uint64_t stop = (run + 1) * run_pixels < end_ ? (run + 1) * run_pixels : end_;
    const uint32_t runs_per_image = s.oh / runs_.rows;
    image_ = static_cast<uint32_t>(run / runs_per_image);
    row_ = static_cast<uint32_t>(run % runs_per_image) * runs_.rows;
    at_ = from_ = step_of(static_cast<uint32_t>(next_ - run * run_pixels));
    to_ = step_of(static_cast<uint32_t>(stop - 1 - run * run_pixels)) + 1;
    next_ = stop;
  }
  uint32_t step_of(uint32_t pixel) const {
    return pixel / a_->shape.ow * runs_.pitch + pixel % a_->shape.ow;
  }
  const ConvArgs* a_;
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
    panel_ = panel;
    uint32_t blocks = 0;
    left_ = 0;
    for (int t = 0; t < count; ++t) {
      const Tile& tile = tiles[t];
      const uint32_t y = tile.begin / runs.pitch;
      uint32_t row = y * runs.pitch, at = tile.begin;  // in steps
      for (Unit u = {tile.image, tile.row + y, 0, 0}; at < tile.end;
           ++u.y, at = row += runs.pitch) {
        u.x = at - row;
        if (u.x >= a.shape.ow) continue;  // halo
        const uint32_t rest = tile.end - at, room = a.shape.ow - u.x;
        u.pixels = rest < room ? rest : room;
        cursors_[blocks++] = cursor_at(sums + (t * kTilePixels + at - tile.first) * kPanelChannels,
                                       a.epilogue, a.y, a.dense, block_at(a.shape, u, panel));
        left_ += u.pixels;
      }
    }
    next_ = 0;
  }
  uint32_t left() const { return left_; }

  void write(uint32_t pixels) {
    if (pixels > left_) pixels = left_;
    left_ -= pixels;
    while (pixels > 0) {
      EpilogueCursor& cursor = cursors_[next_];
      const uint32_t now = cursor.pixels < pixels ? cursor.pixels : pixels;
      if (form_.fixed)
        write_fixed_pixels(a_->epilogue, a_->y, &cursor, now);
      else
        write_pixels(a_->epilogue, a_->y, form_, &cursor, now);
      pixels -= now;
      if (cursor.pixels == 0) ++next_;
    }
  }

 private:
  const ConvArgs* a_ = nullptr;
  PanelForm form_ = {};
  uint32_t panel_ = 0;
  uint32_t next_ = 0, left_ = 0;
  EpilogueCursor cursors_[2 * kTilePixels];
};

// One pass: one or two tiles times half a panel.
struct Pass {
  const uint8_t* x[2];       // first pixel of each tile
  size_t pixel;              // bytes from a pixel's codes to the next one's
  const ptrdiff_t* offsets;  // of every k-group
  KBlocks blocks;
  const uint8_t* packed;  // the panel
  uint32_t half;
  const uint8_t* next_packed;  // of the pass after this one, or null
  uint32_t next_half;
  const int32_t* start;  // 32
  int32_t* sums;         // [32 pixels][64]
  uint32_t slice;        // pixels of pending epilogues a k-block
  const uint8_t* prefetch;
  size_t prefetch_lines;  // a k-block
};

// The k-blocks of half a panel, widened kLead ahead of their use: a ring in L1. The packed bytes
// are a half or a quarter of the traffic, and the vector ports that widen them are idle.
template <uint32_t kBits>
class Ring {
 public:
  static constexpr size_t kGroup = kGroupBytes / 2;  // 32 channels of a k-group
  Ring(int8_t* memory, uint32_t groups) : memory_(memory), groups_(groups) {}
  void push(const uint8_t* packed, uint32_t half, size_t block) {
    const uint8_t* from = packed + block * groups_ * (kGroupBytes / 8 * kBits);
    int8_t* to = memory_ + pushed_++ % kRing * groups_ * kGroup;
    if (groups_ == 16)  // unrolled
      widen_half<kBits>(from, 16, half, to);
    else
      widen_half<kBits>(from, groups_, half, to);
  }
  const int8_t* pop() { return memory_ + popped_++ % kRing * groups_ * kGroup; }
  bool empty() const { return pushed_ == popped_; }

 private:
  int8_t* memory_;
  uint32_t groups_, pushed_ = 0, popped_ = 0;
};

// 8-bit weights are used where they lie.
template <>
class Ring<8> {
 public:
  static constexpr size_t kGroup = kGroupBytes;
  Ring(int8_t*, uint32_t) {}
};

// Work: what waits from the step before, written meanwhile: left() and write(some) as Pending has
// them.
template <typename Tiles, uint32_t kBits, int kTiles, typename Work>
void multiply_half(Tiles& t, const Pass& p, Ring<kBits>* ring, Work* pending) {
  constexpr size_t kGroup = Ring<kBits>::kGroup;
  const uint32_t groups = p.blocks.groups;
  const size_t count = p.blocks.count, lead = kLead < count ? kLead : count;
  if constexpr (kBits < 8)
    if (ring->empty())  // the first pass
      for (size_t b = 0; b < lead; ++b) ring->push(p.packed, p.half, b);
  t.template load<0>(p.start, 0);
  t.template load<1>(p.start + 16, 0);
  if constexpr (kTiles == 2) {
    t.template load<2>(p.start, 0);
    t.template load<3>(p.start + 16, 0);
  }
  const uint8_t* prefetch = p.prefetch;
  const ptrdiff_t* offset = p.offsets;
  const auto* w = reinterpret_cast<const int8_t*>(p.packed) + p.half * (kGroupBytes / 2);
  for (size_t b = 0; b < count; ++b, offset += groups) {
    if constexpr (kBits < 8) {
      if (b + lead < count)
        ring->push(p.packed, p.half, b + lead);
      else if (p.next_packed != nullptr)
        ring->push(p.next_packed, p.next_half, b + lead - count);
      w = ring->pop();
    }
    t.template load<6>(w, kGroup);
    t.template load<4>(p.x[0] + *offset, p.pixel);
    t.template multiply<0, 4, 6>();
    t.template load<7>(w + 64, kGroup);
    t.template multiply<1, 4, 7>();
    if constexpr (kTiles == 2) {
      t.template load<5>(p.x[1] + *offset, p.pixel);
      t.template multiply<2, 5, 6>();
      t.template multiply<3, 5, 7>();
    }
    w += groups * kGroup;
    for (size_t i = 0; i < p.prefetch_lines; ++i, prefetch += 64)
      _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
    if (pending->left() != 0) pending->write(p.slice);
  }
  pending->write(pending->left());
  constexpr size_t kStep = kPanelChannels * sizeof(int32_t);
  t.template store<0>(p.sums, kStep);
  t.template store<1>(p.sums + 16, kStep);
  if constexpr (kTiles == 2) {
    t.template store<2>(p.sums + kTilePixels * kPanelChannels, kStep);
    t.template store<3>(p.sums + kTilePixels * kPanelChannels + 16, kStep);
  }
}

// Few k: a panel stays in L1 once widened, and the epilogue takes longer than the tiles.
bool is_shallow(const ConvShape& s, uint32_t cb) { return panel_groups(s, cb) <= kShallowGroups; }

// Of widened weights: the ring, or a panel.
template <uint32_t kBits>
size_t wide_bytes(const ConvShape& s, uint32_t cb) {
  if (kBits == 8) return 0;
  return is_shallow(s, cb) ? panel_groups(s, cb) * kGroupBytes
                           : kRing * KBlocks(s, cb).groups * Ring<kBits>::kGroup;
}

// Tiles of a strided layer's images in phases, where a quarter fewer than without.
bool takes_phases(const ConvShape& s, uint32_t cb) {
  if (s.stride_w == 1 || s.dilation_h * s.dilation_w != 1 || cb != kPhaseBlock || s.oh == 1)
    return false;
  const uint64_t tiles = uint64_t{s.oh} * ((s.ow + kTilePixels - 1) / kTilePixels),
                 steps = uint64_t{s.oh - 1} * Phases(s).columns + s.ow;
  return (steps + kTilePixels - 1) / kTilePixels * 4 <= tiles * 3;
}

// k-offsets, widened weights, starts of sums.
template <uint32_t kBits>
size_t walk_bytes(const ConvShape& s, uint32_t cb) {
  return offset_bytes(s, cb) + panel_count(s) * kPanelChannels * sizeof(int32_t) +
         wide_bytes<kBits>(s, cb);
}
template <uint32_t kBits>
size_t amx_scratch_bytes(const ConvShape& s, uint32_t cb) {
  return walk_bytes<kBits>(s, cb) + (takes_phases(s, cb) ? s.n * Phases(s).image : 0);
}

// The work of a part in its order: pairs of tiles times panels. Weights that stay in L2: pixels
// outside, so that a pair's codes stay in L1; others: panels outside.
struct Pair {
  Tile tiles[2];  // of one height
  int count = 0;
};
struct Step {
  const Pair* pair;  // null at the end
  uint32_t panel;
};
class StepWalk {
 public:
  StepWalk(const ConvArgs& a, const ConvPart& part, bool panels_outside)
      : a_(a), part_(part), outside_(panels_outside), walk_(a, part), panel_(part.panel_begin) {}
  const Runs& runs() const { return walk_.runs(); }

  // The step before stays valid.
  Step next() {
    if (part_.panel_begin >= part_.panel_end) return {nullptr, 0};
    if (pair_ == nullptr || outside_) {
      next_pair();
      if (pair_ == nullptr && outside_ && ++panel_ < part_.panel_end) {
        walk_ = TileWalk(a_, part_);
        next_pair();
      }
    } else if (++panel_ == part_.panel_end) {
      panel_ = part_.panel_begin;
      next_pair();
    }
    return {pair_, panel_};
  }

 private:
  void next_pair() {
    if (!walk_.more()) {
      pair_ = nullptr;
      return;
    }
    Pair* const pair = &pairs_[turn_];
    turn_ ^= 1;
    walk_.take(&pair->tiles[0]);
    pair->count = 1;
    if (walk_.more() && walk_.pixels() == pair->tiles[0].pixels) {
      walk_.take(&pair->tiles[1]);
      pair->count = 2;
    }
    pair_ = pair;
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  bool outside_;
  TileWalk walk_;
  uint32_t panel_, turn_ = 0;
  const Pair* pair_ = nullptr;
  Pair pairs_[2];
};

template <typename Tiles, uint32_t kBits>
class AmxConv {
 public:
  // The k-offsets are filled already: they come first in the scratch.
  AmxConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        blocks_(a.shape, a.x.cb),
        offsets_(static_cast<ptrdiff_t*>(context.scratch)),
        wide_(static_cast<int8_t*>(context.scratch) + offset_bytes(a.shape, a.x.cb)),
        ring_(wide_, blocks_.groups),
        starts_(reinterpret_cast<int32_t*>(static_cast<uint8_t*>(context.scratch) +
                                           offset_bytes(a.shape, a.x.cb) +
                                           wide_bytes<kBits>(a.shape, a.x.cb))),
        packed_bytes_(panel_groups(a.shape, a.x.cb) * kGroupBytes / 8 * kBits),
        panels_outside_(panel_count(a.shape) * packed_bytes_ > kAmxResidentBytes) {}

  void run() {
    if (is_shallow(a_.shape, a_.x.cb)) return run_shallow();
    StepWalk walk(a_, part_, panels_outside_);
    Step step = walk.next();
    if (step.pair == nullptr) return;
    plan_prefetch();
    prepare_forms();
    enter_panel(step.panel);
    for (Step next; step.pair != nullptr; step = next) {
      next = walk.next();
      if (panels_outside_ && step.panel != panel_) enter_panel(step.panel);
      configure(step.pair->tiles[0].pixels);
      if (step.pair->count == 2)
        run_step<2>(walk.runs(), step, next);
      else
        run_step<1>(walk.runs(), step, next);
    }
    pending_.write(pending_.left());
    tiles_.release();
  }

 private:
  const uint8_t* packed(uint32_t panel) const {
    return static_cast<const uint8_t*>(a_.weights) + panel * packed_bytes_;
  }

  // The next panel's packed bytes come to L2 while a panel outside multiplies.
  void plan_prefetch() {
    if (!panels_outside_) return;
    size_t steps = 0;
    const ConvPart one_panel = {part_.unit_begin, part_.unit_end, 0, 1};
    for (StepWalk walk(a_, one_panel, true); walk.next().pair != nullptr;) ++steps;
    const size_t lines = packed_bytes_ / 64, blocks = steps * 2 * blocks_.count;
    prefetch_lines_ = (lines + blocks - 1) / blocks;
  }

  // One form for all panels, and where their sums start: long before a tile loads it, since tiles
  // take nothing from stores on their way.
  void prepare_forms() {
    form_ = common_form(a_.epilogue, part_, panel_max_sum(blocks_.count * blocks_.groups, kBits));
    for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
      int32_t* to = starts_ + p * kPanelChannels;
      const int32_t* from = form_start(form_, start_of(a_, p), to);
      if (from != to) __builtin_memcpy(to, from, kPanelChannels * sizeof(int32_t));
    }
  }

  // One tile of pixels times a whole panel. Its sums wait until the next tile's multiplications are
  // under way, and the epilogue takes those before: tiles and vectors work side by side.
  void run_shallow() {
    if (part_.panel_begin >= part_.panel_end || part_.unit_begin >= part_.unit_end) return;
    prepare_forms();
    Pending waiting[2];
    uint32_t turn = 0;
    for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
      const auto* w = reinterpret_cast<const int8_t*>(packed(p));
      if constexpr (kBits < 8) {
        widen_all<kBits>(packed(p), blocks_.groups * blocks_.count, wide_);
        w = wide_;
      }
      for (TileWalk walk(a_, part_); walk.more(); turn ^= 1) {
        Tile tile;
        configure(walk.pixels());
        walk.take(&tile);
        multiply_panel(tile, w, starts_ + p * kPanelChannels, &waiting[turn]);
        int32_t* const sums = sums_ + turn * kTilePixels * kPanelChannels;
        constexpr size_t kStep = kPanelChannels * sizeof(int32_t);
        tiles_.template store<0>(sums, kStep);
        tiles_.template store<1>(sums + 16, kStep);
        tiles_.template store<2>(sums + 32, kStep);
        tiles_.template store<3>(sums + 48, kStep);
        waiting[turn].set(a_, walk.runs(), &tile, 1, p, form_, sums);
      }
    }
    for (int i = 0; i < 2; ++i, turn ^= 1) waiting[turn].write(waiting[turn].left());
    tiles_.release();
  }

  // Two tiles of sums at a time, so that those before leave their registers meanwhile. The epilogue
  // of what waits comes in slices: behind each other, tiles and vectors do not fit into the reorder
  // buffer together (DECISIONS.md).
  void multiply_panel(const Tile& tile, const int8_t* w, const int32_t* start, Pending* waiting) {
    const auto slots = 2 * static_cast<uint32_t>(blocks_.count);
    const uint32_t all = waiting->left(), share = (all + slots - 1) / slots,
                   slice = !form_.fixed             ? all
                           : share < kFixedSliceMin ? kFixedSliceMin
                                                    : share;
    multiply_columns<0, 1>(tile, w, start, waiting, slice);
    multiply_columns<2, 3>(tile, w + 128, start + 32, waiting, slice);
    waiting->write(waiting->left());
  }
  template <int kFirst, int kSecond>
  void multiply_columns(const Tile& tile, const int8_t* w, const int32_t* start, Pending* waiting,
                        uint32_t slice) {
    const uint32_t groups = blocks_.groups;
    const size_t pixel = static_cast<size_t>(a_.shape.stride_w) * a_.x.cb;
    tiles_.template load<kFirst>(start, 0);
    tiles_.template load<kSecond>(start + 16, 0);
    const ptrdiff_t* offset = offsets_;
    for (size_t b = 0; b < blocks_.count; ++b, offset += groups, w += groups * kGroupBytes) {
      tiles_.template load<4>(tile.x + *offset, pixel);
      tiles_.template load<6>(w, kGroupBytes);
      tiles_.template multiply<kFirst, 4, 6>();
      tiles_.template load<7>(w + 64, kGroupBytes);
      tiles_.template multiply<kSecond, 4, 7>();
      if (waiting->left() != 0) waiting->write(slice);
    }
  }

  void enter_panel(uint32_t panel) {
    panel_ = panel;
    prefetch_ = packed(panel + 1);
    prefetch_end_ = prefetch_ + (panel + 1 < part_.panel_end ? packed_bytes_ : 0);
  }

  void configure(uint32_t pixels) {
    if (pixels == configured_) return;
    tiles_.configure(tile_config(pixels, blocks_.groups));
    configured_ = pixels;
  }

  // All channels of a panel: two passes, then its sums wait.
  template <int kTiles>
  void run_step(const Runs& runs, const Step& step, const Step& next) {
    // The sums before are written while the first half multiplies: their place is needed then.
    const auto blocks = static_cast<uint32_t>(blocks_.count);
    const uint32_t slice = (pending_.left() + blocks - 1) / blocks;
    Pass pass = {.x = {step.pair->tiles[0].x, step.pair->tiles[1].x},
                 .pixel = static_cast<size_t>(a_.shape.stride_w) * a_.x.cb,
                 .offsets = offsets_,
                 .blocks = blocks_,
                 .packed = packed(step.panel),
                 .half = 0,
                 .next_packed = packed(step.panel),
                 .next_half = 1,
                 .start = starts_ + step.panel * kPanelChannels,
                 .sums = sums_,
                 .slice = slice < kSliceMin ? kSliceMin : slice,
                 .prefetch = prefetch_,
                 .prefetch_lines = prefetch_ < prefetch_end_ ? prefetch_lines_ : 0};
    multiply_half<Tiles, kBits, kTiles>(tiles_, pass, &ring_, &pending_);
    pass.half = 1;
    pass.next_packed = next.pair == nullptr ? nullptr : packed(next.panel);
    pass.next_half = 0;
    pass.start += kHalf;
    pass.sums += kHalf;
    pass.prefetch += blocks_.count * pass.prefetch_lines * 64;
    multiply_half<Tiles, kBits, kTiles>(tiles_, pass, &ring_, &pending_);
    prefetch_ += 2 * blocks_.count * pass.prefetch_lines * 64;
    pending_.set(a_, runs, step.pair->tiles, kTiles, step.panel, form_, sums_);
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  KBlocks blocks_;
  ptrdiff_t* offsets_;
  int8_t* wide_;
  Ring<kBits> ring_;
  int32_t* starts_;
  size_t packed_bytes_;
  bool panels_outside_;
  Tiles tiles_ = {};
  PanelForm form_ = {};
  uint32_t panel_ = 0, configured_ = 0;
  const uint8_t *prefetch_ = nullptr, *prefetch_end_ = nullptr;
  size_t prefetch_lines_ = 0;
  Pending pending_;
  alignas(64) int32_t sums_[2 * kTilePixels * kPanelChannels];
};

template <typename Tiles, uint32_t kBits>
void amx_run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  auto* const offsets = static_cast<ptrdiff_t*>(context.scratch);
  if (!takes_phases(s, a.x.cb)) {
    fill_offsets(a, offsets);
    return AmxConv<Tiles, kBits>(a, part, context).run();
  }
  uint32_t units = 0, panels = 0;
  amx_units(s, &units, &panels);
  const uint64_t image = uint64_t{s.oh} * s.ow;
  const auto first = static_cast<uint32_t>(pixels_of(s) * part.unit_begin / units / image),
             end =
                 static_cast<uint32_t>((pixels_of(s) * part.unit_end / units + image - 1) / image);
  const Phases phases(s);
  auto* const memory = static_cast<uint8_t*>(context.scratch) + walk_bytes<kBits>(s, a.x.cb);
  split_phases(a, phases, first, end, memory);
  fill_phase_offsets(s, phases, offsets);
  const ConvArgs copy = on_phases(a, phases, memory);
  AmxConv<Tiles, kBits>(copy, part, context).run();
}
float amx_cost(const ConvShape&, uint32_t, CpuFamily) { return 0.3F; }

template <typename Tiles, uint32_t kBits>
constexpr ConvKernel amx_row(const char* name, IsaMask isa, Elem weights, const char* layout) {
  return {name,
          isa,
          weights,
          255,
          layout,
          panels_fit,
          panels_bytes_of<kBits>,
          pack_panels_of<kBits>,
          amx_units,
          amx_scratch_bytes<kBits>,
          amx_run<Tiles, kBits>,
          amx_cost};
}

}  // namespace
}  // namespace mpq::kernels
