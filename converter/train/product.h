// Products of row-major matrices by oneDNN.
#pragma once

#include <dnnl.hpp>

namespace mpq::convert::train {

struct ProductShape {
  char transpose_a, transpose_b;  // 'N' or 'T'
  size_t m, n, k;
};
template <typename T>
struct Rows {
  T* data;
  size_t stride;  // elements from a row to the next
};

// c [m,n] = alpha * a [m,k] b [k,n], added to c or in its place.
inline void product(const ProductShape& s, Rows<const float> a, Rows<const float> b, Rows<float> c,
                    bool add, float alpha = 1.0F) {
  const auto dim = [](size_t size) { return static_cast<dnnl_dim_t>(size); };
  if (s.m == 0 || s.n == 0 || s.k == 0) return;
  dnnl::error::wrap_c_api(
      dnnl_sgemm(s.transpose_a, s.transpose_b, dim(s.m), dim(s.n), dim(s.k), alpha, a.data,
                 dim(a.stride), b.data, dim(b.stride), add ? 1.0F : 0.0F, c.data, dim(c.stride)),
      "cannot multiply matrices");
}

}  // namespace mpq::convert::train
