#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "kernels/sequence/sequence.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using kernels::embed;
using kernels::EmbeddingArgs;
using kernels::pool_sequences;
using kernels::SequencePoolArgs;

TEST_CASE("embedding: positions count from the start of each sequence, by hand") {
  const std::vector<int32_t> ids = {2, 0, 1, 1, 2}, types = {0, 1, 0, 0, 1};
  const std::vector<uint32_t> starts = {0, 2, 5};
  const std::vector<float> words = {1, 2, 3, 4, 5, 6}, positions = {90, 91, 10, 20, 30, 40, 50, 60};
  const std::vector<float> type_rows = {0.5F, 0.25F, 0.125F, 0.0625F};
  std::vector<float> y(10);
  EmbeddingArgs a = {.ids = ids.data(),
                     .types = types.data(),
                     .starts = starts.data(),
                     .sequences = 2,
                     .width = 2,
                     .words = words.data(),
                     .positions = positions.data(),
                     .type_rows = type_rows.data(),
                     .position_offset = 1,
                     .y = y.data()};
  embed(a, {0, 2});
  CHECK(y == std::vector<float>{15.5F, 26.25F, 31.125F, 42.0625F,  // positions 1, 2
                                13.5F, 24.25F, 33.5F, 44.25F, 55.125F, 66.0625F});

  // Codes with a scale a word; no types.
  const std::vector<int8_t> codes = {-128, 1, 2, 3, 127, -1};
  const std::vector<float> scale = {0.5F, 2.0F, 0.25F};
  a.words = nullptr;
  a.word_codes = codes.data();
  a.word_scale = scale.data();
  a.types = nullptr;
  embed(a, {0, 2});
  CHECK(y[0] == 127 * 0.25F + 10);
  CHECK(y[2] == -64.0F + 30);
  CHECK(y[5] == 6.0F + 20);  // the second sequence begins: position 0 again
}

TEST_CASE("sequence pool: first, mean and length, near binary64") {
  Rng rng(test_seed());
  const uint32_t width = 37;
  const std::vector<uint32_t> starts = {0, 1, 8, 20};
  std::vector<float> x(20 * width), y(3 * width);
  for (float& v : x) v = rng.uniform(-2.0F, 3.0F);
  SequencePoolArgs a = {
      .x = x.data(), .starts = starts.data(), .sequences = 3, .width = width, .y = y.data()};
  pool_sequences(a, {0, 3});
  for (uint32_t s = 0; s < 3; ++s)
    for (uint32_t i = 0; i < width; ++i) CHECK(y[s * width + i] == x[starts[s] * width + i]);

  a.mean = true;
  const auto mean_of = [&](uint32_t s, uint32_t i) {
    double sum = 0.0;
    for (uint32_t t = starts[s]; t < starts[s + 1]; ++t) sum += x[t * width + i];
    return sum / (starts[s + 1] - starts[s]);
  };
  pool_sequences(a, {0, 3});
  for (uint32_t s = 0; s < 3; ++s)
    for (uint32_t i = 0; i < width; ++i) CHECK(std::fabs(y[s * width + i] - mean_of(s, i)) < 1e-6);

  // Sequences do not see each other: in parts and in another order, the same bytes.
  a.normalise = true;
  pool_sequences(a, {0, 3});
  std::vector<float> parts(y.size());
  a.y = parts.data();
  for (const uint32_t s : {2U, 0U, 1U}) pool_sequences(a, {s, s + 1});
  CHECK(parts == y);
  for (uint32_t s = 0; s < 3; ++s) {
    double squares = 0.0;
    for (uint32_t i = 0; i < width; ++i) squares += double{y[s * width + i]} * y[s * width + i];
    CHECK(std::fabs(squares - 1.0) < 1e-6);
  }
}

TEST_CASE("sequence pool: a row of zeros stays one") {
  const std::vector<float> x(8, 0.0F);
  const std::vector<uint32_t> starts = {0, 2};
  std::vector<float> y(4, 9.0F);
  pool_sequences({.x = x.data(),
                  .starts = starts.data(),
                  .sequences = 1,
                  .width = 4,
                  .mean = true,
                  .normalise = true,
                  .y = y.data()},
                 {0, 1});
  CHECK(y == std::vector<float>(4, 0.0F));
}

}  // namespace
}  // namespace mpq::test
