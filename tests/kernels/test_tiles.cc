// The model of AMX tiles against the processor's, and against misuse.

#include <doctest/doctest.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/isa_config.h"
#include "tests/kernels/amx_on_model.h"
#include "tests/kernels/harness.h"
#include "tests/kernels/tile_model.h"

namespace mpq::test {

void refuse_tile_use(const char* what) {
  throw std::logic_error(std::string("tile model: ") + what);
}

namespace {

using kernels::tile_config;

TileProblem random_problem(Rng& rng) {
  TileProblem p;
  p.config = tile_config(1 + rng.below(16), 1 + rng.below(16));
  auto* sums = reinterpret_cast<uint8_t*>(p.sums);
  for (size_t i = 0; i < sizeof p.sums; ++i) sums[i] = static_cast<uint8_t>(rng.below(256));
  const bool corners = rng.chance(3);
  p.is_signed = rng.chance(2);
  for (auto& row : p.codes)
    for (uint8_t& code : row) code = static_cast<uint8_t>(corners ? 255 : rng.below(256));
  for (auto& row : p.weights)
    for (int8_t& w : row) w = static_cast<int8_t>(corners ? -128 : rng.between(-128, 127));
  return p;
}

#if MPQ_HAVE_AMX
TEST_CASE("tiles: the model equals the processor") {
  if (!can_run("tiles: the model equals the processor", kernels::kIsaAmx)) return;
  Rng rng(test_seed());
  for (uint32_t i = 0; i < test_cases(400); ++i) {
    TileProblem native = random_problem(rng), model = native;
    multiply_natively(&native);
    multiply_on_model(&model);
    REQUIRE(std::memcmp(native.sums, model.sums, sizeof native.sums) == 0);
  }
}

TEST_CASE("tiles: the model multiplies unsigned codes by signed weights, four at a time") {
  if (!can_run("tiles: the model multiplies", kernels::kIsaAvx512Vnni)) return;
  TileProblem p = {.config = tile_config(2, 1), .sums = {}, .codes = {}, .weights = {}};
  p.sums[1][3] = 5;
  const uint8_t codes[4] = {255, 1, 2, 3};
  const int8_t weights[4] = {-128, 10, -1, 7};
  std::memcpy(p.codes[1], codes, 4);
  std::memcpy(p.weights[0] + 12, weights, 4);
  multiply_on_model(&p);
  CHECK(p.sums[1][3] == 5 + 255 * -128 + 10 - 2 + 21);
  CHECK(p.sums[0][3] == 0);
  CHECK(p.sums[1][2] == 0);
}

#endif

TEST_CASE("tiles: the model refuses what the processor would") {
  ModelTiles tiles;
  uint8_t memory[1024] = {};
  CHECK_THROWS_AS(tiles.load<0>(memory, 64), std::logic_error);  // not configured
  kernels::TileConfig config = tile_config(16, 16);
  config.rows[2] = 17;
  CHECK_THROWS_AS(tiles.configure(config), std::logic_error);
  config = tile_config(16, 16);
  config.palette = 2;
  CHECK_THROWS_AS(tiles.configure(config), std::logic_error);
  config = tile_config(7, 3);
  config.rows[0] = 6;  // sums of fewer pixels than codes
  tiles.configure(config);
  tiles.load<0>(memory, 64);
  tiles.load<4>(memory, 64);
  CHECK_THROWS_AS((tiles.multiply<0, 4, 6>()), std::logic_error);  // no weights yet
  tiles.load<6>(memory, 64);
  CHECK_THROWS_AS((tiles.multiply<0, 4, 6>()), std::logic_error);
  CHECK_THROWS_AS((tiles.multiply<0, 4, 4>()), std::logic_error);
  tiles.release();
  CHECK_THROWS_AS(tiles.store<0>(memory, 64), std::logic_error);
}

}  // namespace
}  // namespace mpq::test
