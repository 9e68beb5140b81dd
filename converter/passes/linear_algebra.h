// The little dense linear algebra that error-compensated rounding needs. Every element is summed in
// one fixed order, whatever the threads and the vector width, so results repeat bit for bit.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "format/status.h"

namespace mpq::convert {

// c[m][n] = sum over s of a[s][m] * b[s][n]; all row-major, in binary32.
std::vector<float> transposed_product(std::span<const float> a, std::span<const float> b,
                                      size_t rows, size_t m, size_t n);
// The same with a = b: symmetric, computed once.
std::vector<float> gram(std::span<const float> a, size_t rows, size_t m);

// c[s][n] = sum over k of a[s][k] * b[n][k].
std::vector<float> product_transposed(std::span<const float> a, std::span<const float> b,
                                      size_t rows, size_t k, size_t n);

// In place: the symmetric positive definite h [n][n] -> its upper factor R, h = R^T R; what lies
// below the diagonal is left as it was. An error when h is not positive definite.
Checked cholesky(std::span<double> h, size_t n);

// Solves R^T R x = b for `columns` right-hand sides, in place; b is [n][columns].
void solve_cholesky(std::span<const double> r, size_t n, std::span<double> b, size_t columns);

}  // namespace mpq::convert
