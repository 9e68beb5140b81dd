// Direct convolution with vpdpbusd: any stride, any dilation, weights of 8, 4 or 2 bits.

#include "kernels/conv/panel_walk_avx512.h"
#include "kernels/conv/rows.h"

namespace mpq::kernels {
namespace {

template <uint32_t kWeightBits>
struct Direct {
  static constexpr uint32_t kBits = kWeightBits;
  static constexpr size_t kHeadBytes = 0;
  static constexpr uint32_t kUnitPixels = kMaxPixels;
  static constexpr uint32_t kFewPixels = 64;  // 16 KB of sums ...
  static constexpr size_t kStretch = 64;      // ... and 16 KB of widened weights

  static void widen(const uint8_t* packed, size_t groups, int8_t* wide) {
    widen_all<kBits>(packed, groups, wide);
  }

  static const int32_t* start(const uint8_t*, const int32_t* start, int32_t*) { return start; }
  static size_t lines(size_t groups, uint32_t pixels) {
    return groups * (kPanelChannels / pass_channels(pixels));
  }

  static void multiply(TileArgs tile, uint32_t pixels) {
    const uint32_t channels = pass_channels(pixels);
    const TileFn multiply = kTiles[pixels];
    for (uint32_t c = 0; c < kPanelChannels; c += channels) {
      multiply(tile);
      tile.w += 4 * channels;
      tile.start += channels;
      tile.sums += channels;
      tile.prefetch += tile.groups * tile.prefetch_step;
    }
  }

  static bool correct(const ConvArgs&, const ConvPart&, const ptrdiff_t*, int32_t*) {
    return false;
  }
};

template <uint32_t kBits>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  return walk_bytes<Direct<kBits>>(s, cb);
}

float cost(const ConvShape&, uint32_t, CpuFamily) { return 1.0F; }

template <uint32_t kBits>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,
          kIsaAvx512Vnni,
          weights,
          255,
          layout,
          panels_fit,
          panels_bytes_of<kBits>,
          pack_panels_of<kBits>,
          row_units<kMaxPixels>,
          scratch_bytes<kBits>,
          run_panels<Direct<kBits>>,
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
