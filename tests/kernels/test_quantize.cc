#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/quantize/quantize.h"
#include "tests/kernels/planes_operand.h"

namespace mpq::test {
namespace {

using kernels::codes_units;
using kernels::CodesShape;
using kernels::DenseStrides;
using kernels::ImageQuantizeArgs;
using kernels::ImageQuantizeKernel;
using kernels::QuantizeArgs;
using kernels::QuantizeKernel;
using kernels::WorkRange;

CodesShape random_shape(Rng& rng) {
  return {1 + rng.below(3), 1 + rng.below(130), 1 + rng.below(4), 1 + rng.below(40)};
}

uint32_t random_block(const CodesShape& s, Rng& rng) {
  return rng.chance(3) ? rng.pick({4U, 16U, 32U, 64U}) : kernels::channel_block(s.c);
}

std::string describe(const CodesShape& s, uint32_t cb) {
  return "n " + std::to_string(s.n) + " c " + std::to_string(s.c) + " h " + std::to_string(s.h) +
         " w " + std::to_string(s.w) + " cb " + std::to_string(cb);
}

PlanesOperand random_output(Problem* p, const CodesShape& s, uint32_t cb, Rng& rng) {
  PlanesSpec spec = with_random_gaps({s.n, s.c, s.h, s.w, cb}, rng);
  spec.halo = rng.below(4);
  return add_output_planes(p, "y", spec);
}

float random_float(float scale, Rng& rng) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  switch (rng.below(8)) {
    case 0:
      return (static_cast<float>(rng.between(-20, 270)) + 0.5F) * scale;  // near a tie
    case 1:
      return rng.pick({kInf, -kInf, std::nanf(""), 3e38F, -3e38F, 1e-42F, -0.0F});
    default:
      return rng.uniform(-300.0F, 300.0F) * scale;
  }
}

struct QuantizeProblem {
  Problem problem;
  QuantizeArgs args;
};
QuantizeProblem quantize_problem(const QuantizeKernel& row, const CodesShape& s, bool matrix,
                                 uint32_t cb, Rng& rng) {
  QuantizeProblem q;
  Problem& p = q.problem;
  p.text = describe(s, cb) + (matrix ? " channels contiguous" : " pixels contiguous");
  QuantizeArgs& args = q.args;
  args = {.shape = s,
          .strides = matrix ? DenseStrides{ptrdiff_t{s.h} * s.w * s.c, 1, ptrdiff_t{s.w} * s.c, s.c}
                            : kernels::nchw(s.c, s.h, s.w)};
  args.y.cb = cb;
  args.scale = rng.chance(3) ? 0.25F : rng.uniform(0.001F, 2.0F);
  args.zero_point = rng.pick({0, 1, 8, 128, 255});
  args.lo = rng.chance(4) ? 2 : 0;
  args.hi = rng.pick({3, 15, 255});
  std::vector<float> values(size_t{s.n} * s.c * s.h * s.w);
  for (float& v : values) v = random_float(args.scale, rng);
  const size_t x = p.add("x", values, Role::kInput);
  const PlanesOperand y = random_output(&p, s, cb, rng);
  const auto bind = [=](Pointers at) {
    QuantizeArgs a = args;
    a.x = reinterpret_cast<const float*>(at[x]);
    a.y = y.at(at);
    return a;
  };
  const uint32_t units = codes_units(s, cb);
  p.reference = [=](Pointers at) { kernels::quantize_kernels().back().run(bind(at), {0, units}); };
  p.kernel = [=, &row](Pointers at, Rng* parts) {
    run_units(units, parts, [&](WorkRange range) { row.run(bind(at), range); });
  };
  return q;
}

TEST_CASE("quantize: every kernel equals the reference") {
  for_each_kernel(kernels::quantize_kernels(), [](const QuantizeKernel& row, Rng& rng) {
    const uint32_t wanted = test_cases(300);
    uint32_t run = 0;
    for (uint32_t tries = 0; run < wanted && tries < 20 * wanted; ++tries) {
      CodesShape s = random_shape(rng);
      const bool matrix = rng.chance(2);
      if (!matrix && rng.chance(2)) s.c = 1 + rng.below(9);
      const QuantizeProblem q = quantize_problem(row, s, matrix, random_block(s, rng), rng);
      if (!row.fits(q.args)) continue;
      require_ok(row.name, q.problem, check(q.problem, rng));
      ++run;
    }
    CHECK(run == wanted);
  });
}

TEST_CASE(
    "quantize: the reference divides, rounds ties to even, clamps, sends NaN to the lowest code") {
  const float inf = std::numeric_limits<float>::infinity();
  const float x[8] = {0.5F, 1.5F, -0.25F, 1e30F, -inf, std::nanf(""), 0.0F, 100.25F};
  // x / 0.5 = 1, 3, -0.5 -> 0, huge, -inf, NaN, 0, 200.5 -> 200; plus zero point 10, within [8,
  // 209]
  const int expected[8] = {11, 13, 10, 209, 8, 8, 10, 209};
  uint8_t y[8] = {};
  QuantizeArgs a = {.shape = {1, 1, 1, 8},
                    .x = x,
                    .strides = kernels::matrix_rows(1),
                    .scale = 0.5F,
                    .zero_point = 10,
                    .lo = 8,
                    .hi = 209};
  std::vector<uint8_t> codes(8 * 4);
  a.y = {.data = codes.data(), .row = 32, .cb = 4};
  kernels::quantize_kernels().back().run(a, {0, 1});
  for (size_t i = 0; i < 8; ++i) y[i] = codes[i * 4];
  for (size_t i = 0; i < 8; ++i) CHECK(int{y[i]} == expected[i]);
}

TEST_CASE("quantize: a kernel that multiplies by the reciprocal is caught") {
  Rng rng(test_seed());
  QuantizeKernel row = kernels::quantize_kernels().back();
  row.run = [](const QuantizeArgs& a, const WorkRange& range) {
    std::vector<float> scaled(size_t{a.shape.n} * a.shape.c * a.shape.h * a.shape.w);
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = a.x[i] * (1.0F / a.scale);
    QuantizeArgs divided = a;
    divided.x = scaled.data();
    divided.scale = 1.0F;
    kernels::quantize_kernels().back().run(divided, range);
  };
  int caught = 0;
  for (int i = 0; i < 50; ++i) {
    const QuantizeProblem q = quantize_problem(row, {1, 16, 4, 40}, true, 16, rng);
    caught += check(q.problem, rng).check == "bytes" ? 1 : 0;
  }
  CHECK(caught > 10);
}

TEST_CASE("image quantize: every kernel equals the reference") {
  for_each_kernel(kernels::image_quantize_kernels(), [](const ImageQuantizeKernel& row, Rng& rng) {
    for (uint32_t i = 0; i < test_cases(200); ++i) {
      CodesShape s = random_shape(rng);
      if (!rng.chance(3)) s.c = rng.pick({1U, 3U, 3U, 4U});
      ImageQuantizeArgs args = {.shape = s};
      args.y.cb = random_block(s, rng);
      if (!row.fits(args)) {
        s.c = 3;
        args = {.shape = s};
        args.y.cb = 4;
      }
      Problem p;
      p.text = describe(s, args.y.cb);
      std::vector<uint8_t> pixels(size_t{s.n} * s.h * s.w * s.c), table(size_t{s.c} * 256);
      for (uint8_t& v : pixels) v = static_cast<uint8_t>(rng.below(256));
      for (uint8_t& v : table) v = static_cast<uint8_t>(rng.below(256));
      const size_t pixels_at = p.add("pixels", pixels, Role::kInput);
      const size_t table_at = p.add("table", table, Role::kInput);
      const PlanesOperand y = random_output(&p, s, args.y.cb, rng);
      const auto bind = [=](Pointers at) {
        ImageQuantizeArgs a = args;
        a.pixels = at[pixels_at];
        a.table = at[table_at];
        a.y = y.at(at);
        return a;
      };
      const uint32_t units = codes_units(s, args.y.cb);
      p.reference = [=](Pointers at) {
        kernels::image_quantize_kernels().back().run(bind(at), {0, units});
      };
      p.kernel = [=, &row](Pointers at, Rng* parts) {
        run_units(units, parts, [&](WorkRange range) { row.run(bind(at), range); });
      };
      require_ok(row.name, p, check(p, rng));
    }
  });
}

TEST_CASE("image quantize: the reference looks each channel up in its own table") {
  uint8_t pixels[6] = {0, 1, 255, 7, 7, 7}, table[3 * 256], y[8] = {9, 9, 9, 9, 9, 9, 9, 9};
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < 256; ++i) table[c * 256 + i] = static_cast<uint8_t>(i / 2 + c);
  ImageQuantizeArgs a = {.shape = {1, 3, 1, 2}, .pixels = pixels, .table = table};
  a.y = {.data = y, .row = 8, .cb = 4};
  kernels::image_quantize_kernels().back().run(a, {0, 1});
  const int expected[8] = {0, 1, 129, 9, 3, 4, 5, 9};
  for (size_t i = 0; i < 8; ++i) CHECK(int{y[i]} == expected[i]);
}

// Any dense layout, as the strides of a permutation of the four axes.
DenseStrides random_strides(const CodesShape& s, Rng& rng) {
  DenseStrides d;
  std::vector<std::pair<ptrdiff_t*, uint32_t>> axes = {
      {&d.image, s.n}, {&d.channel, s.c}, {&d.row, s.h}, {&d.pixel, s.w}};
  shuffle(&axes, rng);
  ptrdiff_t stride = 1;
  for (const auto& [axis, size] : axes) {
    *axis = stride;
    stride *= size;
  }
  return d;
}

TEST_CASE("codes: pack and unpack put every code where the strides say") {
  Rng rng(test_seed());
  for (int i = 0; i < 100; ++i) {
    const CodesShape s = random_shape(rng);
    const uint32_t cb = random_block(s, rng), units = codes_units(s, cb);
    const DenseStrides strides = random_strides(s, rng);
    std::vector<uint8_t> dense(size_t{s.n} * s.c * s.h * s.w);
    for (uint8_t& code : dense) code = static_cast<uint8_t>(rng.below(256));
    const auto dense_code = [=](uint32_t n, uint32_t c, uint32_t y, uint32_t x) {
      return dense[static_cast<size_t>(n * strides.image + c * strides.channel + y * strides.row +
                                       x * strides.pixel)];
    };
    // The expected bytes are laid out by the operand itself: the packed side of one is the other's
    // input.
    for (const bool packing : {true, false}) {
      Problem p;
      p.text = describe(s, cb) + (packing ? " pack" : " unpack");
      PlanesSpec spec = with_random_gaps({s.n, s.c, s.h, s.w, cb}, rng);
      spec.halo = rng.below(2);
      const size_t dense_at = p.add("dense", dense, packing ? Role::kInput : Role::kOutput);
      const PlanesOperand planes =
          add_planes(&p, "planes", spec, packing ? Role::kOutput : Role::kInput, dense_code);
      Problem laid_out;
      add_planes(&laid_out, "expected", spec, Role::kInput, dense_code);
      p.reference = [&](Pointers at) {
        const Operand& expected = laid_out.operands[0];
        for (size_t b = 0; b < expected.bytes.size(); ++b)
          if (packing && expected.roles[b] == Role::kInput) at[planes.index][b] = expected.bytes[b];
        if (!packing) std::copy(dense.begin(), dense.end(), at[dense_at]);
      };
      p.kernel = [&](Pointers at, Rng* parts) {
        const kernels::PackArgs a = {s, at[dense_at], strides, planes.at(at)};
        run_units(units, parts, [&](WorkRange range) {
          packing ? kernels::pack_codes(a, range) : kernels::unpack_codes(a, range);
        });
      };
      require_ok(packing ? "pack_codes" : "unpack_codes", p, check(p, rng));
    }
  }
}

TEST_CASE("halo: every pixel around the image and no other gets the code") {
  Rng rng(test_seed());
  for (int i = 0; i < 100; ++i) {
    const CodesShape s = {1 + rng.below(2), 1 + rng.below(130), 1 + rng.below(4), 1 + rng.below(4)};
    const uint32_t cb = random_block(s, rng), halo = rng.below(4);
    kernels::HaloArgs args = {.shape = s,
                              .top = rng.below(halo + 1),
                              .left = rng.below(halo + 1),
                              .bottom = rng.below(halo + 1),
                              .right = rng.below(halo + 1),
                              .code = static_cast<uint8_t>(rng.below(256))};
    Problem p;
    p.text = describe(s, cb);
    PlanesSpec spec = with_random_gaps({s.n, s.c, s.h, s.w, cb}, rng);
    spec.halo = halo;
    const PlanesOperand y =
        add_planes(&p, "y", spec, Role::kInput, [&](auto...) { return rng.between(0, 255); });
    // Roles and expected bytes, pixel by pixel.
    Operand& o = p.operands[0];
    std::vector<uint8_t> expected = o.bytes;
    const auto rows = static_cast<int>(s.h + halo), columns = static_cast<int>(s.w + halo);
    const kernels::Planes& g = y.geometry;
    for (uint32_t n = 0; n < s.n; ++n)
      for (uint32_t block = 0; block < (s.c + cb - 1) / cb; ++block)
        for (int row = -static_cast<int>(halo); row < rows; ++row)
          for (int column = -static_cast<int>(halo); column < columns; ++column) {
            const int h = static_cast<int>(s.h), w = static_cast<int>(s.w);
            const bool inside = row >= 0 && row < h && column >= 0 && column < w;
            const bool filled = !inside && row >= -static_cast<int>(args.top) &&
                                row < h + static_cast<int>(args.bottom) &&
                                column >= -static_cast<int>(args.left) &&
                                column < w + static_cast<int>(args.right);
            if (!filled) continue;
            for (uint32_t c = 0; c < cb; ++c) {
              const auto at = static_cast<size_t>(y.origin + n * g.image + block * g.plane +
                                                  row * g.row + column * ptrdiff_t{cb} + c);
              o.roles[at] = Role::kOutput;
              expected[at] = args.code;
            }
          }
    p.reference = [&](Pointers at) {
      for (size_t b = 0; b < o.bytes.size(); ++b)
        if (o.roles[b] == Role::kOutput) at[0][b] = expected[b];
    };
    p.kernel = [&](Pointers at, Rng* parts) {
      args.y = y.at(at);
      run_units(kernels::halo_units(s, cb), parts,
                [&](WorkRange range) { fill_halo(args, range); });
    };
    require_ok("fill_halo", p, check(p, rng));
  }
}

}  // namespace
}  // namespace mpq::test
