#include "converter/train/product.h"

#include <dnnl.hpp>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

// The heads of sentences: a few tokens, a few dozen columns.
constexpr size_t kSmall = 4096;  // elements of a matrix
constexpr size_t kLanes = 16;

// Of columns that are copied to whole vectors.
MPQ_CLONES void small_product(const ProductShape& s, Rows<const float> a, Rows<const float> b,
                              Rows<float> c, bool add, float alpha) {
  float columns[kSmall];
  const size_t width = (s.n + kLanes - 1) / kLanes * kLanes;
  std::fill_n(columns, s.k * width, 0.0F);
  const size_t b_row = s.transpose_b == 'N' ? b.stride : 1,
               b_next = s.transpose_b == 'N' ? 1 : b.stride;
  for (size_t l = 0; l < s.k; ++l)
    for (size_t j = 0; j < s.n; ++j) columns[l * width + j] = b.data[l * b_row + j * b_next];
  const size_t a_row = s.transpose_a == 'N' ? a.stride : 1,
               a_next = s.transpose_a == 'N' ? 1 : a.stride;
  for (size_t i = 0; i < s.m; ++i)
    for (size_t first = 0; first < s.n; first += kLanes) {
      float sums[kLanes] = {};
      for (size_t l = 0; l < s.k; ++l) {
        const float factor = a.data[i * a_row + l * a_next];
        for (size_t lane = 0; lane < kLanes; ++lane)
          sums[lane] += factor * columns[l * width + first + lane];
      }
      float* const to = c.data + i * c.stride + first;
      for (size_t lane = 0; lane < std::min(kLanes, s.n - first); ++lane)
        to[lane] = alpha * sums[lane] + (add ? to[lane] : 0.0F);
    }
}

}  // namespace

void product(const ProductShape& s, Rows<const float> a, Rows<const float> b, Rows<float> c,
             bool add, float alpha) {
  const auto dim = [](size_t size) { return static_cast<dnnl_dim_t>(size); };
  if (s.m == 0 || s.n == 0 || s.k == 0) return;
  if (std::max(s.m, s.k) * (s.n + kLanes) <= kSmall) return small_product(s, a, b, c, add, alpha);
  dnnl::error::wrap_c_api(
      dnnl_sgemm(s.transpose_a, s.transpose_b, dim(s.m), dim(s.n), dim(s.k), alpha, a.data,
                 dim(a.stride), b.data, dim(b.stride), add ? 1.0F : 0.0F, c.data, dim(c.stride)),
      "cannot multiply matrices");
}

}  // namespace mpq::convert::train
