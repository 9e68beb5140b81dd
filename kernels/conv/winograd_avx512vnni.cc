// Winograd F(2x2, 3x3) and F(3x3, 3x3) with vpdpbusd (winograd.h has the algebra).
//
// A unit is up to 7 tiles, neighbours in the order of images, rows and columns. Its input is
// transformed once, in bytes, for all channels; a panel's weights are transformed once, in bytes,
// from their 4 or 2 bits. A unit times a panel is then a small matrix product for each position of
// a tile, whose sums stay in L1 until the output transform:
//
//   x --B^T d B + offset--> V [position][tile][c]                                (u8)
//   w ---G g G^T----------> U [position][k-group][64][4]                         (s8)
//   start + V * U --> sums --A^T m A / divisor--> pixels [m rows][m * tile][64] --> epilogue
//
// Where all tiles are few (7 x 7 images), transformed weights would go to L2 and back for a handful
// of uses. There k is cut: a stretch of a row of positions is transformed into L1 and used by all
// tiles, whose sums wait.

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"
#include "kernels/conv/winograd_avx512.h"

namespace mpq::kernels {
namespace {

constexpr size_t kResidentBytes = 512 * 1024;  // transformed weights, or inputs, kept in L2
constexpr uint32_t kTaps = 9;
constexpr size_t kSkew = 5 * 64;  // keeps the positions out of each other's cache sets
constexpr uint32_t kUnitTiles = 7, kFewTiles = 16;
constexpr size_t kStretch = 32;  // k-groups

uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// Tiles of one row of one image.
struct Run {
  uint32_t image, y, x, tiles;  // of the first one, in tiles
  uint32_t first;               // its number in the unit
};

struct TileRange {
  uint32_t first, tiles;
};

// Tiles of all images in one order, in units of nearly equal sizes.
struct Tiling {
  uint32_t across, per_image, total, max_tiles, units;
  Tiling(const ConvShape& s, uint32_t m)
      : across(ceil_div(s.ow, m)),
        per_image(across * ceil_div(s.oh, m)),
        total(s.n * per_image),
        max_tiles(few() ? kFewTiles / 2 : kUnitTiles),
        units(ceil_div(total, max_tiles)) {}
  bool few() const { return total <= kFewTiles; }

  TileRange unit(uint32_t i) const {
    const uint32_t size = total / units, extra = total % units;
    return {i * size + min(i, extra), size + (i < extra ? 1 : 0)};
  }
  template <typename Fn>
  void for_each_run(const TileRange& u, const Fn& fn) const {
    for (uint32_t first = 0, tiles = 0; first < u.tiles; first += tiles) {
      const uint32_t tile = u.first + first, in_image = tile % per_image, x = in_image % across;
      tiles = min(u.tiles - first, across - x);
      fn(Run{tile / per_image, in_image / across, x, tiles, first});
    }
  }
};

// Sizes and places in scratch, in bytes.
struct Plan {
  size_t groups, channels;
  size_t position_input, unit_input;       // steps of V
  size_t position_weights, panel_weights;  // steps of U
  bool resident;                           // all panels' weights at once
  uint32_t chunk_units;                    // units whose inputs are held together
  size_t position_sums, column_sums;       // steps of sums, in int32
  size_t weights_at, input_at, sums_at, halves_at, pixels_at, total;

  Plan(const WinogradForm& form, const ConvShape& s, uint32_t cb) {
    const Tiling tiling(s, form.m);
    const size_t positions = form.positions(), tiles = tiling.max_tiles;
    groups = winograd_groups(s, cb);
    channels = (groups * 4 + 63) / 64 * 64;
    position_input = tiles * channels + 64;
    unit_input = positions * position_input;
    const size_t stretch = tiling.few() && groups > kStretch ? kStretch : groups;
    position_weights = stretch * kGroupBytes + kSkew;
    panel_weights = (tiling.few() ? form.side() : positions) * position_weights;
    resident = !tiling.few() && panel_count(s) * panel_weights <= kResidentBytes;
    const size_t fitting = kResidentBytes / unit_input;
    chunk_units = tiling.few()              ? tiling.units
                  : resident || fitting < 1 ? 1
                                            : min(tiling.units, static_cast<uint32_t>(fitting));
    column_sums = tiles * kPanelChannels;
    position_sums = tiling.few() ? kFewTiles * kPanelChannels : column_sums;
    weights_at = (groups * sizeof(ptrdiff_t) + 63) / 64 * 64;
    input_at = weights_at + (resident ? panel_count(s) : 1) * panel_weights;
    sums_at = input_at + chunk_units * unit_input;
    halves_at = sums_at + (tiling.few() ? positions : form.side()) * position_sums * 4;
    pixels_at = halves_at + form.side() * form.m * column_sums * 4;
    total = pixels_at + form.m * form.m * column_sums * 4;
  }
};

// The codes of neighbouring tiles to V at out[tile * plan.channels + position *
// plan.position_input]. Columns that two tiles share are transformed once. Rows and columns that
// only serve outputs outside the image do not exist: any existing one may stand in, since those
// outputs are dropped.
template <typename W>
void transform_input(const ConvArgs& a, const Plan& plan, const Run& run, uint8_t* out) {
  constexpr uint32_t kM = W::kM, kSide = W::kSide;
  const uint32_t cb = a.x.cb;
  const __mmask64 mask = ~uint64_t{0} >> (64 - cb);
  const __m512i zero = _mm512_setzero_si512(), offset = _mm512_set1_epi8(W::kForm.offset);
  const uint32_t last_row = a.shape.oh + 1, last_column = a.shape.ow + 1;
  ptrdiff_t rows[kSide];
  for (uint32_t i = 0; i < kSide; ++i)
    rows[i] = static_cast<ptrdiff_t>(min(kM * run.y + i, last_row)) * a.x.row;
  const uint8_t* from = a.x.data + run.image * a.x.image;
  for (uint32_t c = 0; c < a.shape.c; c += cb, from += a.x.plane, out += cb) {
    __m512i columns[kSide][kSide];  // [column][row]
    const auto load_column = [&](uint32_t x, __m512i column[kSide]) {
      const uint8_t* at = from + static_cast<ptrdiff_t>(min(x, last_column)) * cb;
      __m512i d[kSide];
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) d[i] = _mm512_maskz_loadu_epi8(mask, at + rows[i]);
      W::input(d, zero, column);
    };
#pragma GCC unroll 2
    for (uint32_t j = 0; j < 2; ++j) load_column(kM * run.x + j, columns[kM + j]);
    uint8_t* to = out;
    for (uint32_t t = 0; t < run.tiles; ++t, to += plan.channels) {
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) {
        columns[0][i] = columns[kM][i];
        columns[1][i] = columns[kM + 1][i];
      }
#pragma GCC unroll 3
      for (uint32_t j = 2; j < kSide; ++j) load_column(kM * (run.x + t) + j, columns[j]);
      uint8_t* position = to;
#pragma GCC unroll 5
      for (uint32_t i = 0; i < kSide; ++i) {
        __m512i d[kSide], v[kSide];
#pragma GCC unroll 5
        for (uint32_t j = 0; j < kSide; ++j) d[j] = columns[j][i];
        W::input(d, offset, v);
#pragma GCC unroll 5
        for (uint32_t j = 0; j < kSide; ++j, position += plan.position_input)
          _mm512_mask_storeu_epi8(position, mask, v[j]);
      }
    }
  }
}

// The weights of a row of positions, [column][k-group][64][4].
template <typename W, uint32_t kRow = 0>
void transform_weights(uint32_t row, const uint8_t* packed, size_t groups, size_t position_weights,
                       int8_t* out) {
  constexpr uint32_t kSide = W::kSide, kBits = W::kForm.bits, kFields = 8 / kBits;
  constexpr size_t kTap = W::kForm.tap_bytes();
  if constexpr (kRow + 1 < kSide)
    if (row != kRow)
      return transform_weights<W, kRow + 1>(row, packed, groups, position_weights, out);
  for (size_t g = 0; g < groups; ++g, packed += kTaps * kTap, out += kGroupBytes)
#pragma GCC unroll 4
    for (uint32_t vector = 0; vector < 4; ++vector) {
      __m512i of_row[3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        __m512i w[3], u[kSide];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i)
          w[i] = widen_field<kBits>(
              _mm512_loadu_si512(packed + (i * 3 + j) * kTap + vector / kFields * 64),
              vector % kFields);
        W::weights(w, u);
        of_row[j] = u[kRow];
      }
      __m512i u[kSide];
      W::weights(of_row, u);
#pragma GCC unroll 5
      for (uint32_t j = 0; j < kSide; ++j)
        _mm512_store_si512(out + j * position_weights + vector * 64, u[j]);
    }
}

// The output transform in two steps, so that the first finds its sums in L1: along the columns
// after every row of positions, along the rows at the end.
//
//   sums [side][position_sums] -> halves [m][column_sums]
template <typename W>
void transform_output_row(const Plan& plan, const int32_t* sums, uint32_t tiles, int32_t* halves) {
  for (uint32_t i = 0; i < tiles * kPanelChannels; i += 16) {
    __m512i m[W::kSide], y[W::kM];
#pragma GCC unroll 5
    for (uint32_t j = 0; j < W::kSide; ++j)
      m[j] = _mm512_load_si512(sums + j * plan.position_sums + i);
    W::output(m, y);
#pragma GCC unroll 3
    for (uint32_t j = 0; j < W::kM; ++j)
      _mm512_store_si512(halves + j * plan.column_sums + i, y[j]);
  }
}

//   halves [side][m][tile][64] -> pixels [m][m * tile + column][64]
template <typename W>
void transform_output(const Plan& plan, const int32_t* halves, uint32_t tiles, const int32_t* start,
                      int32_t* pixels) {
  constexpr uint32_t kM = W::kM;
  for (uint32_t j = 0; j < kM; ++j, halves += plan.column_sums)
    for (uint32_t t = 0; t < tiles; ++t)
#pragma GCC unroll 4
      for (uint32_t c = 0; c < kPanelChannels; c += 16) {
        const int32_t* from = halves + t * kPanelChannels + c;
        __m512i m[W::kSide], y[kM];
#pragma GCC unroll 5
        for (uint32_t i = 0; i < W::kSide; ++i)
          m[i] = _mm512_load_si512(from + i * kM * plan.column_sums);
        W::output(m, y);
        const __m512i from_start = _mm512_loadu_si512(start + c);
        int32_t* to = pixels + (kM * t + j) * kPanelChannels + c;
#pragma GCC unroll 3
        for (uint32_t i = 0; i < kM; ++i, to += kM * plan.column_sums)
          _mm512_store_si512(to, add32(W::divide(y[i]), from_start));
      }
}

template <typename W>
class WinogradConv {
 public:
  WinogradConv(const ConvArgs& a, const ConvPart& part, const KernelContext& context)
      : a_(a),
        part_(part),
        plan_(W::kForm, a.shape, a.x.cb),
        tiling_(a.shape, W::kM),
        packed_bytes_(winograd_panel_bytes(W::kForm, a.shape, a.x.cb)),
        offsets_(static_cast<ptrdiff_t*>(context.scratch)) {
    auto* scratch = static_cast<uint8_t*>(context.scratch);
    all_weights_ = reinterpret_cast<int8_t*>(scratch + plan_.weights_at);
    input_ = scratch + plan_.input_at;
    sums_ = reinterpret_cast<int32_t*>(scratch + plan_.sums_at);
    halves_ = reinterpret_cast<int32_t*>(scratch + plan_.halves_at);
    pixels_ = reinterpret_cast<int32_t*>(scratch + plan_.pixels_at);
    for (size_t g = 0; g < plan_.groups; ++g) offsets_[g] = static_cast<ptrdiff_t>(4 * g);
  }

  void run() {
    for (chunk_ = part_.unit_begin; chunk_ < part_.unit_end; chunk_ += plan_.chunk_units) {
      const uint32_t units = min(part_.unit_end - chunk_, plan_.chunk_units);
      for (uint32_t i = 0; i < units; ++i)
        tiling_.for_each_run(unit(i), [&](const Run& run) {
          transform_input<W>(a_, plan_, run, input_of(i) + run.first * plan_.channels);
        });
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        enter_panel(p);
        if (tiling_.few()) {
          run_few_tiles(units);
          continue;
        }
        if (!plan_.resident || chunk_ == part_.unit_begin)
          for (uint32_t row = 0; row < W::kSide; ++row)
            transform_weights<W>(row, weights_packed(), plan_.groups, plan_.position_weights,
                                 weights_ + row * W::kSide * plan_.position_weights);
        for (uint32_t i = 0; i < units; ++i) run_unit(i);
      }
    }
  }

 private:
  TileRange unit(uint32_t i) const { return tiling_.unit(chunk_ + i); }
  uint8_t* input_of(uint32_t i) const { return input_ + i * plan_.unit_input; }
  const uint8_t* weights_packed() const { return packed_ + W::kForm.start_bytes(); }

  void enter_panel(uint32_t panel) {
    panel_ = panel;
    packed_ = static_cast<const uint8_t*>(a_.weights) + panel * packed_bytes_;
    weights_ =
        all_weights_ + (plan_.resident ? (panel - part_.panel_begin) * plan_.panel_weights : 0);
    next_ = reinterpret_cast<const int8_t*>(packed_ + packed_bytes_);
    next_end_ = next_ + (plan_.resident || panel + 1 == part_.panel_end ? 0 : packed_bytes_);
    const int64_t max_sum = static_cast<int64_t>(plan_.groups) * 4 * kTaps * W::kForm.max_activation
                            << (W::kForm.bits - 1);
    form_ = panel_form(a_.epilogue, panel * kPanelChannels, max_sum);
    start_ = form_start(form_, start_of(a_, panel), lowered_);
  }

  // Sums of a position over a stretch of k, from `group` on.
  void multiply(const TileRange& u, const uint8_t* input, uint32_t position, const int8_t* weights,
                size_t group, size_t groups, int32_t* sums) {
    const bool begins = group == 0, fetches = next_ < next_end_;
    const int32_t* start =
        begins ? reinterpret_cast<const int32_t*>(packed_) + position * kPanelChannels : sums;
    TileArgs tile = {.x = input + position * plan_.position_input,
                     .pixel = static_cast<ptrdiff_t>(plan_.channels),
                     .offsets = offsets_ + group,
                     .groups = groups,
                     .start_step = begins ? 0 : kPanelChannels,
                     .sums_step = kPanelChannels,
                     .prefetch = fetches ? next_ : weights,
                     .prefetch_step = fetches ? size_t{64} : 0};
    const uint32_t channels = pass_channels(u.tiles);
    for (uint32_t c = 0; c < kPanelChannels; c += channels) {
      tile.w = weights + 4 * c;
      tile.start = start + c;
      tile.sums = sums + c;
      kTiles[u.tiles](tile);
    }
    next_ += 64 * groups;
  }

  void run_unit(uint32_t i) {
    const TileRange u = unit(i);
    const int8_t* weights = weights_;
    int32_t* halves = halves_;
    for (uint32_t row = 0; row < W::kSide; ++row, halves += W::kM * plan_.column_sums) {
      for (uint32_t j = 0; j < W::kSide; ++j, weights += plan_.position_weights)
        multiply(u, input_of(i), row * W::kSide + j, weights, 0, plan_.groups,
                 sums_ + j * plan_.position_sums);
      transform_output_row<W>(plan_, sums_, u.tiles, halves);
    }
    write_unit(u);
  }

  void run_few_tiles(uint32_t units) {
    const size_t row_sums = W::kSide * plan_.position_sums;
    for (size_t g = 0; g < plan_.groups; g += kStretch) {
      const size_t groups = plan_.groups - g < kStretch ? plan_.groups - g : kStretch;
      const uint8_t* packed = weights_packed() + g * kTaps * W::kForm.tap_bytes();
      for (uint32_t row = 0; row < W::kSide; ++row) {
        transform_weights<W>(row, packed, groups, plan_.position_weights, weights_);
        int32_t* sums = sums_ + row * row_sums;
        for (uint32_t i = 0; i < units; ++i) {
          const TileRange u = unit(i);
          for (uint32_t j = 0; j < W::kSide; ++j)
            multiply(u, input_of(i), row * W::kSide + j, weights_ + j * plan_.position_weights, g,
                     groups, sums + j * plan_.position_sums);
          sums += u.tiles * kPanelChannels;
        }
      }
    }
    const int32_t* sums = sums_;
    for (uint32_t i = 0; i < units; ++i) {
      const TileRange u = unit(i);
      for (uint32_t row = 0; row < W::kSide; ++row)
        transform_output_row<W>(plan_, sums + row * row_sums, u.tiles,
                                halves_ + row * W::kM * plan_.column_sums);
      write_unit(u);
      sums += u.tiles * kPanelChannels;
    }
  }

  void write_unit(const TileRange& u) {
    transform_output<W>(plan_, halves_, u.tiles, start_, pixels_);
    const ConvShape& s = a_.shape;
    tiling_.for_each_run(u, [&](const Run& run) {
      const uint32_t x = W::kM * run.x, width = min(s.ow - x, W::kM * run.tiles);
      const int32_t* pixels = pixels_ + W::kM * run.first * kPanelChannels;
      for (uint32_t y = W::kM * run.y; y < min(W::kM * (run.y + 1), s.oh); ++y) {
        run_epilogue(pixels, a_.epilogue, a_.y, a_.dense,
                     block_at(s, Unit{run.image, y, x, width}, panel_), form_);
        pixels += W::kM * plan_.column_sums;
      }
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Plan plan_;
  const Tiling tiling_;
  const size_t packed_bytes_;
  ptrdiff_t* const offsets_;
  int8_t* all_weights_;
  uint8_t* input_;
  int32_t *sums_, *halves_, *pixels_;
  uint32_t chunk_ = 0;  // its first unit
  // Of the panel at hand:
  uint32_t panel_ = 0;
  const uint8_t* packed_ = nullptr;
  int8_t* weights_ = nullptr;                           // transformed
  const int8_t *next_ = nullptr, *next_end_ = nullptr;  // packed weights to prefetch
  PanelForm form_ = {};
  const int32_t* start_ = nullptr;
  alignas(64) int32_t lowered_[kPanelChannels];
};

template <typename W>
bool fits(const ConvShape& s, uint32_t cb) {
  return winograd_fits(W::kForm, s, cb);
}
template <typename W>
size_t bytes(const ConvShape& s, uint32_t cb) {
  return winograd_bytes(W::kForm, s, cb);
}
template <typename W>
void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  pack_winograd(W::kForm, s, cb, canonical, packed);
}
template <typename W>
void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panels) {
  *unit_count = Tiling(s, W::kM).units;
  *panels = panel_count(s);
}
template <typename W>
size_t scratch_bytes(const ConvShape& s, uint32_t cb) {
  return Plan(W::kForm, s, cb).total;
}
template <typename W>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  WinogradConv<W>(a, part, context).run();
}

// Measured inside a network against the direct row: 0.60 to 0.65 where the weights' transform
// serves many tiles. For the 16 tiles of a 7x7 image it is 0.89 alone but 1.08 in the network,
// where the transformed weights (512 KB a panel) find L2 full of others' data.
template <typename W>
float cost(const ConvShape& s, uint32_t) {
  return Tiling(s, W::kM).few() ? 1.1F : 0.6F;
}

template <typename W>
constexpr ConvKernel row(const char* name, Elem weights, const char* layout) {
  return {name,     kIsaAvx512Vnni, weights,  W::kForm.max_activation, layout, fits<W>,
          bytes<W>, pack<W>,        units<W>, scratch_bytes<W>,        run<W>, cost<W>};
}

}  // namespace

const ConvKernel conv_u42s4_winograd2_avx512vnni =
    row<Winograd2>("conv_u42s4_winograd2_avx512vnni", Elem::s4, "winograd2_64_s4_v2");
const ConvKernel conv_u2s2_winograd3_avx512vnni =
    row<Winograd3>("conv_u2s2_winograd3_avx512vnni", Elem::s2, "winograd3_64_s2_v1");

}  // namespace mpq::kernels
