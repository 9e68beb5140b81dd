#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>

#include "kernels/pool/pool.h"
#include "tests/kernels/planes_operand.h"

namespace mpq::test {
namespace {

using kernels::Elem;
using kernels::pool_kernels;
using kernels::pool_units;
using kernels::PoolArgs;
using kernels::PoolKernel;
using kernels::PoolKind;
using kernels::PoolShape;
using kernels::WorkRange;

const PoolKernel& reference_of(PoolKind kind) {
  return kernels::select_pool(kind, {}, 64, kernels::kIsaScalar);
}

uint32_t output_size(uint32_t size, uint32_t pad_before, uint32_t pad_after, uint32_t kernel,
                     uint32_t stride) {
  return (size + pad_before + pad_after - kernel) / stride + 1;
}

struct PoolCase {
  PoolShape shape;
  uint32_t cb = 64;
  Elem out = Elem::u8;
  int32_t max_code = 255;  // of the input
};

Problem pool_problem(const PoolKernel& row, const PoolCase& c, Rng& rng) {
  const PoolShape& s = c.shape;
  Problem p;
  const auto number = [](uint32_t value) { return std::to_string(value) + " "; };
  p.text = "n " + number(s.n) + "c " + number(s.c) + "h " + number(s.h) + "w " + number(s.w) +
           "oh " + number(s.oh) + "ow " + number(s.ow) + "kernel " + number(s.kernel_h) +
           number(s.kernel_w) + "stride " + number(s.stride_h) + number(s.stride_w) + "pad " +
           number(s.pad_top) + number(s.pad_left) + "cb " + number(c.cb) +
           (c.out == Elem::f32 ? "f32" : "u8");
  const bool extreme = rng.chance(4);
  PlanesSpec x_spec = with_random_gaps({s.n, s.c, s.h, s.w, c.cb}, rng);
  x_spec.halo = rng.below(2);  // unspecified: the window is clipped
  const PlanesOperand x = add_planes(&p, "x", x_spec, Role::kInput, [&](auto...) {
    return extreme ? c.max_code : rng.between(0, c.max_code);
  });
  PoolArgs args = {.shape = s, .out = c.out};
  PlanesOperand y;
  size_t dense = 0;
  if (c.out == Elem::f32) {
    dense = p.add("dense y", std::vector<float>(size_t{s.n} * s.c * s.oh * s.ow), Role::kOutput);
  } else {
    PlanesSpec y_spec = with_random_gaps({s.n, s.c, s.oh, s.ow, c.cb}, rng);
    y_spec.halo = rng.below(3);
    y = add_output_planes(&p, "y", y_spec);
  }
  const auto pixels = static_cast<float>(s.kernel_h * s.kernel_w);
  args.zero_point = rng.pick({0, 1, 128, 255});
  args.multiplier = rng.chance(3) ? 0.5F : rng.uniform(0.5F, 2.0F) / pixels;
  args.bias = rng.chance(2) ? 0.0F : rng.uniform(-10.0F, 140.0F);
  args.lo = rng.chance(3) ? 2 : 0;
  args.hi = rng.pick({3, 15, 255});
  const auto bind = [=](Pointers at) {
    PoolArgs a = args;
    a.x = x.at(at);
    if (a.out == Elem::f32)
      a.dense = reinterpret_cast<float*>(at[dense]);
    else
      a.y = y.at(at);
    return a;
  };
  const uint32_t units = pool_units(s, c.cb);
  p.reference = [bind, units, &row](Pointers at) {
    reference_of(row.kind).run(bind(at), WorkRange{0, units});
  };
  p.kernel = [bind, units, &row](Pointers at, Rng* parts) {
    run_units(units, parts, [&](WorkRange range) { row.run(bind(at), range); });
  };
  return p;
}

PoolCase random_case(PoolKind kind, Rng& rng) {
  PoolCase c;
  PoolShape& s = c.shape;
  s.n = 1 + rng.below(3);
  s.c = 1 + rng.below(130);
  s.h = 1 + rng.below(9);
  s.w = 1 + rng.below(12);
  s.kernel_h = 1 + rng.below(s.h);
  s.kernel_w = 1 + rng.below(s.w);
  s.stride_h = 1 + rng.below(3);
  s.stride_w = 1 + rng.below(3);
  s.pad_top = rng.below(s.kernel_h);
  s.pad_left = rng.below(s.kernel_w);
  s.oh = output_size(s.h, s.pad_top, rng.below(s.kernel_h), s.kernel_h, s.stride_h);
  s.ow = output_size(s.w, s.pad_left, rng.below(s.kernel_w), s.kernel_w, s.stride_w);
  c.cb = rng.chance(2) ? kernels::channel_block(s.c) : rng.pick({4U, 16U, 32U, 64U});
  c.max_code = rng.pick({3, 15, 255});
  if (kind == PoolKind::kAverage && rng.chance(3)) c.out = Elem::f32;
  return c;
}

void require_pool(const PoolKernel& row, const PoolCase& c, Rng& rng) {
  const Problem p = pool_problem(row, c, rng);
  require_ok(row.name, p, check(p, rng));
}

TEST_CASE("pool: every kernel equals the reference on random shapes") {
  for_each_kernel(pool_kernels(), [](const PoolKernel& row, Rng& rng) {
    const uint32_t wanted = test_cases(300);
    uint32_t run = 0;
    for (uint32_t tries = 0; run < wanted && tries < 20 * wanted; ++tries) {
      const PoolCase c = random_case(row.kind, rng);
      if (!row.fits(c.shape, c.cb)) continue;
      require_pool(row, c, rng);
      ++run;
    }
    CHECK(run == wanted);
  });
}

TEST_CASE("pool: every kernel equals the reference for every number of channels, globally too") {
  for_each_kernel(pool_kernels(), [](const PoolKernel& row, Rng& rng) {
    for (uint32_t channels = 1; channels <= 130; ++channels) {
      PoolCase c = {.shape = {.n = 2, .c = channels, .h = 3, .w = 5, .kernel_h = 3, .kernel_w = 5}};
      c.cb = kernels::channel_block(channels);
      c.out = row.kind == PoolKind::kAverage && channels % 2 == 0 ? Elem::f32 : Elem::u8;
      if (row.fits(c.shape, c.cb)) require_pool(row, c, rng);
    }
  });
}

TEST_CASE("pool: every kernel equals the reference on ResNet-50's pools") {
  for_each_kernel(pool_kernels(), [](const PoolKernel& row, Rng& rng) {
    PoolCase c = {.shape = {.c = 64,
                            .h = 112,
                            .w = 112,
                            .oh = 56,
                            .ow = 56,
                            .kernel_h = 3,
                            .kernel_w = 3,
                            .stride_h = 2,
                            .stride_w = 2,
                            .pad_top = 1,
                            .pad_left = 1}};
    if (row.kind == PoolKind::kAverage)
      c.shape = {.n = 2, .c = 2048, .h = 7, .w = 7, .kernel_h = 7, .kernel_w = 7};
    require_pool(row, c, rng);
  });
}

// A pool that takes halo pixels for pixels of the image where the window is not clipped.
void run_unclipped(const PoolArgs& args, const WorkRange& range) {
  PoolArgs a = args;
  a.x.data -= a.shape.pad_top * a.x.row + ptrdiff_t{a.shape.pad_left} * a.x.cb;
  a.shape.h += 2 * a.shape.pad_top;
  a.shape.w += 2 * a.shape.pad_left;
  a.shape.pad_top = a.shape.pad_left = 0;
  reference_of(PoolKind::kMax).run(a, range);
}

TEST_CASE("pool: a kernel that reads the halo is caught") {
  Rng rng(test_seed());
  PoolKernel row = reference_of(PoolKind::kMax);
  row.run = run_unclipped;
  std::set<std::string> checks;
  for (int i = 0; i < 50; ++i) {
    PoolCase c = {.shape = {.n = 1,
                            .c = 16,
                            .h = 5,
                            .w = 5,
                            .oh = 5,
                            .ow = 5,
                            .kernel_h = 3,
                            .kernel_w = 3,
                            .pad_top = 1,
                            .pad_left = 1},
                  .cb = 16};
    checks.insert(check(pool_problem(row, c, rng), rng).check);
  }
  // With a halo in memory its bytes show in the result; without one the read is outside the
  // operand.
  CHECK(checks.contains("fault"));
  CHECK(checks.contains("unspecified"));
}

TEST_CASE("pool: an average that forgets its bias is caught") {
  Rng rng(test_seed());
  PoolKernel row = reference_of(PoolKind::kAverage);
  row.run = [](const PoolArgs& args, const WorkRange& range) {
    PoolArgs a = args;
    a.bias = 0;
    reference_of(PoolKind::kAverage).run(a, range);
  };
  int caught = 0;
  for (int i = 0; i < 50; ++i) {
    const PoolCase c = {.shape = {.c = 16, .h = 4, .w = 4, .kernel_h = 4, .kernel_w = 4}, .cb = 16};
    caught += check(pool_problem(row, c, rng), rng).check == "bytes" ? 1 : 0;
  }
  CHECK(caught > 10);
}

// One image of one channel in blocks of 4, row by row.
PoolArgs small_pool(const PoolShape& shape, uint8_t* x, uint8_t* y) {
  PoolArgs a = {.shape = shape};
  a.x = {.data = x, .image = 0, .plane = 0, .row = ptrdiff_t{shape.w} * 4, .cb = 4};
  a.y = {.data = y, .image = 0, .plane = 0, .row = ptrdiff_t{shape.ow} * 4, .cb = 4};
  return a;
}

TEST_CASE("pool: the reference clips its window: padding never wins") {
  // 3 x 3 pixels, kernel 2, stride 2, padding 1 before: windows of 1, 2, 2 and 4 pixels.
  const uint8_t codes[9] = {5, 1, 2, 3, 4, 9, 0, 7, 6};
  uint8_t x[36] = {}, y[16] = {};
  for (int i = 0; i < 9; ++i) x[i * 4] = codes[i];
  const PoolShape shape = {.c = 1,
                           .h = 3,
                           .w = 3,
                           .oh = 2,
                           .ow = 2,
                           .kernel_h = 2,
                           .kernel_w = 2,
                           .stride_h = 2,
                           .stride_w = 2,
                           .pad_top = 1,
                           .pad_left = 1};
  reference_of(PoolKind::kMax).run(small_pool(shape, x, y), {0, 2});
  CHECK(y[0] == 5);
  CHECK(y[4] == 2);
  CHECK(y[8] == 3);
  CHECK(y[12] == 9);
}

TEST_CASE("pool: the reference averages exactly, ties to even") {
  // Sums 5 + 6 = 11, 2 + 3 = 5 around zero point 1: 9 and 3; halves 4.5 and 1.5 go to 4 and 2.
  uint8_t x[16] = {5, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}, y[8] = {};
  PoolArgs a =
      small_pool({.c = 1, .h = 1, .w = 4, .oh = 1, .ow = 2, .kernel_w = 2, .stride_w = 2}, x, y);
  a.zero_point = 1;
  a.multiplier = 0.5F;
  reference_of(PoolKind::kAverage).run(a, {0, 1});
  CHECK(y[0] == 4);
  CHECK(y[4] == 2);
  float v[2] = {};
  a.out = Elem::f32;
  a.dense = v;
  a.bias = 0.25F;
  reference_of(PoolKind::kAverage).run(a, {0, 1});
  CHECK(v[0] == 4.75F);
  CHECK(v[1] == 1.75F);
}

}  // namespace
}  // namespace mpq::test
