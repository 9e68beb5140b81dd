#include "converter/passes/linear_algebra.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "converter/parallel.h"

namespace mpq::convert {
namespace {

constexpr size_t kPanel = 64;   // columns packed together
constexpr size_t kChunk = 256;  // rows of a panel that stay in the second-level cache

using V4 = float __attribute__((vector_size(16)));
using V8 = float __attribute__((vector_size(32)));
using V16 = float __attribute__((vector_size(64)));

// c[64][64] += a^T b for two panels of `rows` rows, 4 x 2 vectors of sums in registers; products
// and sums are rounded apart, so the vectors' width changes nothing but the time.
template <typename V>
[[gnu::always_inline]] inline void panel_product(const float* a, const float* b, size_t rows,
                                                 float* c) {
  constexpr size_t kLanes = sizeof(V) / sizeof(float);
  for (size_t i = 0; i < kPanel; i += 4)
    for (size_t j = 0; j < kPanel; j += 2 * kLanes) {
      V sum[4][2];
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; ++r)
#pragma GCC unroll 2
        for (size_t q = 0; q < 2; ++q)
          std::memcpy(&sum[r][q], c + (i + r) * kPanel + j + kLanes * q, sizeof(V));
      for (size_t s = 0; s < rows; ++s) {
        V b0, b1;  // floats are not aligned as vectors
        std::memcpy(&b0, b + s * kPanel + j, sizeof b0);
        std::memcpy(&b1, b + s * kPanel + j + kLanes, sizeof b1);
#pragma GCC unroll 4
        for (size_t r = 0; r < 4; ++r) {
          const float f = a[s * kPanel + i + r];
          sum[r][0] += b0 * f;
          sum[r][1] += b1 * f;
        }
      }
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; ++r)
#pragma GCC unroll 2
        for (size_t q = 0; q < 2; ++q)
          std::memcpy(c + (i + r) * kPanel + j + kLanes * q, &sum[r][q], sizeof(V));
    }
}

using PanelProduct = void (*)(const float* a, const float* b, size_t rows, float* c);
__attribute__((target("avx512f"))) void panel_product_avx512(const float* a, const float* b,
                                                             size_t rows, float* c) {
  panel_product<V16>(a, b, rows, c);
}
__attribute__((target("avx2"))) void panel_product_avx2(const float* a, const float* b, size_t rows,
                                                        float* c) {
  panel_product<V8>(a, b, rows, c);
}
PanelProduct widest_panel_product() {
  return __builtin_cpu_supports("avx512f") ? panel_product_avx512
         : __builtin_cpu_supports("avx2")  ? panel_product_avx2
                                           : panel_product<V4>;
}

// [rows][columns] -> [panels][rows][64], zeros behind the last column.
std::vector<float> pack(std::span<const float> x, size_t rows, size_t columns) {
  const size_t panels = (columns + kPanel - 1) / kPanel;
  std::vector<float> packed(panels * rows * kPanel);
  parallel_for(panels, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      const size_t width = std::min(kPanel, columns - p * kPanel);
      for (size_t s = 0; s < rows; ++s)
        std::copy_n(&x[s * columns + p * kPanel], width, &packed[(p * rows + s) * kPanel]);
    }
  });
  return packed;
}

// [rows][columns] -> the packed form of its transpose.
std::vector<float> pack_transposed(std::span<const float> x, size_t rows, size_t columns) {
  const size_t panels = (rows + kPanel - 1) / kPanel;
  std::vector<float> packed(panels * columns * kPanel);
  parallel_for(panels, 1, [&](size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p)
      for (size_t i = 0; i < std::min(kPanel, rows - p * kPanel); ++i)
        for (size_t s = 0; s < columns; ++s)
          packed[(p * columns + s) * kPanel + i] = x[(p * kPanel + i) * columns + s];
  });
  return packed;
}

// c[m][n] from packed operands of `rows` rows; only tiles on and above the diagonal when symmetric.
std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b, size_t rows,
                            size_t m, size_t n, bool symmetric) {
  std::vector<float> c(m * n);
  const size_t panels_m = (m + kPanel - 1) / kPanel, panels_n = (n + kPanel - 1) / kPanel;
  const PanelProduct panel_product = widest_panel_product();
  // Rows of tiles from both ends together, so that triangular work is shared evenly.
  const auto row_of_tiles = [&](size_t i) {
    std::vector<float> tile(kPanel * kPanel);
    for (size_t j = symmetric ? i : 0; j < panels_n; ++j) {
      std::fill(tile.begin(), tile.end(), 0.0F);
      for (size_t s = 0; s < rows; s += kChunk)
        panel_product(&a[(i * rows + s) * kPanel], &b[(j * rows + s) * kPanel],
                      std::min(kChunk, rows - s), tile.data());
      for (size_t r = 0; r < std::min(kPanel, m - i * kPanel); ++r)
        for (size_t q = 0; q < std::min(kPanel, n - j * kPanel); ++q) {
          c[(i * kPanel + r) * n + j * kPanel + q] = tile[r * kPanel + q];
          if (symmetric) c[(j * kPanel + q) * n + i * kPanel + r] = tile[r * kPanel + q];
        }
    }
  };
  parallel_for((panels_m + 1) / 2, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      row_of_tiles(i);
      if (panels_m - 1 - i != i) row_of_tiles(panels_m - 1 - i);
    }
  });
  return c;
}

// y -= f * x.
__attribute__((target_clones("avx512f", "avx2", "default"))) void subtract(double* y,
                                                                           const double* x,
                                                                           double f, size_t n) {
  for (size_t i = 0; i < n; ++i) y[i] -= f * x[i];
}

// y -= f[0] * x[0] + ... + f[3] * x[3], one after the other.
__attribute__((target_clones("avx512f", "avx2", "default"))) void subtract4(
    double* y, const double* const x[4], const double f[4], size_t n) {
  const double *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
  const double f0 = f[0], f1 = f[1], f2 = f[2], f3 = f[3];
  for (size_t i = 0; i < n; ++i)
    y[i] = (((y[i] - f0 * x0[i]) - f1 * x1[i]) - f2 * x2[i]) - f3 * x3[i];
}

}  // namespace

std::vector<float> transposed_product(std::span<const float> a, std::span<const float> b,
                                      size_t rows, size_t m, size_t n) {
  return multiply(pack(a, rows, m), pack(b, rows, n), rows, m, n, false);
}

std::vector<float> gram(std::span<const float> a, size_t rows, size_t m) {
  const std::vector<float> packed = pack(a, rows, m);
  return multiply(packed, packed, rows, m, m, true);
}

std::vector<float> product_transposed(std::span<const float> a, std::span<const float> b,
                                      size_t rows, size_t k, size_t n) {
  return multiply(pack_transposed(a, rows, k), pack_transposed(b, n, k), k, rows, n, false);
}

Checked cholesky(std::span<double> h, size_t n) {
  constexpr size_t kBlock = 48;
  for (size_t b = 0; b < n; b += kBlock) {
    const size_t e = std::min(n, b + kBlock);
    // The block row: first its square, then, column ranges in parallel, the rest of it.
    for (size_t i = b; i < e; ++i) {
      double* row = &h[i * n];
      for (size_t p = b; p < i; ++p)
        for (size_t j = i; j < e; ++j) row[j] -= h[p * n + i] * h[p * n + j];
      if (!(row[i] > 0.0))
        return Error{Status::kInvalidArgument, "matrix is not positive definite at row " +
                                                   std::to_string(i) + " of " + std::to_string(n) +
                                                   "; raise the damping"};
      row[i] = std::sqrt(row[i]);
      for (size_t j = i + 1; j < e; ++j) row[j] /= row[i];
    }
    if (e == n) break;
    parallel_for(n - e, 64, [&](size_t begin, size_t end) {
      for (size_t i = b; i < e; ++i) {
        double* row = &h[i * n];
        for (size_t p = b; p < i; ++p)
          subtract(row + e + begin, &h[p * n + e + begin], h[p * n + i], end - begin);
        for (size_t j = e + begin; j < e + end; ++j) row[j] /= row[i];
      }
    });
    // What remains: h[i][j] -= sum over the block's rows of r[p][i] * r[p][j], for j >= i.
    const size_t rest = n - e;
    const auto update = [&](size_t i) {
      double* row = &h[i * n];
      for (size_t p = b; p < e;
           p += 4) {  // whole blocks only get here, and kBlock is a multiple of 4
        const double* const x[4] = {&h[p * n + i], &h[(p + 1) * n + i], &h[(p + 2) * n + i],
                                    &h[(p + 3) * n + i]};
        const double f[4] = {*x[0], *x[1], *x[2], *x[3]};
        subtract4(row + i, x, f, n - i);
      }
    };
    parallel_for((rest + 1) / 2, 16, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        update(e + i);
        if (rest - 1 - i != i) update(n - 1 - i);
      }
    });
  }
  return Ok{};
}

void solve_cholesky(std::span<const double> r, size_t n, std::span<double> b, size_t columns) {
  // Tiles of columns that stay in the second-level cache while r passes by, four rows at a time.
  constexpr size_t kTile = 32, kRows = 4;
  parallel_for((columns + kTile - 1) / kTile, 1, [&](size_t first, size_t last) {
    for (size_t t = first; t < last; ++t) {
      const size_t width = std::min(kTile, columns - t * kTile);
      const auto row = [&](size_t i) { return &b[i * columns + t * kTile]; };
      const auto divide = [&](size_t i) {
        for (size_t c = 0; c < width; ++c) row(i)[c] /= r[i * n + i];
      };
      const auto subtract_four = [&](double* y, size_t i, const double* f) {
        const double* const x[kRows] = {row(i), row(i + 1), row(i + 2), row(i + 3)};
        subtract4(y, x, f, width);
      };
      for (size_t i = 0; i < n; i += kRows) {  // R^T y = b
        const size_t end = std::min(n, i + kRows);
        for (size_t p = i; p < end; ++p) {
          divide(p);
          for (size_t j = p + 1; j < end; ++j) subtract(row(j), row(p), r[p * n + j], width);
        }
        for (size_t j = end; j < n; ++j) {  // behind a whole block of rows
          const double f[kRows] = {r[i * n + j], r[(i + 1) * n + j], r[(i + 2) * n + j],
                                   r[(i + 3) * n + j]};
          subtract_four(row(j), i, f);
        }
      }
      for (size_t i = n; i-- > 0;) {  // R x = y
        const double* const f = &r[i * n];
        size_t j = i + 1;
        for (; j + kRows <= n; j += kRows) subtract_four(row(i), j, f + j);
        for (; j < n; ++j) subtract(row(i), row(j), f[j], width);
        divide(i);
      }
    }
  });
}

}  // namespace mpq::convert
