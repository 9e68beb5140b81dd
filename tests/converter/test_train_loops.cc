// The arithmetic that training has of its own beside the library's.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "converter/train/exponential.h"
#include "converter/train/product.h"
#include "converter/train/rounded_product.h"
#include "graph_builder.h"

namespace mpq::convert::train {

TEST_CASE("exp_of: near exp everywhere") {
  double worst = 0.0;
  for (float x = -86.0F; x < 88.0F; x += 0.0137F)
    worst = std::max(worst, std::abs(exp_of(x) / std::exp(double{x}) - 1.0));
  CHECK(worst < 2.5e-7);
  CHECK(exp_of(0.0F) == 1.0F);
  CHECK(exp_of(-1000.0F) < 1e-37F);
  CHECK(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("product: sums of products of either order of rows, small and large") {
  GraphBuilder b(51);
  const size_t kSizes[][3] = {{1, 1, 1}, {5, 7, 3}, {14, 32, 14}, {23, 17, 32}, {70, 90, 80}};
  for (const auto& [m, n, k] : kSizes)
    for (const char ta : {'N', 'T'})
      for (const char tb : {'N', 'T'})
        for (const bool add : {false, true}) {
          // Rows are longer than what is multiplied.
          const size_t a_row = (ta == 'N' ? k : m) + 2, b_row = (tb == 'N' ? n : k) + 3,
                       c_row = n + 1;
          const std::vector<float> x = b.random_data(a_row * (ta == 'N' ? m : k)),
                                   y = b.random_data(b_row * (tb == 'N' ? k : n)),
                                   start = b.random_data(c_row * m);
          std::vector<float> z = start;
          product({ta, tb, m, n, k}, {x.data(), a_row}, {y.data(), b_row}, {z.data(), c_row}, add,
                  0.5F);
          double worst = 0.0;
          for (size_t i = 0; i < m; ++i) {
            for (size_t j = 0; j < n; ++j) {
              double sum = add ? start[i * c_row + j] : 0.0;
              for (size_t l = 0; l < k; ++l)
                sum += 0.5 * x[ta == 'N' ? i * a_row + l : l * a_row + i] *
                       y[tb == 'N' ? l * b_row + j : j * b_row + l];
              worst = std::max(worst, std::abs(z[i * c_row + j] - sum));
            }
            CHECK(z[i * c_row + n] == start[i * c_row + n]);  // beside the matrix
          }
          CHECK(worst < 1e-4);
        }
}

TEST_CASE("rounded product: exact on numbers that bfloat16 has, rows of 0 fill a block") {
  GraphBuilder b(52);
  constexpr size_t kM = 37, kN = 5, kK = 9;
  std::vector<float> x = b.random_data(kM * kK, 20.0F), w = b.random_data(kN * kK, 20.0F);
  for (std::vector<float>* data : {&x, &w})
    for (float& v : *data) v = std::round(v);
  RoundedMatrix a, c;
  a.assign(b.random_data(3 * kK * 64), kK, RoundedMatrix::kTokenRows);  // nothing of it stays
  a.assign(x, kK, RoundedMatrix::kTokenRows);
  c.assign(w, kK, RoundedMatrix::kAnyRows);
  CHECK(a.rows == 64);
  CHECK(c.rows == kN);
  Engine engine;
  for (const bool widened : {true, !multiplies_bfloat16(engine.engine)}) {
    engine.widened = widened;
    const float* const y = RoundedProduct(&engine)({a}, {c, true});
    size_t different = 0;
    for (size_t i = 0; i < a.rows; ++i)
      for (size_t j = 0; j < kN; ++j) {
        float sum = 0.0F;
        for (size_t l = 0; i < kM && l < kK; ++l) sum += x[i * kK + l] * w[j * kK + l];
        different += y[i * kN + j] != sum ? 1 : 0;
      }
    CHECK(different == 0);
  }
  a.assign(std::vector<float>{1.00390625F, 1.01171875F, -1.00390625F, 1.0F}, 4,
           RoundedMatrix::kAnyRows);  // 1 + 2^-8 lies between two: to even
  CHECK(a.data == std::vector<uint16_t>{0x3F80, 0x3F82, 0xBF80, 0x3F80});
  std::vector<float> rounded(2);
  round_to_bfloat16(std::vector<float>{1.00390625F, 1.01171875F}, rounded.data());
  CHECK(rounded == std::vector<float>{1.0F, 1.015625F});
}

}  // namespace mpq::convert::train
