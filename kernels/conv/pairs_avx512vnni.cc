// Convolution and matrix product by pairs (pairs.h): 4- and 2-bit weights, any stride and dilation.

#include "kernels/conv/pairs.h"
#include "kernels/conv/panel_walk_avx512.h"
#include "kernels/conv/rows.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kTilePixels = 8;  // times 32 channels: 16 accumulators, 6 weights, 8 sums
constexpr int kVectors = 2;

#define MPQ_ADD_BYTES(sum, a, b) __asm__ volatile("vpaddb %2, %1, %0" : "=v"(sum) : "v"(a), "v"(b))

inline const UnalignedInt& codes_at(const uint8_t* x) {
  return *reinterpret_cast<const UnalignedInt*>(x);
}

// A pair, whose weights lie as w0 + h - 128 and w1 + h, and a direct k-group behind it, or one of
// the two. The order of instructions is worth a tenth: additions in fours, multiplications in
// fours, those of a pair a pixel later, when both of its sums are there.
template <int kPixels, bool kPair, bool kDirect>
[[gnu::always_inline]] inline void multiply_step(const TileArgs& t, const ptrdiff_t* offsets,
                                                 const int8_t* w,
                                                 __m512i (&acc)[kPixels][kVectors]) {
  constexpr int kPlain = kPair ? 2 : 0;  // the direct k-group
  __m512i w0[kVectors], w1[kVectors], plain[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    if (kPair) w0[v] = _mm512_loadu_si512(w + 64 * v);
    if (kPair) w1[v] = _mm512_loadu_si512(w + kGroupBytes + 64 * v);
    if (kDirect) plain[v] = _mm512_loadu_si512(w + kPlain * kGroupBytes + 64 * v);
  }
  const uint8_t* x[kPairStep];
#pragma GCC unroll 3
  for (int i = 0; i < kPlain + kDirect; ++i) x[i] = t.x + offsets[i];
  __m512i u[2][kVectors], s[2][kVectors];  // of this pixel and the one before
#pragma GCC unroll 9
  for (int p = 0; p <= kPixels; ++p) {
    if (kPair && p < kPixels) {
      __m512i x0, x1;
      MPQ_BROADCAST(x0, codes_at(x[0]));
      MPQ_BROADCAST(x1, codes_at(x[1]));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        MPQ_ADD_BYTES(u[p % 2][v], x0, w1[v]);
        MPQ_ADD_BYTES(s[p % 2][v], x1, w0[v]);
      }
      x[0] += t.pixel;
      x[1] += t.pixel;
    }
    if (kDirect && p < kPixels) {
      __m512i codes;
      MPQ_BROADCAST(codes, codes_at(x[kPlain]));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) MPQ_DPBUSD(acc[p][v], codes, plain[v]);
      x[kPlain] += t.pixel;
    }
    if (kPair && p > 0)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        MPQ_DPBUSD(acc[p - 1][v], u[(p - 1) % 2][v], s[(p - 1) % 2][v]);
  }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    if (kPair) MPQ_KEEP(w0[v]);
    if (kPair) MPQ_KEEP(w1[v]);
    if (kDirect) MPQ_KEEP(plain[v]);
  }
}

// All 64 channels of some pixels.
template <int kPixels>
void multiply_pairs(const TileArgs& t) {
  const int8_t* prefetch = t.prefetch;
  for (int half = 0; half < 2; ++half) {
    __m512i acc[kPixels][kVectors];
    const int32_t* start = t.start + 32 * half;
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, start += t.start_step)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        acc[p][v] = _mm512_sub_epi32(_mm512_loadu_si512(start + 16 * v),
                                     _mm512_set1_epi32(t.correction[p]));

    const int8_t* w = t.w + 128 * half;
    const ptrdiff_t *offsets = t.offsets, *const end = offsets + t.groups;
#pragma GCC unroll 1
    for (; offsets + kPairStep <= end; offsets += kPairStep, w += kPairStep * kGroupBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T1);
      prefetch += t.prefetch_step;
      multiply_step<kPixels, true, true>(t, offsets, w, acc);
    }
    if (end - offsets == 2) multiply_step<kPixels, true, false>(t, offsets, w, acc);
    if (end - offsets == 1) multiply_step<kPixels, false, true>(t, offsets, w, acc);

    int32_t* sums = t.sums + 32 * half;
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, sums += t.sums_step)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(sums + 16 * v, acc[p][v]);
  }
}

constexpr TileFn kPairTiles[kTilePixels + 1] = {
    nullptr,           multiply_pairs<1>, multiply_pairs<2>, multiply_pairs<3>, multiply_pairs<4>,
    multiply_pairs<5>, multiply_pairs<6>, multiply_pairs<7>, multiply_pairs<8>};

template <uint32_t kWeightBits>
struct Pairs {
  static constexpr uint32_t kBits = kWeightBits;
  static constexpr size_t kHeadBytes = kPairsHeadBytes;
  static constexpr uint32_t kUnitPixels = 2 * kTilePixels, kFewPixels = kUnitPixels;
  static constexpr size_t kStretch = 16 * kPairStep;
  static constexpr int32_t kHalf = pairs_half(kBits), kNoCorrection[kUnitPixels] = {};

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
    for (size_t g = 0; g < groups; g += kPairStep) {
      const bool pair = groups - g > 1, direct = groups - g != 2;
      if (pair) {
        widen_group<kHalf | 0x80>(packed, wide);
        widen_group<kHalf>(packed + kPackedGroup, wide + kGroupBytes);
        packed += 2 * kPackedGroup;
        wide += 2 * kGroupBytes;
      }
      if (direct) {
        widen_all<kBits>(packed, 1, wide);
        packed += kPackedGroup;
        wide += kGroupBytes;
      }
    }
  }

  static const int32_t* start(const uint8_t* head, const int32_t* start, int32_t* buffer) {
    for (uint32_t i = 0; i < kPanelChannels; i += 16)
      _mm512_storeu_si512(buffer + i, _mm512_add_epi32(_mm512_loadu_si512(start + i),
                                                       _mm512_loadu_si512(head + i * 4)));
    return buffer;
  }

  static uint32_t passes(uint32_t pixels) { return pixels <= kTilePixels ? 1 : 2; }
  static size_t lines(size_t groups, uint32_t pixels) {
    return groups / kPairStep * 2 * passes(pixels);
  }

  static void multiply(TileArgs tile, uint32_t pixels) {
    if (tile.correction == nullptr) tile.correction = kNoCorrection;
    const uint32_t first = (pixels + 1) / passes(pixels);
    for (uint32_t at = 0; at < pixels; at += first) {  // the second time weights come from L1
      kPairTiles[pixels - at < first ? pixels - at : first](tile);
      tile.x += static_cast<ptrdiff_t>(first) * tile.pixel;
      tile.start += first * tile.start_step;
      tile.correction += first;
      tile.sums += first * tile.sums_step;
      tile.prefetch += 2 * (tile.groups / kPairStep) * tile.prefetch_step;
    }
  }

  // Of each pixel the sum of (x0 + h) (x1 + h - 128). Lane l of block b is k-group 16 b + l: three
  // blocks together have a first and a second code for every lane.
  static bool correct(const ConvArgs& a, const ConvPart& part, const ptrdiff_t* offsets,
                      int32_t* corrections) {
    constexpr __mmask16 kLanes[3] = {0x9249, 0x2492, 0x4924};  // l mod 3 = 0, 1, 2
    // Pairs in three blocks; in one and in two that are left.
    constexpr __mmask16 kPairs[3] = {0xffff, kLanes[0] & 0x7fff, kLanes[0] | kLanes[2]};
    const __m512i add0 = _mm512_set1_epi8(static_cast<char>(kHalf)),
                  add1 = _mm512_set1_epi8(static_cast<char>(kHalf - 128));
    const size_t blocks = panel_groups(a.shape, a.x.cb) / 16;
    for (uint32_t unit = part.unit_begin; unit < part.unit_end;
         ++unit, corrections += kUnitPixels) {
      const Unit u = unit_of<Pairs>(a.shape, unit);
      const uint8_t* x = input_of(a, u);
      for (uint32_t p = 0; p < u.pixels; ++p, x += static_cast<ptrdiff_t>(a.shape.stride_w) * 64) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t b = 0; b < blocks; b += 3) {
          const size_t count = blocks - b < 3 ? blocks - b : 3;
          __m512i codes[3] = {};
#pragma GCC unroll 3
          for (size_t i = 0; i < 3; ++i)
            if (i < count) codes[i] = _mm512_loadu_si512(x + offsets[16 * (b + i)]);
          const __m512i x0 = _mm512_mask_blend_epi32(
                            kLanes[1], _mm512_mask_blend_epi32(kLanes[2], codes[0], codes[1]),
                            codes[2]),
                        x1 = _mm512_mask_blend_epi32(
                            kLanes[2], _mm512_mask_blend_epi32(kLanes[0], codes[0], codes[1]),
                            codes[2]);
          sum = _mm512_mask_dpbusd_epi32(sum, kPairs[count % 3], _mm512_add_epi8(x0, add0),
                                         _mm512_add_epi8(_mm512_alignr_epi32(x1, x1, 1), add1));
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
  row_units<Pairs<kBits>::kUnitPixels>(s, &units, &panels);
  return walk_bytes<Pairs<kBits>>(s, cb) +
         size_t{units} * Pairs<kBits>::kUnitPixels * sizeof(int32_t);
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
          row_units<Pairs<kBits>::kUnitPixels>,
          scratch_bytes<kBits>,
          run_panels<Pairs<kBits>>,
          cost};
}

}  // namespace

const ConvKernel conv_u240s4_pairs_avx512vnni =
    row<4>("conv_u240s4_pairs_avx512vnni", Elem::s4, "pairs64_s4_v2");
const ConvKernel conv_u252s2_pairs_avx512vnni =
    row<2>("conv_u252s2_pairs_avx512vnni", Elem::s2, "pairs64_s2_v2");

}  // namespace mpq::kernels
