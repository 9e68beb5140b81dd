// 2-bit codes by 2-bit weights on AMX: 3 pixels in 2 rows of codes (crt.h), times panels of 64
// channels as amx_walk_avx512.h has them. A tile of 16 packed rows is 24 pixels.
//
// Pixels are packed once a group of units, a tile's k-blocks one behind the other, and the sums of
// a step are decoded and written while the next one multiplies. Longer k than a pair takes is cut
// into chunks, whose sums are added up in between.
#pragma once

#include "kernels/conv/amx_walk_avx512.h"
#include "kernels/conv/crt_pack_avx512.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTriples = 8;         // of a unit
constexpr uint32_t kUnitPixels = 24;     // they make 16 rows
constexpr uint32_t kSlicePixels = 12;    // that are decoded together
constexpr uint32_t kMaxPairBlocks = 12;  // of a chunk
static_assert(9 * kMaxPairBlocks * kCrtBlock / 2 <= kCrtPairMax);
constexpr size_t kTileBytes = 1024;                  // of a k-block
constexpr size_t kPackedResidentBytes = 320 * 1024;  // packed pixels that stay in L2

struct TripleUnits {
  uint32_t pixels, triples, units;
  explicit TripleUnits(const ConvShape& s)
      : pixels(s.n * s.oh * s.ow),
        triples((pixels + 2) / 3),
        units((triples + kTriples - 1) / kTriples) {}
  // Balanced; the first of unit `units` is the end.
  uint32_t first(uint32_t unit) const {
    return static_cast<uint32_t>(uint64_t{triples} * unit / units);
  }
};

void amx_crt_units(const ConvShape& s, uint32_t* units, uint32_t* panels) {
  *units = TripleUnits(s).units;
  *panels = panel_count(s);
}

// Where things lie in scratch.
struct PairLayout {
  CrtChunks chunks;
  size_t unit_bytes;     // packed rows
  uint32_t group_units;  // that are packed together, in pairs
  size_t offsets, ring, starts, shifts, rows, bytes;
  PairLayout(const ConvShape& s, uint32_t cb) : chunks(s, kMaxPairBlocks) {
    unit_bytes = chunks.blocks * kTileBytes;
    const uint32_t units = TripleUnits(s).units;
    const size_t fit = kPackedResidentBytes / (2 * unit_bytes), most = fit < 1 ? 2 : 2 * fit;
    group_units = units < most ? units : static_cast<uint32_t>(most);
    offsets = 0;
    ring = offset_bytes(s, cb);
    starts = ring + kRing * 16 * Ring<2>::kGroup;
    shifts = starts + panel_count(s) * kPanelChannels * sizeof(int32_t);
    rows = shifts + chunks.count * kHalf * sizeof(int32_t);
    bytes = rows + group_units * unit_bytes;
  }
};

// Sums of packed rows that wait: decoded, added up, and written after the last chunk.
class PendingPairs {
 public:
  struct Span {
    uint32_t first = 0, pixels = 0;  // pixels of a tile
  };
  void set(const ConvArgs& a, const Span spans[2], uint32_t panel, PanelForm form,
           const int32_t* start, bool is_first, bool is_last, int32_t shift,
           const int32_t* packed) {
    a_ = &a;
    spans_[0] = spans[0];
    spans_[1] = spans[1];
    panel_ = panel;
    form_ = form;
    start_ = start;
    is_first_ = is_first;
    is_last_ = is_last;
    shift_ = shift;
    packed_ = packed;
    tile_ = at_ = 0;
    left_ = spans[0].pixels + spans[1].pixels;
  }
  uint32_t left() const { return left_; }

  void write(uint32_t pixels) {
    for (uint32_t done = 0; left_ != 0 && done < pixels;) {
      if (at_ == spans_[tile_].pixels) {
        ++tile_;
        at_ = 0;
      }
      const uint32_t rest = spans_[tile_].pixels - at_, wanted = (pixels - done + 2) / 3 * 3,
                     most = wanted < kSlicePixels ? wanted : kSlicePixels,
                     now = rest < most ? rest : most;
      write_slice(now);
      at_ += now;
      left_ -= now;
      done += now;
    }
  }

 private:
  // From a multiple of 3.
  void write_slice(uint32_t pixels) {
    alignas(64) int32_t slice[kSlicePixels * kPanelChannels];
    int32_t* const kept = sums_ + (tile_ * kUnitPixels + at_) * kPanelChannels;
    const int32_t* from = is_first_ ? start_ : kept;
    const size_t step = is_first_ ? 0 : kPanelChannels;
    int32_t* const to = is_last_ ? slice : kept;
    const int32_t* packed = packed_ + (tile_ * kTilePixels + at_ / 3 * 2) * kPanelChannels;
    for (uint32_t p = 0; p < pixels; p += 3, packed += 2 * kPanelChannels, from += 3 * step)
      decode(packed, from, step, to + p * kPanelChannels);
    if (!is_last_) return;
    const ConvShape& s = a_->shape;
    for (uint32_t p = 0; p < pixels;) {
      const uint32_t pixel = spans_[tile_].first + at_ + p, x = pixel % s.ow, row = pixel / s.ow;
      const uint32_t room = s.ow - x, now = pixels - p < room ? pixels - p : room;
      run_epilogue(slice + p * kPanelChannels, a_->epilogue, a_->y, a_->dense,
                   block_at(s, {row / s.oh, row % s.oh, x, now}, panel_), form_);
      p += now;
    }
  }
  void decode(const int32_t* packed, const int32_t* from, size_t step, int32_t* to) const {
    const __m512i shift = _mm512_set1_epi32(shift_);
#pragma GCC unroll 4
    for (size_t v = 0; v < kPanelChannels; v += 16) {
      __m512i x[3];
      crt_pair<1>(_mm512_cvtepi32_ps(_mm512_load_si512(packed + v)),
                  _mm512_cvtepi32_ps(_mm512_load_si512(packed + kPanelChannels + v)), x);
      x[1] = _mm512_sub_epi32(x[1], shift);
#pragma GCC unroll 3
      for (size_t p = 0; p < 3; ++p)
        add_sums(from + p * step + v, x[p], to + p * kPanelChannels + v);
    }
  }

  const ConvArgs* a_ = nullptr;
  Span spans_[2];
  uint32_t panel_ = 0, tile_ = 0, at_ = 0, left_ = 0;
  PanelForm form_ = {};
  const int32_t* start_ = nullptr;
  bool is_first_ = false, is_last_ = false;
  int32_t shift_ = 0;
  const int32_t* packed_ = nullptr;
  alignas(64) int32_t sums_[2 * kUnitPixels * kPanelChannels];  // between chunks
};

template <typename Tiles>
class AmxCrtConv {
 public:
  AmxCrtConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        layout_(a.shape, a.x.cb),
        units_(a.shape),
        scratch_(static_cast<uint8_t*>(context.scratch)),
        offsets_(reinterpret_cast<ptrdiff_t*>(scratch_ + layout_.offsets)),
        ring_(reinterpret_cast<int8_t*>(scratch_ + layout_.ring), 16),
        packed_bytes_(panel_groups(a.shape, a.x.cb) * kGroupBytes / 4),
        panels_outside_(panel_count(a.shape) * packed_bytes_ > kAmxResidentBytes) {
    fill_offsets(a, offsets_);
    for (size_t g = 0; g < kMaxPairBlocks * 16; ++g)
      block_offsets_[g] = static_cast<ptrdiff_t>(g * (kTileBytes / 16));
    prepare_starts();
  }

  void run() {
    if (part_.panel_begin >= part_.panel_end) return;
    for (uint32_t unit = part_.unit_begin; unit < part_.unit_end; unit += layout_.group_units) {
      const uint32_t left = part_.unit_end - unit;
      first_ = unit;
      count_ = left < layout_.group_units ? left : layout_.group_units;
      for (uint32_t u = 0; u < count_; ++u) pack_unit(u);
      run_group();
    }
    tiles_.release();
  }

 private:
  // A chunk of a panel times a pair of units.
  struct Step {
    uint32_t pair, panel, chunk;
  };
  uint32_t pairs() const { return (count_ + 1) / 2; }
  uint32_t steps() const {
    return pairs() * (part_.panel_end - part_.panel_begin) * layout_.chunks.count;
  }
  Step step_at(uint32_t i) const {
    const uint32_t chunk = i % layout_.chunks.count, at = i / layout_.chunks.count;
    const uint32_t panels = part_.panel_end - part_.panel_begin;
    return panels_outside_ ? Step{at % pairs(), part_.panel_begin + at / pairs(), chunk}
                           : Step{at / panels, part_.panel_begin + at % panels, chunk};
  }

  int32_t* start_of_panel(uint32_t panel) const {
    return reinterpret_cast<int32_t*>(scratch_ + layout_.starts) + panel * kPanelChannels;
  }
  int32_t* shifts_of(uint32_t chunk) const {  // where its tiles start
    return reinterpret_cast<int32_t*>(scratch_ + layout_.shifts) + chunk * kHalf;
  }
  uint32_t blocks_of(uint32_t chunk) const {
    return layout_.chunks.first(chunk + 1) - layout_.chunks.first(chunk);
  }
  const uint8_t* packed(const Step& step) const {
    return static_cast<const uint8_t*>(a_.weights) + step.panel * packed_bytes_ +
           layout_.chunks.first(step.chunk) * (kCrtBlock / 4 * kGroupBytes / 4);
  }

  // Shared sums, of -6 to 3 a k, are moved to the middle of what a pair tells apart.
  void prepare_starts() {
    form_ = common_form(a_.epilogue, part_, panel_max_sum(panel_groups(a_.shape, a_.x.cb), 2));
    const __m512i magic = _mm512_set1_epi32(
        static_cast<int32_t>(static_cast<uint32_t>(kCrtMagic) * layout_.chunks.count));
    for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
      int32_t* to = start_of_panel(p);
      const int32_t* from = form_start(form_, start_of(a_, p), to);
      for (uint32_t i = 0; i < kPanelChannels; i += 16)
        _mm512_storeu_si512(to + i, _mm512_sub_epi32(_mm512_loadu_si512(from + i), magic));
    }
    for (uint32_t chunk = 0; chunk < layout_.chunks.count; ++chunk)
      for (size_t i = 0; i < kHalf; ++i)
        shifts_of(chunk)[i] = static_cast<int32_t>(blocks_of(chunk) * kCrtBlock / 2 * 3);
  }

  PendingPairs::Span span_of(uint32_t u) const {
    if (u >= count_) return {};
    const uint32_t first = units_.first(first_ + u) * 3, end = units_.first(first_ + u + 1) * 3;
    return {first, (end < units_.pixels ? end : units_.pixels) - first};
  }
  uint8_t* rows_of(uint32_t u) const { return scratch_ + layout_.rows + u * layout_.unit_bytes; }

  const uint8_t* input_of_pixel(uint32_t pixel) const {
    const ConvShape& s = a_.shape;
    const uint32_t row = pixel / s.ow;
    return input_of(a_, {row / s.oh, row % s.oh, pixel % s.ow, 1});
  }
  void pack_unit(uint32_t u) {
    const PendingPairs::Span span = span_of(u);
    const uint32_t last = span.first + span.pixels - 1;
    uint8_t* rows = rows_of(u);
    for (uint32_t p = 0; p < span.pixels; p += 3, rows += 128) {
      const uint8_t* x[3];
      for (uint32_t i = 0; i < 3; ++i) {  // what does not exist is anything
        const uint32_t pixel = span.first + p + i;
        x[i] = input_of_pixel(pixel < last ? pixel : last);
      }
      uint8_t* to = rows;
      for (uint32_t b = 0; b < layout_.chunks.blocks; ++b, to += kTileBytes) {
        __m512i codes[3], packed[2];
        for (uint32_t i = 0; i < 3; ++i) codes[i] = _mm512_loadu_si512(x[i] + offsets_[b * 16]);
        pixels_.pack(codes, packed);
        _mm512_storeu_si512(to, packed[0]);
        _mm512_storeu_si512(to + 64, packed[1]);
      }
    }
  }

  void run_group() {
    const uint32_t all = steps();
    plan_prefetch();
    prefetch_panel_ = part_.panel_end;
    for (uint32_t i = 0; i < all; ++i) {
      const Step step = step_at(i), next = step_at(i + 1 < all ? i + 1 : i);
      if (panels_outside_ && step.panel != prefetch_panel_) enter_panel(step.panel);
      const PendingPairs::Span spans[2] = {span_of(2 * step.pair), span_of(2 * step.pair + 1)};
      const uint32_t most = spans[0].pixels < spans[1].pixels ? spans[1].pixels : spans[0].pixels;
      configure((most + 2) / 3 * 2);
      const uint8_t* next_packed = i + 1 < all ? packed(next) : nullptr;
      if (spans[1].pixels != 0)
        run_step<2>(step, next_packed, spans);
      else
        run_step<1>(step, next_packed, spans);
    }
    pending_.write(pending_.left());
  }

  // The next panel's packed bytes come to L2 while a panel outside multiplies.
  void plan_prefetch() {
    const size_t lines = packed_bytes_ / 64, blocks = size_t{pairs()} * 2 * layout_.chunks.blocks;
    prefetch_lines_ = (lines + blocks - 1) / blocks;
  }
  void enter_panel(uint32_t panel) {
    prefetch_panel_ = panel;
    prefetch_ = static_cast<const uint8_t*>(a_.weights) + (panel + 1) * packed_bytes_;
    prefetch_end_ = prefetch_ + (panel + 1 < part_.panel_end ? packed_bytes_ : 0);
  }

  void configure(uint32_t rows) {
    if (rows == configured_) return;
    tiles_.configure(tile_config(rows, 16));
    configured_ = rows;
  }

  template <int kTiles>
  void run_step(const Step& step, const uint8_t* next_packed, const PendingPairs::Span spans[2]) {
    const uint32_t blocks = blocks_of(step.chunk);
    const size_t first_block = layout_.chunks.first(step.chunk) * kTileBytes;
    const size_t lines = prefetch_ < prefetch_end_ ? prefetch_lines_ : 0;
    Pass pass = {.x = {rows_of(2 * step.pair) + first_block,
                       rows_of(2 * step.pair + kTiles - 1) + first_block},
                 .pixel = 64,
                 .offsets = block_offsets_,
                 .blocks = KBlocks(16, blocks),
                 .packed = packed(step),
                 .half = 0,
                 .next_packed = packed(step),
                 .next_half = 1,
                 .start = shifts_of(step.chunk),
                 .sums = sums_,
                 .slice = (pending_.left() + blocks - 1) / blocks,
                 .prefetch = prefetch_,
                 .prefetch_lines = lines};
    multiply_half<Tiles, 2, kTiles>(tiles_, pass, &ring_, &pending_);
    pass.half = 1;
    pass.next_packed = next_packed;
    pass.next_half = 0;
    pass.sums += kHalf;
    pass.prefetch += blocks * lines * 64;
    multiply_half<Tiles, 2, kTiles>(tiles_, pass, &ring_, &pending_);
    prefetch_ += 2 * blocks * lines * 64;
    pending_.set(a_, spans, step.panel, form_, start_of_panel(step.panel), step.chunk == 0,
                 step.chunk + 1 == layout_.chunks.count, shifts_of(step.chunk)[0], sums_);
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const PairLayout layout_;
  const TripleUnits units_;
  const PixelPairs pixels_ = {};
  uint8_t* scratch_;
  ptrdiff_t* offsets_;
  Ring<2> ring_;
  size_t packed_bytes_;  // of a panel
  bool panels_outside_;
  Tiles tiles_ = {};
  PanelForm form_ = {};
  uint32_t first_ = 0, count_ = 0;  // units of the group
  uint32_t configured_ = 0, prefetch_panel_ = 0;
  const uint8_t *prefetch_ = nullptr, *prefetch_end_ = nullptr;
  size_t prefetch_lines_ = 0;
  ptrdiff_t block_offsets_[kMaxPairBlocks * 16];
  PendingPairs pending_;
  alignas(64) int32_t sums_[2 * kTilePixels * kPanelChannels];
};

size_t amx_crt_scratch_bytes(const ConvShape& s, uint32_t cb) { return PairLayout(s, cb).bytes; }
template <typename Tiles>
void amx_crt_run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  AmxCrtConv<Tiles>(a, part, context).run();
}
// Vectors decode at the expense of tiles, so only one long chunk of many pixels gains in a network:
// with layers of 768 inputs packed, BERT-base takes 54.8 ms for 57.6 at 384 tokens and the same at
// 128. Every further chunk costs another decoding, and ResNet-50 with all its layers loses 4 %.
float amx_crt_cost(const ConvShape& s, uint32_t cb, CpuFamily family) {
  const CrtChunks chunks(s, kMaxPairBlocks);
  const bool gains =
      chunks.count == 1 && chunks.blocks >= 10 && panel_count(s) >= 12 && TripleUnits(s).units >= 4;
  return amx_cost(s, cb, family) * (gains ? 0.95F : 1.15F);
}

template <typename Tiles>
constexpr ConvKernel amx_crt_row(const char* name, IsaMask isa) {
  return {name,
          isa,
          Elem::s2,
          PixelPairs::kMaxActivation,
          "panel64_s2_v1",
          crt_fits,
          panels_bytes_of<2>,
          pack_panels_of<2>,
          amx_crt_units,
          amx_crt_scratch_bytes,
          amx_crt_run<Tiles>,
          amx_crt_cost};
}

}  // namespace
}  // namespace mpq::kernels
