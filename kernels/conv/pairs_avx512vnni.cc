// Convolution and matrix product by pairs (pairs.h): 4- and 2-bit weights, any stride and dilation.

#include "kernels/conv/pairs.h"
#include "kernels/conv/panel_walk_avx512.h"
#include "kernels/conv/rows.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTilePixels = 7;  // times 32 channels: 14 accumulators, 4 weights, 4 sums

#define MPQ_ADD_BYTES(sum, a, b) __asm__ volatile("vpaddb %2, %1, %0" : "=v"(sum) : "v"(a), "v"(b))

// As multiply_tile of 2 vectors: a step takes two k-groups, x0 from the first and x1 from the
// second, whose weights lie as w0 + h - 128 and w1 + h.
template <int kPixels>
void multiply_pairs(const TileArgs& t) {
  constexpr int kVectors = 2;
  __m512i acc[kPixels][kVectors];
#pragma GCC unroll 7
  for (int p = 0; p < kPixels; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      acc[p][v] = _mm512_sub_epi32(
          _mm512_loadu_si512(t.start + static_cast<size_t>(p) * t.start_step + 16 * v),
          _mm512_set1_epi32(t.correction[p]));

  const ptrdiff_t step = t.pixel;
  const uint8_t* base[3];
  base[0] = t.x;
#pragma GCC unroll 2
  for (int i = 1; i < 3; ++i) base[i] = base[i - 1] + 3 * step;
  const int8_t* w = t.w;
  const int8_t* prefetch = t.prefetch;
#pragma GCC unroll 1
  for (size_t g = 0; g < t.groups; g += 2, w += 2 * kGroupBytes) {
    _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
    prefetch += t.prefetch_step;
    const ptrdiff_t offset = t.offsets[g];
    __m512i w0[kVectors], w1[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      w0[v] = _mm512_loadu_si512(w + 64 * v);
      w1[v] = _mm512_loadu_si512(w + kGroupBytes + 64 * v);
    }
#pragma GCC unroll 7
    for (int p = 0; p < kPixels; ++p) {
      const auto* x =
          reinterpret_cast<const UnalignedInt*>(base[p / 3] + (offset + (p % 3) * step));
      __m512i x0, x1;
      MPQ_BROADCAST(x0, x[0]);
      MPQ_BROADCAST(x1, x[1]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        __m512i u, s;
        MPQ_ADD_BYTES(u, x0, w1[v]);
        MPQ_ADD_BYTES(s, x1, w0[v]);
        MPQ_DPBUSD(acc[p][v], u, s);
      }
    }
  }

  int32_t* sums = t.sums;
#pragma GCC unroll 7
  for (int p = 0; p < kPixels; ++p, sums += t.sums_step)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(sums + 16 * v, acc[p][v]);
}

constexpr TileFn kPairTiles[kTilePixels + 1] = {
    nullptr,           multiply_pairs<1>, multiply_pairs<2>, multiply_pairs<3>,
    multiply_pairs<4>, multiply_pairs<5>, multiply_pairs<6>, multiply_pairs<7>};

constexpr int32_t kNoCorrection[kMaxPixels] = {};

template <uint32_t kWeightBits>
struct Pairs {
  static constexpr uint32_t kBits = kWeightBits;
  static constexpr size_t kHeadBytes = kPairsHeadBytes;
  static constexpr int32_t kHalf = pairs_half(kBits);

  // Fields of a byte without their sign, h added by turning their top bit; then -128 likewise.
  template <uint32_t kAdd>
  static __m512i widen_unsigned(__m512i line, uint32_t field) {
    uint64_t matrix = 0;
    for (uint32_t i = 0; i < kBits; ++i)
      matrix |= (uint64_t{1} << (field * kBits + i)) << (8 * (7 - i));
    return _mm512_gf2p8affine_epi64_epi8(line, _mm512_set1_epi64(static_cast<long long>(matrix)),
                                         static_cast<int>(kAdd));
  }
  template <uint32_t kAdd>
  static void widen_group(const uint8_t* packed, int8_t* wide) {
    constexpr uint32_t kFields = 8 / kBits;
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 4 / kFields; ++i, packed += 64) {
      const __m512i line = _mm512_loadu_si512(packed);
#pragma GCC unroll 4
      for (uint32_t f = 0; f < kFields; ++f, wide += 64)
        _mm512_store_si512(wide, widen_unsigned<kAdd>(line, f));
    }
  }
  static void widen(const uint8_t* packed, size_t groups, int8_t* wide) {
    constexpr size_t kPackedGroup = kGroupBytes / 8 * kBits;
    for (size_t g = 0; g < groups; g += 2, packed += 2 * kPackedGroup, wide += 2 * kGroupBytes) {
      widen_group<kHalf | 0x80>(packed, wide);
      widen_group<kHalf>(packed + kPackedGroup, wide + kGroupBytes);
    }
  }

  static const int32_t* start(const uint8_t* head, const int32_t* start, int32_t* buffer) {
    for (uint32_t i = 0; i < kPanelChannels; i += 16)
      _mm512_storeu_si512(buffer + i, _mm512_add_epi32(_mm512_loadu_si512(start + i),
                                                       _mm512_loadu_si512(head + i * 4)));
    return buffer;
  }

  static uint32_t passes(uint32_t pixels) { return pixels <= kTilePixels ? 1 : 2; }

  static void multiply(TileArgs tile, uint32_t pixels) {
    if (tile.correction == nullptr) tile.correction = kNoCorrection;
    const uint32_t first = pixels <= kTilePixels ? pixels : (pixels + 1) / 2;
    for (uint32_t c = 0; c < kPanelChannels; c += 32) {
      TileArgs part = tile;
      for (uint32_t at = 0; at < pixels; at += first) {  // the second time weights come from L1
        kPairTiles[pixels - at < first ? pixels - at : first](part);
        part.x += static_cast<ptrdiff_t>(first) * tile.pixel;
        part.start += first * tile.start_step;
        part.correction += first;
        part.sums += first * tile.sums_step;
        // Each pass makes half as many steps as there are k-groups.
        part.prefetch += tile.groups / 2 * tile.prefetch_step;
      }
      tile.w += 128;
      tile.start += 32;
      tile.sums += 32;
      tile.prefetch = part.prefetch;
    }
  }

  // Of each pixel the sum of x0 (x1 + h - 128) + h x1, a block of 64 channels at a time.
  static bool correct(const ConvArgs& a, const ConvPart& part, const ptrdiff_t* offsets,
                      int32_t* corrections) {
    const __m512i add = _mm512_set1_epi8(static_cast<char>(kHalf - 128)),
                  half = _mm512_set1_epi8(static_cast<char>(kHalf));
    const size_t groups = panel_groups(a.shape, a.x.cb);
    for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit, corrections += kMaxPixels) {
      const Unit u = unit_at(a.shape, unit);
      const uint8_t* x = input_of(a, u);
      for (uint32_t p = 0; p < u.pixels; ++p, x += static_cast<ptrdiff_t>(a.shape.stride_w) * 64) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t g = 0; g < groups; g += 16) {
          const __m512i codes = _mm512_loadu_si512(x + offsets[g]);
          const __m512i other =
              _mm512_add_epi8(_mm512_shuffle_epi32(codes, static_cast<_MM_PERM_ENUM>(0xb1)), add);
          sum = _mm512_dpbusd_epi32(sum, codes, _mm512_mask_blend_epi32(0x5555, half, other));
        }
        corrections[p] = _mm512_reduce_add_epi32(sum);
      }
    }
    return true;
  }
};

template <uint32_t kBits>
size_t packed_bytes(const ConvShape& s, uint32_t cb) {
  return pairs_bytes(s, cb, kBits);
}

template <uint32_t kBits>
void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_pairs(s, cb, kBits, canonical, packed);
}

template <uint32_t kBits>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  uint32_t units = 0, panels = 0;
  row_units(s, &units, &panels);
  return offset_bytes(s, cb) + wide_bytes<Pairs<kBits>>(s, cb) +
         size_t{units} * kMaxPixels * sizeof(int32_t);
}

float cost(const ConvShape& s, uint32_t, CpuFamily family) { return pairs_cost(s, family); }

template <uint32_t kBits>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,
          kIsaAvx512Vnni,
          weights,
          255 - (2 * pairs_half(kBits) - 1),
          layout,
          pairs_fit,
          packed_bytes<kBits>,
          pack<kBits>,
          row_units,
          scratch_bytes<kBits>,
          run_panels<Pairs<kBits>>,
          cost};
}

}  // namespace

const ConvKernel conv_u240s4_pairs_avx512vnni =
    row<4>("conv_u240s4_pairs_avx512vnni", Elem::s4, "pairs64_s4_v1");
const ConvKernel conv_u252s2_pairs_avx512vnni =
    row<2>("conv_u252s2_pairs_avx512vnni", Elem::s2, "pairs64_s2_v1");

}  // namespace mpq::kernels
