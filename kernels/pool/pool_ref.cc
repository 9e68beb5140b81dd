// The meaning of the family, in portable C++.

#include <cmath>

#include "kernels/pool/rows.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

bool fits(const PoolShape&, uint32_t) { return true; }

// Calls each(n, y, x, c) for the outputs of a range.
template <typename Each>
void for_each_output(const PoolShape& s, uint32_t cb, const WorkRange& range, Each each) {
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const PoolUnit at = pool_unit(s, cb, unit);
    for (uint32_t x = 0; x < s.ow; ++x)
      for (uint32_t c = at.block * cb; c < s.c && c < (at.block + 1) * cb; ++c)
        each(at.n, at.y, x, c);
  }
}

uint8_t& code_at(const Planes& p, uint32_t n, uint32_t y, uint32_t x, uint32_t c) {
  return pool_pixel(p, n, c / p.cb, y, x)[c % p.cb];
}

void run_max(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  for_each_output(s, a.x.cb, range, [&](uint32_t n, uint32_t y, uint32_t x, uint32_t c) {
    const PoolSpan rows = pool_rows(s, y), columns = pool_columns(s, x);
    uint8_t best = 0;
    for (uint32_t i = rows.begin; i < rows.end; ++i)
      for (uint32_t j = columns.begin; j < columns.end; ++j) {
        const uint8_t code = code_at(a.x, n, i, j, c);
        if (code > best) best = code;
      }
    code_at(a.y, n, y, x, c) = best;
  });
}

void run_average(const PoolArgs& a, const WorkRange& range) {
  const PoolShape& s = a.shape;
  for_each_output(s, a.x.cb, range, [&](uint32_t n, uint32_t y, uint32_t x, uint32_t c) {
    const PoolSpan rows = pool_rows(s, y), columns = pool_columns(s, x);
    int32_t acc = 0;
    for (uint32_t i = rows.begin; i < rows.end; ++i)
      for (uint32_t j = columns.begin; j < columns.end; ++j)
        acc += code_at(a.x, n, i, j, c) - a.zero_point;
    const float v = std::fmaf(static_cast<float>(acc), a.multiplier, a.bias);
    if (a.out == Elem::f32)
      a.dense[((size_t{n} * s.c + c) * s.oh + y) * s.ow + x] = v;
    else
      code_at(a.y, n, y, x, c) = static_cast<uint8_t>(round_clamp(v, a.lo, a.hi));
  });
}

}  // namespace

const PoolKernel max_pool_u8_ref = {"max_pool_u8_ref", kIsaScalar, PoolKind::kMax, fits, run_max};
const PoolKernel avg_pool_u8_ref = {"avg_pool_u8_ref", kIsaScalar, PoolKind::kAverage, fits,
                                    run_average};

}  // namespace mpq::kernels
