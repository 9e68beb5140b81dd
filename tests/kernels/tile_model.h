// The tile registers of AMX in portable C++, after Intel's manual (volume 2, TILELOADD, TDPBUSD,
// TILESTORED): lets every machine with AVX-512 prove what is built on NativeTiles. Strict: what the
// processor answers with #UD or #GP throws, and so does the use of a tile that holds nothing. In an
// unnamed namespace, so that a file compiled for AVX-512 keeps its own copy.
#pragma once

#include <cstring>

#include "kernels/tiles_amx.h"

namespace mpq::test {

[[noreturn]] void refuse_tile_use(const char* what);  // throws std::logic_error

namespace {

class ModelTiles {
 public:
  void configure(const kernels::TileConfig& config) {
    require(config.palette == 1 && config.start_row == 0, "palette");
    for (int t = 0; t < 8; ++t) {
      require(config.rows[t] <= 16 && config.row_bytes[t] <= 64, "size of a tile");
      require((config.rows[t] == 0) == (config.row_bytes[t] == 0), "half of a size");
      tiles_[t] = {.rows = config.rows[t], .row_bytes = config.row_bytes[t]};
    }
  }
  template <int kTile>
  void load(const void* from, size_t step) {
    Tile& tile = used(kTile);
    std::memset(tile.bytes, 0, sizeof tile.bytes);
    for (uint32_t r = 0; r < tile.rows; ++r)
      std::memcpy(tile.bytes[r], static_cast<const uint8_t*>(from) + r * step, tile.row_bytes);
    tile.loaded = true;
  }
  template <int kTile>
  void store(void* to, size_t step) {
    const Tile& tile = holding(kTile);
    for (uint32_t r = 0; r < tile.rows; ++r)
      std::memcpy(static_cast<uint8_t*>(to) + r * step, tile.bytes[r], tile.row_bytes);
  }
  template <int kTile>
  void zero() {
    Tile& tile = used(kTile);
    std::memset(tile.bytes, 0, sizeof tile.bytes);
    tile.loaded = true;
  }
  template <int kSums, int kCodes, int kWeights>
  void multiply() {
    multiply_as<uint8_t, kSums, kCodes, kWeights>();
  }
  template <int kSums, int kCodes, int kWeights>
  void multiply_signed() {
    multiply_as<int8_t, kSums, kCodes, kWeights>();
  }
  void release() {
    for (Tile& tile : tiles_) tile = {};
  }

 private:
  template <typename Code, int kSums, int kCodes, int kWeights>
  void multiply_as() {
    Tile& sums = holding(kSums);
    const Tile &a = holding(kCodes), &b = holding(kWeights);
    require(kSums != kCodes && kSums != kWeights && kCodes != kWeights, "one tile twice");
    require(sums.rows == a.rows && sums.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows &&
                a.row_bytes % 4 == 0 && b.row_bytes % 4 == 0,
            "sizes that do not fit");
    for (uint32_t m = 0; m < a.rows; ++m)
      for (uint32_t k = 0; k < a.row_bytes / 4; ++k)
        for (uint32_t n = 0; n < b.row_bytes / 4; ++n) {
          uint32_t sum;
          std::memcpy(&sum, sums.bytes[m] + 4 * n, 4);
          for (uint32_t i = 0; i < 4; ++i)
            sum += static_cast<uint32_t>(static_cast<Code>(a.bytes[m][4 * k + i]) *
                                         static_cast<int8_t>(b.bytes[k][4 * n + i]));
          std::memcpy(sums.bytes[m] + 4 * n, &sum, 4);
        }
  }
  struct Tile {
    uint32_t rows = 0, row_bytes = 0;
    bool loaded = false;
    uint8_t bytes[16][64] = {};
  };
  static void require(bool holds, const char* what) {
    if (!holds) refuse_tile_use(what);
  }
  Tile& used(int tile) {
    require(tiles_[tile].rows != 0, "a tile without a size");
    return tiles_[tile];
  }
  Tile& holding(int tile) {
    require(used(tile).loaded, "a tile that holds nothing");
    return tiles_[tile];
  }
  Tile tiles_[8];
};

}  // namespace
}  // namespace mpq::test
