// Products packed by the Chinese remainder theorem give back every sum within their bounds, and the
// bounds are where they are said to be.

#include <doctest/doctest.h>

#include "kernels/conv/crt.h"
#include "kernels/isa_config.h"
#include "tests/kernels/crt_decode.h"
#include "tests/kernels/harness.h"

namespace mpq::test {
namespace {

#if MPQ_HAVE_AVX512VNNI

using kernels::kCrtBothMax;
using kernels::kCrtPairMax;
using kernels::kCrtTripleMax;

bool runs_vectors(const char* name) { return can_run(name, kernels::kIsaAvx512Vnni); }

// The ends, the middle, or anything between.
int32_t some_sum(int32_t max, Rng& rng) {
  return rng.chance(2) ? rng.pick({-max, -max + 1, 0, max - 1, max}) : rng.between(-max, max);
}

TEST_CASE("crt: a pair returns every shared sum, whatever the others are") {
  if (!runs_vectors("crt: a pair")) return;
  Rng rng(test_seed());
  for (int32_t shared = -kCrtPairMax; shared <= kCrtPairMax; ++shared)
    for (int i = 0; i < 16; ++i) {
      const int32_t sums[3] = {some_sum(2 * kCrtPairMax, rng), shared,
                               some_sum(2 * kCrtPairMax, rng)};
      REQUIRE(crt_pair_returns(sums));
    }
}

TEST_CASE("crt: a triple returns every shared sum, whatever the others are") {
  if (!runs_vectors("crt: a triple")) return;
  Rng rng(test_seed());
  for (int32_t shared = -kCrtTripleMax; shared <= kCrtTripleMax; ++shared) {
    int32_t sums[4] = {0, 0, 0, shared};
    for (int v = 0; v < 3; ++v) sums[v] = some_sum(kCrtTripleMax, rng);
    REQUIRE(crt_triple_returns(sums));
  }
}

TEST_CASE("crt: a pair of triples returns every sum that two share, whatever the others are") {
  if (!runs_vectors("crt: a pair of triples")) return;
  Rng rng(test_seed());
  for (int32_t shared = -kCrtBothMax; shared <= kCrtBothMax; ++shared)
    for (int place = 0; place < 4; ++place)
      for (int i = 0; i < 16; ++i) {
        int32_t sums[4][3];
        for (auto& row : sums)
          for (int32_t& sum : row) sum = some_sum(kCrtBothMax, rng);
        sums[place][1] = shared;
        REQUIRE(crt_pair_of_triples_returns(sums));
      }
}

// What a checker that always says yes would pass.
TEST_CASE("crt: sums beyond what the moduli tell apart are not returned") {
  if (!runs_vectors("crt: sums beyond")) return;
  const int32_t most = 84 * 83 / 2;  // what no pair can tell from -most
  const int32_t pair[3] = {0, most, 0}, minus[3] = {0, -most, 0};
  CHECK_FALSE((crt_pair_returns(pair) && crt_pair_returns(minus)));
  const int32_t triple[4] = {0, 0, 0, 84 * 83 * 79 / 2 + 84};
  CHECK_FALSE(crt_triple_returns(triple));
  const int32_t both[4][3] = {{}, {}, {}, {3600, 3600, 3600}};
  CHECK_FALSE(crt_pair_of_triples_returns(both));
}

#endif

TEST_CASE("crt: chunks cover k once, in order, each within the bound") {
  for (uint32_t blocks = 1; blocks <= 100; ++blocks)
    for (const uint32_t most : {1U, 8U, 12U, 16U}) {
      const kernels::CrtChunks chunks({.c = blocks * 64, .o = 1}, most);
      CHECK(chunks.first(0) == 0);
      CHECK(chunks.first(chunks.count) == blocks);
      for (uint32_t i = 0; i < chunks.count; ++i) {
        CHECK(chunks.first(i) < chunks.first(i + 1));
        CHECK(chunks.first(i + 1) - chunks.first(i) <= most);
      }
    }
}

}  // namespace
}  // namespace mpq::test
