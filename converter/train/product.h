// Products of row-major matrices: by oneDNN, small ones by a loop that costs less than its call.
#pragma once

#include <cstddef>

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
void product(const ProductShape& s, Rows<const float> a, Rows<const float> b, Rows<float> c,
             bool add, float alpha = 1.0F);

}  // namespace mpq::convert::train
