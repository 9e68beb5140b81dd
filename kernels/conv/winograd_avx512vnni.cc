// Winograd F(2x2, 3x3) and F(3x3, 3x3) with vpdpbusd (winograd.h has the algebra).
//
// A unit is up to 7 tiles, neighbours in the order of images, rows and columns. Units are taken in
// chunks whose transformed input stays in L2. For each panel, and each row of positions of a tile,
// the weights are transformed, in bytes, from their 4 or 2 bits, and then serve all units of the
// chunk: a small matrix product for each position, whose sums stay in L1 until they are combined
// along the row.
//
//   x --B^T d B + offset--> V [position][tile][c]                              (u8)
//   w ---G g G^T----------> U [column][k-group][64][4] of a row of positions   (s8)
//   start + V * U --> sums --m A--> halves --A^T m / divisor--> pixels --> epilogue
//
// Where all tiles are few (7 x 7 images), transformed weights would go to L2 and back for a handful
// of uses. There k is cut: weights are transformed a stretch at a time, into L1, and sums wait.

#include "kernels/conv/epilogue_avx512.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/tile_avx512vnni.h"
#include "kernels/conv/winograd_walk_avx512.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kUnitTiles = 7, kFewTiles = 16;
constexpr size_t kStretch = 16;  // k-groups

// Sizes and places in scratch: steps of V and U in bytes, of sums and halves in int32.
struct Plan {
  size_t groups, stretch, channels;
  size_t position_input, unit_input, position_weights, row_weights;
  bool resident;  // all panels' weights at once
  size_t position_sums, unit_sums, row_sums;
  size_t column_halves, row_halves, unit_halves;
  uint32_t chunk_units;
  size_t weights_at, input_at, sums_at, halves_at, pixels_at, total;  // bytes

  Plan(const WinogradForm& form, const ConvShape& s, uint32_t cb) {
    const Tiling tiling(s, form.m, kUnitTiles);
    groups = winograd_groups(s, cb);
    stretch = tiling.total <= kFewTiles && groups > kStretch ? kStretch : groups;
    channels = (groups * 4 + 63) / 64 * 64;
    position_input = kUnitTiles * channels + 64;
    unit_input = form.positions() * position_input;
    position_weights = stretch * kGroupBytes + kSkew;
    column_halves = kUnitTiles * kPanelChannels;
    row_halves = form.m * column_halves;
    unit_halves = form.side() * row_halves;
    row_weights = form.side() * position_weights;
    const size_t all_weights = panel_count(s) * form.side() * row_weights;
    resident = stretch == groups && all_weights <= kResidentBytes;
    const size_t chunk_bytes = resident ? kSmallChunkBytes : kChunkBytes;
    const size_t fitting = chunk_bytes / (unit_input + unit_halves * sizeof(int32_t));
    chunk_units = fitting < tiling.units ? static_cast<uint32_t>(fitting) : tiling.units;
    if (chunk_units == 0) chunk_units = 1;
    const bool wait = stretch < groups;  // sums of all units, for more of k
    if (wait) chunk_units = tiling.units;
    unit_sums = wait ? column_halves : 0;
    position_sums = wait ? tiling.units * unit_sums : column_halves;
    row_sums = wait ? form.side() * position_sums : 0;
    weights_at = (groups * sizeof(ptrdiff_t) + 63) / 64 * 64;
    input_at = weights_at + (resident ? all_weights : row_weights);
    sums_at = input_at + chunk_units * unit_input;
    halves_at = sums_at + (wait ? form.positions() : form.side()) * position_sums * sizeof(int32_t);
    pixels_at = halves_at + chunk_units * unit_halves * sizeof(int32_t);
    total = pixels_at + form.m * row_halves * sizeof(int32_t);
  }
};

// The output transform in two steps, so that the first finds its sums in L1: along the columns
// after every row of positions, along the rows at the end.
//
//   sums [side][position_sums] -> halves [m][column_halves]
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
      _mm512_store_si512(halves + j * plan.column_halves + i, y[j]);
  }
}

//   halves [side][m][tile][64] -> pixels [m][m * tile + column][64]
template <typename W>
void transform_output(const Plan& plan, const int32_t* halves, uint32_t tiles, const int32_t* start,
                      int32_t* pixels) {
  constexpr uint32_t kM = W::kM;
  for (uint32_t j = 0; j < kM; ++j, halves += plan.column_halves)
    for (uint32_t t = 0; t < tiles; ++t)
#pragma GCC unroll 4
      for (uint32_t c = 0; c < kPanelChannels; c += 16) {
        const int32_t* from = halves + t * kPanelChannels + c;
        __m512i m[W::kSide], y[kM];
#pragma GCC unroll 5
        for (uint32_t i = 0; i < W::kSide; ++i)
          m[i] = _mm512_load_si512(from + i * plan.row_halves);
        W::output(m, y);
        const __m512i from_start = _mm512_loadu_si512(start + c);
        int32_t* to = pixels + (kM * t + j) * kPanelChannels + c;
#pragma GCC unroll 3
        for (uint32_t i = 0; i < kM; ++i, to += plan.row_halves)
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
        tiling_(a.shape, W::kM, kUnitTiles),
        packed_bytes_(winograd_panel_bytes(W::kForm, a.shape, a.x.cb)),
        offsets_(static_cast<ptrdiff_t*>(context.scratch)) {
    auto* scratch = static_cast<uint8_t*>(context.scratch);
    weights_ = reinterpret_cast<int8_t*>(scratch + plan_.weights_at);
    input_ = scratch + plan_.input_at;
    sums_ = reinterpret_cast<int32_t*>(scratch + plan_.sums_at);
    halves_ = reinterpret_cast<int32_t*>(scratch + plan_.halves_at);
    pixels_ = reinterpret_cast<int32_t*>(scratch + plan_.pixels_at);
    for (size_t g = 0; g < plan_.groups; ++g) offsets_[g] = static_cast<ptrdiff_t>(4 * g);
  }

  void run() {
    for (chunk_ = part_.unit_begin; chunk_ < part_.unit_end; chunk_ += plan_.chunk_units) {
      units_ = min(part_.unit_end - chunk_, plan_.chunk_units);
      for (uint32_t i = 0; i < units_; ++i)
        tiling_.for_each_run(unit(i), [&](const Run& run) {
          transform_input<W>(a_, run, _mm512_set1_epi8(W::kForm.offset),
                             {.tile = plan_.channels, .position = plan_.position_input},
                             input_of(i) + run.first * plan_.channels);
        });
      for (uint32_t p = part_.panel_begin; p < part_.panel_end; ++p) {
        panel_.enter(a_, part_, p, packed_bytes_, plan_.groups, W::kForm);
        for (size_t g = 0; g < plan_.groups; g += plan_.stretch)
          for (uint32_t row = 0; row < W::kSide; ++row) run_row(row, g);
        for (uint32_t i = 0; i < units_; ++i) write_unit(i);
      }
    }
  }

 private:
  TileRange unit(uint32_t i) const { return tiling_.unit(chunk_ + i); }
  uint8_t* input_of(uint32_t i) const { return input_ + i * plan_.unit_input; }
  int32_t* halves_of(uint32_t i) const { return halves_ + i * plan_.unit_halves; }

  // Sums of a position over the k-groups from `first` on.
  void multiply(const TileRange& u, const uint8_t* input, uint32_t position, const int8_t* weights,
                size_t first, size_t groups, int32_t* sums) {
    const auto* starts = reinterpret_cast<const int32_t*>(panel_.packed);
    const bool fetches = panel_.next < panel_.next_end;
    kTiles[u.tiles]({.x = input + position * plan_.position_input,
                     .pixel = static_cast<ptrdiff_t>(plan_.channels),
                     .offsets = offsets_ + first,
                     .groups = groups,
                     .w = weights,
                     .start = first == 0 ? starts + position * kPanelChannels : sums,
                     .start_step = first == 0 ? 0 : kPanelChannels,
                     .correction = nullptr,
                     .sums = sums,
                     .sums_step = kPanelChannels,
                     .prefetch = fetches ? panel_.next : weights,
                     .prefetch_step = fetches ? size_t{64} : 0});
    panel_.next += 64 * groups;
  }

  // A row of positions of all units, over the stretch of k from `first` on.
  void run_row(uint32_t row, size_t first) {
    const size_t left = plan_.groups - first, groups = left < plan_.stretch ? left : plan_.stretch;
    const uint8_t* packed =
        panel_.packed + W::kForm.start_bytes() + first * kTaps * W::kForm.tap_bytes();
    int8_t* weights = weights_;
    if (plan_.resident)
      weights += ((panel_.number - part_.panel_begin) * W::kSide + row) * plan_.row_weights;
    if (!plan_.resident || chunk_ == part_.unit_begin)
      transform_weights<W>(row, packed, groups, plan_.position_weights, weights);
    int32_t* sums = sums_ + row * plan_.row_sums;
    for (uint32_t i = 0; i < units_; ++i, sums += plan_.unit_sums) {
      const TileRange u = unit(i);
      for (uint32_t j = 0; j < W::kSide; ++j)
        multiply(u, input_of(i), row * W::kSide + j, weights + j * plan_.position_weights, first,
                 groups, sums + j * plan_.position_sums);
      if (groups == left)
        transform_output_row<W>(plan_, sums, u.tiles, halves_of(i) + row * plan_.row_halves);
    }
  }

  void write_unit(uint32_t i) {
    const TileRange u = unit(i);
    transform_output<W>(plan_, halves_of(i), u.tiles, panel_.start, pixels_);
    const ConvShape& s = a_.shape;
    tiling_.for_each_run(u, [&](const Run& run) {
      const uint32_t x = W::kM * run.x, width = min(s.ow - x, W::kM * run.tiles);
      const int32_t* pixels = pixels_ + W::kM * run.first * kPanelChannels;
      for (uint32_t y = W::kM * run.y; y < min(W::kM * (run.y + 1), s.oh); ++y) {
        run_epilogue(pixels, a_.epilogue, a_.y, a_.dense,
                     block_at(s, Unit{run.image, y, x, width}, panel_.number), panel_.form);
        pixels += plan_.row_halves;
      }
    });
  }

  const ConvArgs& a_;
  const ConvPart& part_;
  const Plan plan_;
  const Tiling tiling_;
  const size_t packed_bytes_;
  ptrdiff_t* const offsets_;
  int8_t* weights_;
  uint8_t* input_;
  int32_t *sums_, *halves_, *pixels_;
  uint32_t chunk_ = 0, units_ = 0;  // first unit of the chunk at hand, their number
  PanelAtHand panel_;
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
  *unit_count = Tiling(s, W::kM, kUnitTiles).units;
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

template <typename W>
float cost(const ConvShape& s, uint32_t, CpuFamily) {
  return winograd_cost(W::kForm, s);
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
