// Convolution and matrix product by lookups (lookup.h): 2-bit codes, 2-bit weights, any stride.
//
// Units are taken in chunks. Of each pixel of a chunk the triples of codes, k in walking order, are
// made into places in the table of tables first, which all panels share:
//
//   chunks of units { places; pairs of panels { units { look up; epilogue } } }

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/lookup.h"
#include "kernels/conv/rows.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kUnitPixels = 8;  // times 128 channels: 16 sums, 2 triples of weights, a table
constexpr size_t kPlaces = 32;       // of 16 bits, side by side: one line
constexpr size_t kUnitLines = kUnitPixels * 64;  // bytes of as many places of a unit
constexpr size_t kLinePieces = kPlaces / kPieceTriples;
constexpr size_t kChunkBytes = 256 * 1024;  // of places
constexpr uint32_t kTogether = 3;           // blocks of 64 codes: 64 triples, two lines of places

// [codes x0 + 4 x1 + 16 x2][weights w0 + 4 w1 + 16 w2, two bits each]
struct Tables {
  alignas(64) int8_t sums[64][64];
};
constexpr Tables make_tables() {
  Tables t = {};
  for (int x = 0; x < 64; ++x)
    for (int w = 0; w < 64; ++w)
      for (int i = 0; i < 6; i += 2)
        t.sums[x][w] = static_cast<int8_t>(t.sums[x][w] + (x >> i & 3) * (((w >> i & 3) ^ 2) - 2));
  return t;
}
constexpr Tables kTables = make_tables();

// Volatile, as in tile_avx512vnni.h: in this order two lookups and two additions take two cycles.
#define MPQ_LOAD_TABLE(to, from) __asm__ volatile("vmovdqa64 %1, %0" : "=v"(to) : "m"(from))
#define MPQ_LOOK_UP(to, triples, table) \
  __asm__ volatile("vpermb %2, %1, %0" : "=v"(to) : "v"(triples), "v"(table))
#define MPQ_ADD_BYTES(sum, a) __asm__ volatile("vpaddb %1, %0, %0" : "+v"(sum) : "v"(a))

// The places of three blocks of codes: those of x0 | x1 << 2 | x2 << 4, times the 64 bytes of a
// table.
class Places {
 public:
  Places() {
    alignas(64) uint8_t first[2][64] = {}, others[2][64] = {};
    for (uint32_t line = 0; line < 2; ++line)
      for (uint32_t i = 0; i < kPlaces; ++i) {  // of the first and the second block, or the next
        const uint32_t code = line * 32 + 3 * i;
        first[line][2 * i] = static_cast<uint8_t>(code);
        others[line][2 * i] = static_cast<uint8_t>(code + 1);
        others[line][2 * i + 1] = static_cast<uint8_t>(code + 2);
      }
    for (int line = 0; line < 2; ++line) {
      first_[line] = _mm512_load_si512(first[line]);
      others_[line] = _mm512_load_si512(others[line]);
    }
  }
  // lines: 1 if there are at most 32 triples.
  void make(const uint8_t* const blocks[kTogether], size_t lines, uint8_t* to) const {
    const __m512i x[kTogether] = {_mm512_loadu_si512(blocks[0]), _mm512_loadu_si512(blocks[1]),
                                  _mm512_loadu_si512(blocks[2])};
    _mm512_store_si512(to, line(0, x[0], x[1]));
    if (lines > 1) _mm512_store_si512(to + kUnitLines, line(1, x[1], x[2]));
  }

 private:
  __m512i line(int i, __m512i a, __m512i b) const {
    const __m512i x0 = _mm512_maskz_permutex2var_epi8(0x5555555555555555, a, first_[i], b),
                  x12 = _mm512_maddubs_epi16(_mm512_permutex2var_epi8(a, others_[i], b),
                                             _mm512_set1_epi16(16 << 8 | 4));
    // Whatever the codes, a place is one of the table's.
    return _mm512_and_si512(_mm512_slli_epi16(_mm512_add_epi16(x0, x12), 6),
                            _mm512_set1_epi16(63 << 6));
  }
  __m512i first_[2], others_[2];
};

struct Tile {
  const uint8_t* places;  // [32 triples][pixel]
  const uint8_t *packed, *lengths;
  uint32_t stretches, rest;
  size_t line;     // bytes from a triple to the next
  uint16_t* sums;  // [panel][kUnitPixels][64]
};

// Adds triple i of those at `places`.
template <int kPixels, int kPanels>
inline void add_triple(const uint8_t* packed, const uint8_t* places, size_t i,
                       __m512i acc[kPixels][kPanels]) {
  const auto* tables = reinterpret_cast<const char*>(kTables.sums);
  __m512i triples[kPanels];
#pragma GCC unroll 2
  for (int v = 0; v < kPanels; ++v) triples[v] = _mm512_loadu_si512(packed + v * kLookupLine);
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    uint16_t place;
    __builtin_memcpy(&place, places + p * 64 + 2 * i, sizeof place);
    __m512i table, sum[kPanels];
    MPQ_LOAD_TABLE(table, *reinterpret_cast<const __m512i*>(tables + place));
#pragma GCC unroll 2
    for (int v = 0; v < kPanels; ++v) MPQ_LOOK_UP(sum[v], triples[v], table);
#pragma GCC unroll 2
    for (int v = 0; v < kPanels; ++v) MPQ_ADD_BYTES(acc[p][v], sum[v]);
  }
}

// Words of a stretch are added to those before; while it is not the last, even bytes with the odd
// ones above them, which are taken off in the end.
inline void add_words(__m512i bytes, bool first, bool last, uint16_t* sums) {
  __m512i both = bytes, odd = _mm512_srli_epi16(bytes, 8);
  if (!first) {
    both = _mm512_add_epi16(both, _mm512_load_si512(sums));
    odd = _mm512_add_epi16(odd, _mm512_load_si512(sums + 32));
  }
  if (last) both = _mm512_sub_epi16(both, _mm512_slli_epi16(odd, 8));
  _mm512_store_si512(sums, both);
  _mm512_store_si512(sums + 32, odd);
}

// Aligned: the loop takes 5 % longer where it begins 16 bytes further.
template <int kPixels, int kPanels>
__attribute__((aligned(64))) void look_up(const Tile& t) {
  __m512i acc[kPixels][kPanels];
  const uint8_t* packed = t.packed;
  size_t piece = 0;
  const auto places = [&] {
    return t.places + piece / kLinePieces * kUnitLines + piece % kLinePieces * (2 * kPieceTriples);
  };
  for (uint32_t stretch = 0; stretch < t.stretches; ++stretch) {
    const bool last = stretch + 1 == t.stretches;
#pragma GCC unroll 16
    for (int i = 0; i < kPixels * kPanels; ++i)
      acc[i / kPanels][i % kPanels] = _mm512_loadu_si512(packed + i % kPanels * kLookupLine);
    packed += t.line;
    const size_t end = piece + t.lengths[stretch];
#pragma GCC unroll 1
    for (; piece < end; ++piece) {
      const uint8_t* at = places();
#pragma GCC unroll 4
      for (size_t i = 0; i < kPieceTriples; ++i, packed += t.line)
        add_triple<kPixels, kPanels>(packed, at, i, acc);
    }
    if (last)
#pragma GCC unroll 1
      for (size_t i = 0; i < t.rest; ++i, packed += t.line)
        add_triple<kPixels, kPanels>(packed, places(), i, acc);
#pragma GCC unroll 16
    for (int i = 0; i < kPixels * kPanels; ++i)
      add_words(acc[i / kPanels][i % kPanels], stretch == 0, last,
                t.sums + (i % kPanels * static_cast<int>(kUnitPixels) + i / kPanels) * 64);
  }
}

using LookUpFn = void (*)(const Tile&);
constexpr LookUpFn kLookUp[kUnitPixels + 1][kLookupPanels] = {{nullptr, nullptr},
                                                              {look_up<1, 1>, look_up<1, 2>},
                                                              {look_up<2, 1>, look_up<2, 2>},
                                                              {look_up<3, 1>, look_up<3, 2>},
                                                              {look_up<4, 1>, look_up<4, 2>},
                                                              {look_up<5, 1>, look_up<5, 2>},
                                                              {look_up<6, 1>, look_up<6, 2>},
                                                              {look_up<7, 1>, look_up<7, 2>},
                                                              {look_up<8, 1>, look_up<8, 2>}};

// Where things lie in scratch.
struct Layout {
  LookupCut cut;
  size_t lines, unit;  // of places, of a pixel; bytes of a unit's
  uint32_t chunk_units;
  size_t places, bytes;  // behind the offsets; of all
  Layout(const ConvShape& s, uint32_t cb) : cut(s) {
    lines = (cut.triples + kPlaces - 1) / kPlaces;
    unit = lines * kUnitLines;
    uint32_t units = 0, panels = 0;
    row_units<kUnitPixels>(s, &units, &panels);
    const size_t fit = kChunkBytes / unit + 1;
    chunk_units = fit < units ? static_cast<uint32_t>(fit) : units;
    places = offset_bytes(s, cb);
    bytes = places + chunk_units * unit;
  }
};

class LookupConv {
 public:
  LookupConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        layout_(a.shape, a.x.cb),
        offsets_(static_cast<ptrdiff_t*>(context.scratch)),
        places_(static_cast<uint8_t*>(context.scratch) + layout_.places) {
    fill_offsets(a, offsets_);
  }

  void run() {
    for (uint32_t first = part_.unit_begin; first < part_.unit_end; first += layout_.chunk_units) {
      const uint32_t left = part_.unit_end - first,
                     units = left < layout_.chunk_units ? left : layout_.chunk_units;
      for (uint32_t i = 0; i < units; ++i) make_places(first + i, places_ + i * layout_.unit);
      for (uint32_t p = part_.panel_begin, end; p < part_.panel_end; p = end) {
        end = p / kLookupPanels * kLookupPanels + kLookupPanels;
        if (end > part_.panel_end) end = part_.panel_end;
        enter(p, end - p);
        for (uint32_t i = 0; i < units; ++i)
          run_unit(first + i, places_ + i * layout_.unit, p, end - p);
      }
    }
  }

 private:
  void make_places(uint32_t number, uint8_t* to) const {
    const ConvShape& s = a_.shape;
    const size_t blocks = layout_.cut.codes / kLookupBlock;
    const ptrdiff_t pixel = static_cast<ptrdiff_t>(s.stride_w) * kLookupBlock;
    const Unit u = unit_at(s, number, kUnitPixels);
    const uint8_t* x = input_of(a_, u);
    const Places maker = maker_;  // in registers: bytes that are stored could be it otherwise
    for (size_t b = 0, line = 0; b < blocks; b += kTogether, line += 2, to += 2 * kUnitLines) {
      const uint8_t* codes[kTogether];  // what does not exist is anything
      for (size_t i = 0; i < kTogether; ++i)
        codes[i] = x + offsets_[(b + i < blocks ? b + i : b) * (kLookupBlock / 4)];
      for (uint32_t i = 0; i < u.pixels; ++i) {
        maker.make(codes, layout_.lines - line, to + i * 64);
        for (const uint8_t*& c : codes) c += pixel;
      }
    }
  }

  void enter(uint32_t panel, uint32_t panels) {
    const ConvShape& s = a_.shape;
    const uint32_t first = panel / kLookupPanels * kLookupPanels, behind = panel - first;
    const auto* packed = static_cast<const uint8_t*>(a_.weights) +
                         first / kLookupPanels * layout_.cut.panels_bytes(kLookupPanels);
    const auto* header = reinterpret_cast<const LookupHeader*>(packed);
    const uint32_t width = lookup_width(s, first);
    tile_.packed = packed + layout_.cut.head() + behind * kLookupLine;
    tile_.lengths = packed + sizeof *header;
    tile_.stretches = header->stretches;
    tile_.line = width * kLookupLine;
    tile_.rest = layout_.cut.rest;
    for (uint32_t v = 0; v < panels; ++v) {
      forms_[v] = panel_form(a_.epilogue, (panel + v) * kPanelChannels,
                             panel_max_sum(panel_groups(s, a_.x.cb), 2));
      alignas(64) int32_t lowered[kPanelChannels], start[kPanelChannels];
      const int32_t* biases = start_of(a_, panel + v);
      const int32_t* from = form_start(forms_[v], biases, lowered);
      for (uint32_t i = 0; i < kPanelChannels; ++i)
        start[i] = static_cast<int32_t>(
            static_cast<uint32_t>(from[i]) +
            static_cast<uint32_t>(header->start[(behind + v) * kPanelChannels + i]));
      fill_word_starts(start, biases, static_cast<int32_t>(layout_.cut.codes) * 2 * kLookupMaxCode,
                       &starts_[v]);
    }
  }

  void run_unit(uint32_t number, const uint8_t* places, uint32_t panel, uint32_t panels) {
    alignas(64) uint16_t sums[kLookupPanels][kUnitPixels * kPanelChannels];
    const Unit u = unit_at(a_.shape, number, kUnitPixels);
    for (uint32_t v = 0; v < panels; ++v)
      prefetch_block(a_.epilogue, a_.y, block_at(a_.shape, u, panel + v));
    tile_.places = places;
    tile_.sums = sums[0];
    kLookUp[u.pixels][panels - 1](tile_);
    for (uint32_t v = 0; v < panels; ++v)
      run_word_epilogue(sums[v], starts_[v], a_.epilogue, a_.y, a_.dense,
                        block_at(a_.shape, u, panel + v), forms_[v]);
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Layout layout_;
  const Places maker_;
  ptrdiff_t* const offsets_;
  uint8_t* const places_;
  Tile tile_ = {};
  PanelForm forms_[kLookupPanels] = {};
  WordStarts starts_[kLookupPanels];
};

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return Layout(s, cb).bytes; }

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  LookupConv(a, part, context).run();
}

}  // namespace

const ConvKernel conv_u2s2_lookup_avx512vnni = {"conv_u2s2_lookup_avx512vnni",
                                                kIsaAvx512Vnni,
                                                Elem::s2,
                                                kLookupMaxCode,
                                                kLookupLayout,
                                                lookup_fits,
                                                lookup_bytes,
                                                pack_lookup,
                                                row_units<kUnitPixels>,
                                                scratch_bytes,
                                                run,
                                                lookup_cost};

}  // namespace mpq::kernels
