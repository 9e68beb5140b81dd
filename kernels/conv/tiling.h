// How rows cut their work over the ends of image rows: tiles of m x m outputs, neighbours in the
// order of images, rows and columns, in units. All static: each instruction set compiles its own.
#pragma once

#include "kernels/conv/blocks.h"

namespace mpq::kernels {
namespace {

inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
inline uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// Tiles of one row of one image.
struct Run {
  uint32_t image, y, x, tiles;  // of the first one, in tiles
  uint32_t first;               // its number in the unit
};

// Of tiles of one pixel.
inline Unit pixels_of(const Run& run) { return {run.image, run.y, run.x, run.tiles}; }

struct TileRange {
  uint32_t first, tiles;
};

// Tiles of all images in one order, in units of nearly equal sizes.
struct Tiling {
  uint32_t across, per_image, total, units;
  Tiling(const ConvShape& s, uint32_t m, uint32_t unit_tiles)
      : across(ceil_div(s.ow, m)),
        per_image(across * ceil_div(s.oh, m)),
        total(s.n * per_image),
        units(ceil_div(total, unit_tiles)) {}

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

}  // namespace
}  // namespace mpq::kernels
