// Winograd F(2x2, 3x3) with vpdpbusd (winograd.h has the algebra).
//
// A unit is up to 14 tiles of 2 x 2 outputs. Per unit the input is transformed once, in bytes, for
// all channels; per panel the weights are transformed once, in bytes, from their 4 bits. A unit
// times a panel is then 16 small matrix products, whose sums stay in L1 until the output transform:
//
//   x --B^T d B + 30--> V [16][tile][c]                                 (u8)
//   w ---G g G^T------> U [16][k-group][64][4]                          (s8)
//   start + V * U --> sums --A^T m A / 4--> pixels [2 rows][28][64] --> epilogue

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"
#include "kernels/conv/winograd.h"

namespace mpq::kernels {
namespace {

constexpr size_t kResidentBytes = 512 * 1024;  // transformed weights, or inputs, kept in L2
constexpr uint32_t kPositions = 16, kTaps = 9;
constexpr size_t kSkew = 5 * 64;  // keeps the 16 positions out of each other's cache sets
constexpr size_t kPassSums = kMaxPixels * 32;  // int32 of a position: 14 x 32 or 7 x 64
constexpr size_t kUnitSums = (4 + 8) * kPassSums;
constexpr size_t kPixelSums = 2 * 2 * kMaxPixels * kPanelChannels;

struct Tiling {
  uint32_t across, down, units_per_image;
  explicit Tiling(const ConvShape& s)
      : across((s.ow + 1) / 2),
        down((s.oh + 1) / 2),
        units_per_image((across * down + kMaxPixels - 1) / kMaxPixels) {}
};

struct Unit {
  uint32_t image, first, tiles;
};

Unit unit_at(const Tiling& t, uint32_t unit) {
  const uint32_t i = unit % t.units_per_image, all = t.across * t.down;
  const uint32_t size = all / t.units_per_image, extra = all % t.units_per_image;
  return {unit / t.units_per_image, i * size + (i < extra ? i : extra), size + (i < extra ? 1 : 0)};
}

// Sizes and places in scratch, in bytes.
struct Plan {
  size_t groups, channels, position_weights, panel_weights, unit_input;
  bool resident;         // all panels' weights at once
  uint32_t chunk_units;  // units whose inputs are held together
  size_t offsets_at, weights_at, input_at, sums_at, pixels_at, total;

  Plan(const ConvShape& s, uint32_t cb) {
    groups = winograd_groups(s, cb);
    channels = (groups * 4 + 63) / 64 * 64;
    position_weights = groups * kGroupBytes + kSkew;
    panel_weights = kPositions * position_weights;
    unit_input = kPositions * kMaxPixels * channels;
    resident = panel_count(s) * panel_weights <= kResidentBytes;
    const size_t units = size_t{s.n} * Tiling(s).units_per_image;
    const size_t fitting = kResidentBytes / unit_input;
    chunk_units =
        resident || fitting < 1 ? 1 : static_cast<uint32_t>(units < fitting ? units : fitting);
    offsets_at = 0;
    weights_at = (groups * sizeof(ptrdiff_t) + 63) / 64 * 64;
    input_at = weights_at + (resident ? panel_count(s) : 1) * panel_weights;
    sums_at = input_at + chunk_units * unit_input;
    pixels_at = sums_at + kUnitSums * sizeof(int32_t);
    total = pixels_at + kPixelSums * sizeof(int32_t);
  }
};

// One dimension of B^T: (a - c, b + c, c - b, b - d).
static inline void transform_input_1d(__m512i v[4]) {
  const __m512i a = v[0], b = v[1], c = v[2], d = v[3];
  v[0] = _mm512_sub_epi8(a, c);
  v[1] = _mm512_add_epi8(b, c);
  v[2] = _mm512_sub_epi8(c, b);
  v[3] = _mm512_sub_epi8(b, d);
}

// A tile's input to V at out[position * position_step + channel]. Rows and columns that only serve
// outputs outside the image do not exist: any existing one may stand in, since those outputs are
// dropped.
void transform_input(const ConvArgs& a, uint32_t image, uint32_t ty, uint32_t tx, uint8_t* out,
                     size_t position_step) {
  const ConvShape& s = a.shape;
  const uint32_t cb = a.x.cb;
  const __mmask64 mask = ~uint64_t{0} >> (64 - cb);
  const ptrdiff_t last_row = 2 * ty + 1 < s.oh ? 3 : 2, last_column = 2 * tx + 1 < s.ow ? 3 : 2;
  const uint8_t* from =
      a.x.data + image * a.x.image + 2 * ptrdiff_t{ty} * a.x.row + 2 * ptrdiff_t{tx} * cb;
  const __m512i offset = _mm512_set1_epi8(kWinogradOffset);
  for (uint32_t c = 0; c < s.c; c += cb, from += a.x.plane, out += cb) {
    __m512i v[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const uint8_t* row = from + (i < 3 ? i : last_row) * a.x.row;
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        v[i][j] = _mm512_maskz_loadu_epi8(mask, row + (j < 3 ? j : last_column) * cb);
      transform_input_1d(v[i]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      __m512i column[4] = {v[0][j], v[1][j], v[2][j], v[3][j]};
      transform_input_1d(column);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        _mm512_mask_storeu_epi8(out + (i * 4 + j) * position_step, mask,
                                _mm512_add_epi8(column[i], offset));
    }
  }
}

// One dimension of G: (2a, a + b + c, a - b + c, 2c).
static inline void transform_weights_1d(__m512i a, __m512i b, __m512i c, __m512i v[4]) {
  const __m512i ac = _mm512_add_epi8(a, c);
  v[0] = _mm512_add_epi8(a, a);
  v[1] = _mm512_add_epi8(ac, b);
  v[2] = _mm512_sub_epi8(ac, b);
  v[3] = _mm512_add_epi8(c, c);
}

void transform_weights(const uint8_t* packed, size_t groups, size_t position_step, int8_t* out) {
  for (size_t g = 0; g < groups; ++g, packed += kTaps * 128, out += kGroupBytes)
#pragma GCC unroll 4
    for (uint32_t vector = 0; vector < 4; ++vector) {
      __m512i rows[3][4];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        __m512i w[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i)
          w[i] = widen_field<4>(_mm512_loadu_si512(packed + (i * 3 + j) * 128 + vector / 2 * 64),
                                vector % 2);
        transform_weights_1d(w[0], w[1], w[2], rows[j]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        __m512i u[4];
        transform_weights_1d(rows[0][i], rows[1][i], rows[2][i], u);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
          _mm512_store_si512(out + (i * 4 + j) * position_step + vector * 64, u[j]);
      }
    }
}

// The output transform in two steps, so that the first finds its sums in L1: along the columns
// after every four positions, along the rows at the end.
//
//   sums [4 columns][tile][channels] -> halves [2][tile][channels]
void transform_output_row(const int32_t* sums, size_t elements, int32_t* halves) {
  for (size_t i = 0; i < elements; i += 16) {
    const __m512i m0 = _mm512_load_si512(sums + i), m1 = _mm512_load_si512(sums + kPassSums + i),
                  m2 = _mm512_load_si512(sums + 2 * kPassSums + i),
                  m3 = _mm512_load_si512(sums + 3 * kPassSums + i);
    _mm512_store_si512(halves + i, _mm512_add_epi32(_mm512_add_epi32(m0, m1), m2));
    _mm512_store_si512(halves + kPassSums + i, _mm512_sub_epi32(_mm512_sub_epi32(m1, m2), m3));
  }
}

//   halves [4 rows][2][tile][channels] -> pixels [2 rows][2 * tile + column][64]
void transform_output(const int32_t* halves, uint32_t tiles, uint32_t channels, const int32_t* bias,
                      int32_t* pixels) {
  for (uint32_t j = 0; j < 2; ++j, halves += kPassSums)
    for (uint32_t t = 0; t < tiles; ++t)
      for (uint32_t c = 0; c < channels; c += 16) {
        const int32_t* p = halves + t * channels + c;
        const __m512i start = _mm512_loadu_si512(bias + c);
        const __m512i p0 = _mm512_load_si512(p), p1 = _mm512_load_si512(p + 2 * kPassSums),
                      p2 = _mm512_load_si512(p + 4 * kPassSums),
                      p3 = _mm512_load_si512(p + 6 * kPassSums);
        const __m512i y0 = _mm512_add_epi32(_mm512_add_epi32(p0, p1), p2);
        const __m512i y1 = _mm512_sub_epi32(_mm512_sub_epi32(p1, p2), p3);
        int32_t* out = pixels + (2 * t + j) * kPanelChannels + c;
        _mm512_store_si512(out, _mm512_add_epi32(_mm512_srai_epi32(y0, 2), start));
        _mm512_store_si512(out + 2 * kMaxPixels * kPanelChannels,
                           _mm512_add_epi32(_mm512_srai_epi32(y1, 2), start));
      }
}

struct PanelWork {
  uint32_t panel;
  const int32_t* start;  // [16][64]
  const int8_t* next;    // packed weights to prefetch, up to next_end
  const int8_t* next_end;
  PanelForm form;
};

void write_unit(const ConvArgs& a, const Tiling& tiling, const Unit& u, const PanelWork& w,
                const int32_t* pixels) {
  const ConvShape& s = a.shape;
  const uint32_t channel = w.panel * kPanelChannels;
  for (uint32_t first = 0; first < u.tiles;) {  // stretches of tiles in one row
    const uint32_t ty = (u.first + first) / tiling.across, tx = (u.first + first) % tiling.across;
    const uint32_t rest = u.tiles - first, room = tiling.across - tx,
                   tiles = rest < room ? rest : room;
    const uint32_t x = 2 * tx, width = s.ow - x < 2 * tiles ? s.ow - x : 2 * tiles;
    for (uint32_t row = 0; row < 2 && 2 * ty + row < s.oh; ++row) {
      const uint32_t y = 2 * ty + row;
      const EpilogueBlock at = {
          .image = u.image,
          .y = y,
          .x = x,
          .channel = channel,
          .pixels = width,
          .channels = s.o - channel < kPanelChannels ? s.o - channel : kPanelChannels,
          .dense_at = ((size_t{u.image} * s.oh + y) * s.ow + x) * s.o + channel,
          .dense_pixel = s.o};
      run_epilogue(pixels + (row * 2 * kMaxPixels + 2 * first) * kPanelChannels, a.epilogue, a.y,
                   a.dense, at, w.form);
    }
    first += tiles;
  }
}

void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  const Plan plan(s, a.x.cb);
  const Tiling tiling(s);
  auto* scratch = static_cast<uint8_t*>(context.scratch);
  auto* offsets = reinterpret_cast<ptrdiff_t*>(scratch + plan.offsets_at);
  auto* weights = reinterpret_cast<int8_t*>(scratch + plan.weights_at);
  auto* sums = reinterpret_cast<int32_t*>(scratch + plan.sums_at);
  auto* halves = sums + 4 * kPassSums;
  auto* pixels = reinterpret_cast<int32_t*>(scratch + plan.pixels_at);
  uint8_t* input = scratch + plan.input_at;
  for (size_t g = 0; g < plan.groups; ++g) offsets[g] = static_cast<ptrdiff_t>(4 * g);
  const size_t packed_bytes = winograd_panel_bytes(s, a.x.cb);

  for (uint32_t chunk = part.unit_begin; chunk < part.unit_end; chunk += plan.chunk_units) {
    const uint32_t left = part.unit_end - chunk;
    const uint32_t units = left < plan.chunk_units ? left : plan.chunk_units;
    for (uint32_t i = 0; i < units; ++i) {
      const Unit u = unit_at(tiling, chunk + i);
      for (uint32_t t = 0; t < u.tiles; ++t)
        transform_input(a, u.image, (u.first + t) / tiling.across, (u.first + t) % tiling.across,
                        input + i * plan.unit_input + t * plan.channels,
                        kMaxPixels * plan.channels);
    }
    for (uint32_t p = part.panel_begin; p < part.panel_end; ++p) {
      const uint8_t* packed = static_cast<const uint8_t*>(a.weights) + p * packed_bytes;
      int8_t* wide = weights + (plan.resident ? (p - part.panel_begin) * plan.panel_weights : 0);
      if (!plan.resident || chunk == part.unit_begin)
        transform_weights(packed + kWinogradStartBytes, plan.groups, plan.position_weights, wide);
      PanelWork w = {.panel = p,
                     .start = reinterpret_cast<const int32_t*>(packed),
                     .next = reinterpret_cast<const int8_t*>(packed + packed_bytes),
                     .form = panel_form(a.epilogue, p * kPanelChannels,
                                        static_cast<int64_t>(plan.groups) * 4 * 9 * 15 * 8)};
      w.next_end = w.next + (plan.resident || p + 1 == part.panel_end ? 0 : packed_bytes);
      alignas(64) int32_t lowered[kPanelChannels];
      const int32_t* bias = form_start(w.form, start_of(a, p), lowered);
      for (uint32_t i = 0; i < units; ++i) {
        const Unit u = unit_at(tiling, chunk + i);
        const uint32_t channels = pass_channels(u.tiles);
        const TileFn multiply = kTiles[u.tiles];
        const uint8_t* unit_input = input + i * plan.unit_input;
        TileArgs tile = {.pixel = static_cast<ptrdiff_t>(plan.channels),
                         .offsets = offsets,
                         .groups = plan.groups,
                         .sums_step = channels};
        for (uint32_t c = 0; c < kPanelChannels; c += channels) {
          for (uint32_t row = 0; row < 4; ++row) {
            for (uint32_t column = 0; column < 4; ++column) {
              const uint32_t position = row * 4 + column;
              const bool fetch = w.next < w.next_end;
              tile.x = unit_input + position * kMaxPixels * plan.channels;
              tile.w = wide + position * plan.position_weights + 4 * c;
              tile.start = w.start + position * kPanelChannels + c;
              tile.sums = sums + column * kPassSums;
              tile.prefetch = fetch ? w.next : wide;
              tile.prefetch_step = fetch ? 64 : 0;
              multiply(tile);
              w.next += 64 * plan.groups;
            }
            transform_output_row(sums, size_t{u.tiles} * channels, halves + row * 2 * kPassSums);
          }
          transform_output(halves, u.tiles, channels, bias + c, pixels + c);
        }
        write_unit(a, tiling, u, w, pixels);
      }
    }
  }
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = s.n * Tiling(s).units_per_image;
  *panels = panel_count(s);
}

size_t scratch_bytes(const ConvShape& s, uint32_t cb) { return Plan(s, cb).total; }

// Measured inside a network against the direct row: 0.60 to 0.65 where the weights' transform
// serves many tiles. For the 16 tiles of a 7x7 image it is 0.89 alone but 1.08 in the network,
// where the transformed weights (512 KB a panel) find L2 full of others' data.
float cost(const ConvShape& s, uint32_t) {
  const Tiling t(s);
  return s.n * t.across * t.down < 28 ? 1.1F : 0.6F;
}

}  // namespace

const ConvKernel conv_u4s4_winograd2_avx512vnni = {"conv_u4s4_winograd2_avx512vnni",
                                                   kIsaAvx512Vnni,
                                                   Elem::s4,
                                                   15,
                                                   "winograd64_s4_v1",
                                                   winograd_fits,
                                                   winograd_bytes,
                                                   pack_winograd,
                                                   units,
                                                   scratch_bytes,
                                                   run,
                                                   cost};

}  // namespace mpq::kernels
