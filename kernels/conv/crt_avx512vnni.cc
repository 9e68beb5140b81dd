// Convolution and matrix product by packed products (crt.h): 2-bit codes, 2-bit weights, or both.
//
// Pixels are packed into rows of their own, k in walking order, so a unit is any 12 neighbours of
// the output however its rows end. For a group of units that stays in L2, each chunk of a panel is
// widened into L1 and used by all of them:
//
//   groups of units { pack; panels { chunks { widen; units { multiply; decode } } epilogues } }

#include "kernels/conv/crt_pack_avx512.h"
#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"

namespace mpq::kernels {
namespace {

constexpr size_t kGroupOfUnits = 320 * 1024;  // bytes of packed rows and sums that stay in L2
constexpr uint32_t kMaxRows = 9;              // packed rows of a unit

struct MultiplyArgs {
  const uint8_t* rows;
  ptrdiff_t row;  // bytes from a packed row to the next
  const int8_t* wide;
  size_t groups;
  const int32_t* starts;  // [row][vector]
  int32_t* sums;          // [row][vector][16]
  const uint8_t* prefetch;
  size_t prefetch_step;  // 64, or 0 when there is nothing to fetch
};

template <int kRows, int kVectors>
void multiply_rows(const MultiplyArgs& m) {
  __m512i acc[kRows][kVectors];
#pragma GCC unroll 9
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_set1_epi32(m.starts[r * kVectors + v]);
  // Row r is read at base[r / 3] + (r % 3) * step: three bases and two indices.
  const ptrdiff_t step = m.row;
  const uint8_t* base[3] = {m.rows, m.rows + 3 * step, m.rows + 6 * step};
  const int8_t* w = m.wide;
  const uint8_t* prefetch = m.prefetch;
#pragma GCC unroll 1
  for (ptrdiff_t k = 0; k < static_cast<ptrdiff_t>(m.groups) * 4; k += 4, w += 64 * kVectors) {
    _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
    prefetch += m.prefetch_step;
    __m512i held[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) held[v] = _mm512_loadu_si512(w + 64 * v);
#pragma GCC unroll 9
    for (int r = 0; r < kRows; ++r) {
      __m512i a;
      MPQ_BROADCAST(a, *reinterpret_cast<const UnalignedInt*>(base[r / 3] + (k + (r % 3) * step)));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) MPQ_DPBUSD(acc[r][v], a, held[v]);
    }
  }
#pragma GCC unroll 9
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      _mm512_store_si512(m.sums + (r * kVectors + v) * 16, acc[r][v]);
}

using MultiplyFn = void (*)(const MultiplyArgs&);

template <typename Method>
constexpr uint32_t kUnitPixels = Method::kPixels* Method::kGroups;

// Where things lie in scratch.
template <typename Method>
struct Layout {
  static constexpr size_t kStartBytes = 128;  // starts of a unit's packed rows for one chunk
  static_assert(Method::kRows * Method::kGroups * Method::kVectors * sizeof(int32_t) <=
                kStartBytes);
  CrtChunks chunks;
  size_t unit_bytes;     // packed rows
  uint32_t group_units;  // that are done together
  size_t offsets, wide, rows, sums, bytes;

  Layout(const ConvShape& s, uint32_t cb) : chunks(s, Method::kMaxBlocks) {
    constexpr size_t kRows = Method::kRows * Method::kGroups;
    unit_bytes = chunks.count * kStartBytes + size_t{chunks.blocks} * kCrtBlock * kRows;
    const uint32_t all = unit_count(s);
    const size_t fit = kGroupOfUnits / (unit_bytes + kSumBytes), most = fit < 1 ? 1 : fit;
    const auto groups = static_cast<uint32_t>((all + most - 1) / most);
    group_units = (all + groups - 1) / groups;
    offsets = 0;
    wide = offset_bytes(s, cb);
    rows = wide + size_t{Method::kMaxBlocks} * kCrtBlock / 4 * 64 * Method::kVectors;
    sums = rows + group_units * unit_bytes;
    bytes = sums + group_units * kSumBytes;
  }
  static constexpr size_t kSumBytes = kUnitPixels<Method> * kPanelChannels * sizeof(int32_t);
  static uint32_t unit_count(const ConvShape& s) {
    return (s.n * s.oh * s.ow + kUnitPixels<Method> - 1) / kUnitPixels<Method>;
  }
};

template <typename Method>
class CrtConv {
 public:
  CrtConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        layout_(a.shape, a.x.cb),
        pixels_(a.shape.n * a.shape.oh * a.shape.ow),
        packed_panel_(panel_groups(a.shape, a.x.cb) * kGroupBytes / 8 * Method::kBits) {
    auto* scratch = static_cast<uint8_t*>(context.scratch);
    offsets_ = reinterpret_cast<ptrdiff_t*>(scratch + layout_.offsets);
    wide_ = reinterpret_cast<int8_t*>(scratch + layout_.wide);
    rows_ = scratch + layout_.rows;
    sums_ = reinterpret_cast<int32_t*>(scratch + layout_.sums);
    fill_offsets(a, offsets_);
  }

  void run() {
    for (uint32_t unit = part_.unit_begin; unit < part_.unit_end; unit += layout_.group_units) {
      const uint32_t left = part_.unit_end - unit;
      first_ = unit;
      count_ = left < layout_.group_units ? left : layout_.group_units;
      for (uint32_t u = 0; u < count_; ++u) pack_unit(u);
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) run_panel(p);
    }
  }

 private:
  uint32_t first_pixel(uint32_t u) const { return (first_ + u) * kUnitPixels<Method>; }
  uint32_t pixels_of(uint32_t u) const {
    const uint32_t left = pixels_ - first_pixel(u);
    return left < kUnitPixels<Method> ? left : kUnitPixels<Method>;
  }
  uint32_t groups_of(uint32_t u) const {
    return (pixels_of(u) + Method::kPixels - 1) / Method::kPixels;
  }
  // A unit's packed rows of a chunk: starts, then [row][k].
  uint8_t* chunk_of(uint32_t u, uint32_t chunk) const {
    constexpr size_t kRows = Method::kRows * Method::kGroups;
    return rows_ + u * layout_.unit_bytes + chunk * Layout<Method>::kStartBytes +
           size_t{layout_.chunks.first(chunk)} * kCrtBlock * kRows;
  }
  uint32_t blocks_of(uint32_t chunk) const {
    return layout_.chunks.first(chunk + 1) - layout_.chunks.first(chunk);
  }

  const uint8_t* input_of_pixel(uint32_t pixel) const {
    const ConvShape& s = a_.shape;
    const uint32_t x = pixel % s.ow, row = pixel / s.ow;
    return input_of(a_, {row / s.oh, row % s.oh, x, 1});
  }

  void pack_unit(uint32_t u) {
    const uint32_t last = first_pixel(u) + pixels_of(u) - 1;
    for (uint32_t g = 0; g < groups_of(u); ++g) {
      const uint8_t* x[Method::kPixels];
      for (uint32_t p = 0; p < Method::kPixels; ++p) {  // what does not exist is anything
        const uint32_t pixel = first_pixel(u) + g * Method::kPixels + p;
        x[p] = input_of_pixel(pixel < last ? pixel : last);
      }
      for (uint32_t chunk = 0; chunk < layout_.chunks.count; ++chunk) pack_chunk(u, g, chunk, x);
    }
  }

  void pack_chunk(uint32_t u, uint32_t g, uint32_t chunk, const uint8_t* const x[]) {
    const uint32_t blocks = blocks_of(chunk);
    const ptrdiff_t* offset = offsets_ + size_t{layout_.chunks.first(chunk)} * (kCrtBlock / 4);
    uint8_t* const at = chunk_of(u, chunk);
    uint8_t* to = at + Layout<Method>::kStartBytes + size_t{g} * Method::kRows * blocks * kCrtBlock;
    const __m512i weight_offset = _mm512_set1_epi8(Method::kOffset);
    __m512i sums[Method::kRows] = {};
    for (uint32_t b = 0; b < blocks; ++b, offset += kCrtBlock / 4, to += kCrtBlock) {
      __m512i codes[Method::kPixels], rows[Method::kRows];
      for (uint32_t p = 0; p < Method::kPixels; ++p) codes[p] = _mm512_loadu_si512(x[p] + *offset);
      method_.pack(codes, rows);
      for (uint32_t r = 0; r < Method::kRows; ++r) {
        _mm512_storeu_si512(to + size_t{r} * blocks * kCrtBlock, rows[r]);
        if (Method::kOffset != 0) sums[r] = _mm512_dpbusd_epi32(sums[r], rows[r], weight_offset);
      }
    }
    const int32_t shift = shift_of(chunk);
    auto* starts = reinterpret_cast<int32_t*>(at) + g * Method::kRows * Method::kVectors;
    for (uint32_t r = 0; r < Method::kRows; ++r) {
      const int32_t raised = Method::kOffset == 0 ? 0 : _mm512_reduce_add_epi32(sums[r]);
      for (int v = 0; v < Method::kVectors; ++v)
        *starts++ = shift * Method::pixel_factor(r) * Method::channel_factor(v) - raised;
    }
  }
  int32_t shift_of(uint32_t chunk) const {
    return static_cast<int32_t>(blocks_of(chunk) * kCrtBlock / 2) * Method::kHalfShift;
  }

  void run_panel(uint32_t panel) {
    const Epilogue& e = a_.epilogue;
    const uint8_t* packed = static_cast<const uint8_t*>(a_.weights) + panel * packed_panel_;
    constexpr size_t kBlockBytes = kCrtBlock / 4 * kGroupBytes / 8 * Method::kBits;
    const PanelForm form = panel_form(
        e, panel * kPanelChannels, panel_max_sum(panel_groups(a_.shape, a_.x.cb), Method::kBits));
    alignas(64) int32_t lowered[kPanelChannels], start[kPanelChannels];
    const int32_t* from = form_start(form, start_of(a_, panel), lowered);
    uint32_t raised = 0;  // by all chunks; wraps
    for (uint32_t chunk = 0; chunk < layout_.chunks.count; ++chunk)
      raised += static_cast<uint32_t>(kCrtMagic + shift_of(chunk));
    for (uint32_t i = 0; i < kPanelChannels; i += 16)
      _mm512_store_si512(start + i,
                         _mm512_sub_epi32(_mm512_loadu_si512(from + i),
                                          _mm512_set1_epi32(static_cast<int32_t>(raised))));

    const uint8_t* const end =
        static_cast<const uint8_t*>(a_.weights) + part_.panel_end * packed_panel_;
    for (uint32_t chunk = 0; chunk < layout_.chunks.count; ++chunk) {
      const size_t groups = size_t{blocks_of(chunk)} * (kCrtBlock / 4);
      Method::widen(packed + layout_.chunks.first(chunk) * kBlockBytes, groups, wide_);
      const uint8_t* next = packed + layout_.chunks.first(chunk + 1) * kBlockBytes;
      for (uint32_t u = 0; u < count_; ++u) {
        if (chunk + 1 == layout_.chunks.count)
          for_each_block(u, panel,
                         [&](const EpilogueBlock& at, uint32_t) { prefetch_block(e, a_.y, at); });
        next += multiply_unit(u, chunk, groups, next, end, chunk == 0 ? start : nullptr);
      }
    }
    for (uint32_t u = 0; u < count_; ++u)
      for_each_block(u, panel, [&](const EpilogueBlock& at, uint32_t first) {
        run_epilogue(sums_of(u) + first * kPanelChannels, e, a_.y, a_.dense, at, form);
      });
  }

  int32_t* sums_of(uint32_t u) const {
    return sums_ + size_t{u} * kUnitPixels<Method> * kPanelChannels;
  }

  // Returns the bytes of `next` that it brought to L2.
  size_t multiply_unit(uint32_t u, uint32_t chunk, size_t groups, const uint8_t* next,
                       const uint8_t* end, const int32_t* start) {
    alignas(64) int32_t packed[kMaxRows * Method::kVectors * 16];
    const uint8_t* at = chunk_of(u, chunk);
    const size_t prefetch_step = next < end ? 64 : 0;
    kMultiply[groups_of(u)]({.rows = at + Layout<Method>::kStartBytes,
                             .row = static_cast<ptrdiff_t>(groups * 4),
                             .wide = wide_,
                             .groups = groups,
                             .starts = reinterpret_cast<const int32_t*>(at),
                             .sums = packed,
                             .prefetch = prefetch_step == 0 ? at : next,
                             .prefetch_step = prefetch_step});
    int32_t* sums = sums_of(u);
    const int32_t* group = packed;
    for (uint32_t g = 0; g < groups_of(u); ++g) {
      Method::decode(group, start != nullptr ? start : sums, start != nullptr ? 0 : kPanelChannels,
                     sums);
      group += Method::kRows * Method::kVectors * 16;
      sums += Method::kPixels * kPanelChannels;
    }
    return groups * prefetch_step;
  }

  // fn(block, first) for the parts of a unit that lie in one output row each.
  template <typename Fn>
  void for_each_block(uint32_t u, uint32_t panel, Fn fn) const {
    const ConvShape& s = a_.shape;
    const uint32_t count = pixels_of(u);
    for (uint32_t i = 0; i < count;) {
      const uint32_t pixel = first_pixel(u) + i, x = pixel % s.ow, row = pixel / s.ow;
      const uint32_t room = s.ow - x, pixels = count - i < room ? count - i : room;
      fn(block_at(s, {row / s.oh, row % s.oh, x, pixels}, panel), i);
      i += pixels;
    }
  }

  template <uint32_t kGroups>
  static constexpr MultiplyFn multiply_groups() {
    if constexpr (kGroups <= Method::kGroups)
      return multiply_rows<Method::kRows * kGroups, Method::kVectors>;
    else
      return nullptr;
  }
  static constexpr MultiplyFn kMultiply[] = {
      nullptr,
      multiply_groups<1>(),
      multiply_groups<2>(),
      multiply_groups<3>(),
      multiply_groups<4>(),
      multiply_groups<5>(),
      multiply_groups<6>(),
      multiply_groups<7>(),
      multiply_groups<8>(),
      multiply_groups<9>(),
  };

  const ConvArgs& a_;
  const ConvPart& part_;
  const Method method_ = {};
  const Layout<Method> layout_;
  const uint32_t pixels_;
  const size_t packed_panel_;
  ptrdiff_t* offsets_;
  int8_t* wide_;
  uint8_t* rows_;
  int32_t* sums_;
  uint32_t first_ = 0, count_ = 0;  // units of the group
};

template <typename Method>
void crt_units(const ConvShape& s, uint32_t* units, uint32_t* panels) {
  *units = Layout<Method>::unit_count(s);
  *panels = panel_count(s);
}

template <typename Method>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  return Layout<Method>(s, cb).bytes;
}

template <typename Method>
void run_crt(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  CrtConv<Method>(a, part, context).run();
}

template <typename Method>
float cost(const ConvShape& s, uint32_t, CpuFamily) {
  return crt_cost(s, {.max_blocks = Method::kMaxBlocks,
                      .pixels = Method::kPixels,
                      .rows = Method::kRows,
                      .vectors = Method::kVectors});
}

template <typename Method>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,
          kIsaAvx512Vnni,
          weights,
          Method::kMaxActivation,
          layout,
          crt_fits,
          panels_bytes_of<Method::kBits>,
          pack_panels_of<Method::kBits>,
          crt_units<Method>,
          scratch_bytes<Method>,
          run_crt<Method>,
          cost<Method>};
}

}  // namespace

const ConvKernel conv_u2s2_crt_avx512vnni =
    row<PairsByTriples>("conv_u2s2_crt_avx512vnni", Elem::s2, "panel64_s2_v1");
const ConvKernel conv_u4s2_crt_avx512vnni =
    row<TriplesOfChannels>("conv_u4s2_crt_avx512vnni", Elem::s2, "panel64_s2_v1");
const ConvKernel conv_u2s4_crt_avx512vnni =
    row<TriplesOfPixels>("conv_u2s4_crt_avx512vnni", Elem::s4, "panel64_s4_v1");

}  // namespace mpq::kernels
