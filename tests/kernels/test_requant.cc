// From exact sums to codes: the definition by hand, and every convolution kernel's epilogue against
// the definition over millions of sums. MPQ_TEST_LONG=1: over all 2^32.

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/requant/requant.h"
#include "tests/kernels/conv_problem.h"

namespace mpq::test {
namespace {

using kernels::conv_kernels;
using kernels::ConvKernel;
using kernels::ConvShape;
using kernels::Elem;

TEST_CASE("requant: rounds half to even and clamps, whatever the value") {
  using kernels::round_clamp;
  CHECK(round_clamp(0.5F, 0, 255) == 0);
  CHECK(round_clamp(1.5F, 0, 255) == 2);
  CHECK(round_clamp(2.5F, 0, 255) == 2);
  CHECK(round_clamp(-0.5F, -8, 7) == 0);
  CHECK(round_clamp(-1.5F, -8, 7) == -2);
  CHECK(round_clamp(254.5F, 0, 255) == 254);
  CHECK(round_clamp(255.5F, 0, 255) == 255);
  CHECK(round_clamp(0.49999997F, 0, 255) == 0);
  CHECK(round_clamp(INFINITY, 0, 15) == 15);
  CHECK(round_clamp(-INFINITY, 3, 15) == 3);
  CHECK(round_clamp(3e38F, 0, 255) == 255);
  CHECK(round_clamp(NAN, 2, 255) == 2);
}

TEST_CASE("requant: equals exact rational arithmetic where binary32 is exact") {
  // v = (acc * p + q) / 16 with small integers is exact; half to even in integers then.
  Rng rng(test_seed());
  for (int i = 0; i < 200000; ++i) {
    const int32_t acc = rng.between(-4096, 4096), p = rng.between(-40, 40),
                  q = rng.between(-4000, 4000);
    const int32_t lo = rng.between(0, 3), hi = rng.pick({3, 15, 255});
    const float m = static_cast<float>(p) / 16, b = static_cast<float>(q) / 16;
    kernels::Epilogue e;
    e.multiplier = &m;
    e.bias = &b;
    const int64_t sixteenths = int64_t{acc} * p + q;
    const int64_t floor = sixteenths >> 4, rest = sixteenths & 15;
    int64_t code = floor + (rest > 8 || (rest == 8 && floor % 2 != 0) ? 1 : 0);
    code = code < lo ? lo : code > hi ? hi : code;
    REQUIRE(kernels::round_clamp(kernels::requant_value(acc, e, 0, 0), lo, hi) == code);
  }
}

TEST_CASE("requant: a residual in the accumulator domain is rounded half away from zero") {
  using kernels::scaled_residual;
  CHECK(scaled_residual(3, 1, 1) == 2);    // 1.5
  CHECK(scaled_residual(-3, 1, 1) == -2);  // -1.5
  CHECK(scaled_residual(1, 1, 2) == 0);    // 0.25
  CHECK(scaled_residual(2, 1, 2) == 1);    // 0.5
  CHECK(scaled_residual(-2, 1, 2) == -1);
  CHECK(scaled_residual(7, -5, 0) == -35);
  CHECK(scaled_residual(255, 1 << 30, 31) == 128);  // 127.5
  CHECK(scaled_residual(-255, 1 << 30, 31) == -128);
}

struct Scale {
  float multiplier, bias;
  int32_t lo, hi;
};

// Input channels: 1 in a block of 4, or one or two blocks of 64 for rows that take no fewer.
uint32_t inputs_of(const ConvKernel& row) {
  const uint32_t side = kernel_side(row);
  if (row.fits({.c = 1, .o = 1, .r = side, .s = side}, 4)) return 1;
  return row.fits({.c = 64, .o = 1, .r = side, .s = side}, 64) ? 64 : 128;
}

// The definition, of a 64-bit sum.
int32_t defined_code(int64_t sum, float multiplier, float bias, const kernels::FixedCodes& c) {
  return kernels::round_clamp(std::fmaf(static_cast<float>(sum), multiplier, bias), c.lo, c.hi);
}

TEST_CASE("requant: a fixed-point form equals the definition for every sum, where it exists") {
  Rng rng(test_seed());
  int found = 0, moved = 0;
  for (int i = 0; i < 800; ++i) {
    const int32_t hi = rng.pick({1, 3, 15, 127, 255}), offset = rng.pick({0, 0, 128, 7, 255});
    const kernels::FixedCodes codes = {
        offset, rng.chance(2) ? 0 : static_cast<int32_t>(rng.below(3)) % hi, hi};
    const float m = rng.chance(2) ? static_cast<float>(rng.between(0, 40000)) / 65536.0F
                                  : rng.uniform(0.0F, 0.3F);
    const float b = static_cast<float>(offset) + rng.pick({0.0F, 0x1p-16F, 0.001F, -0.3F, 1.0F});
    const kernels::FixedPoint fixed = kernels::fixed_point(m, b, codes);
    if (fixed.rounding == 0) continue;
    ++found;
    moved += offset != 0 ? 1 : 0;
    for (int64_t sum = -70000; sum <= 70000; ++sum)
      REQUIRE_MESSAGE(kernels::fixed_code(sum, fixed, codes) == defined_code(sum, m, b, codes),
                      "m ", m, " b ", b, " codes ", codes.offset, " ", codes.lo, " ", hi, " sum ",
                      sum);
    for (const int64_t sum : {int64_t{INT32_MIN}, int64_t{INT32_MAX}})
      REQUIRE(kernels::fixed_code(sum, fixed, codes) == defined_code(sum, m, b, codes));
  }
  CHECK(found > 100);
  CHECK(moved > 50);
}

TEST_CASE(
    "requant: every multiplier of an integer rule has a fixed-point form if its codes fit 16 "
    "bits") {
  for (int factor = 1; factor <= 16383; ++factor) {
    const float m = static_cast<float>(factor) / 65536.0F;
    const bool fits = 14.5F / m <= 32767.0F;
    REQUIRE_MESSAGE((kernels::fixed_point(m, 0x1p-17F, {0, 0, 15}).rounding != 0) == fits,
                    "factor ", factor);
    // An odd number of halves would be rounded to even.
    const bool moved_fits =
        126.5F / m <= 32767.0F && factor >> std::countr_zero(static_cast<unsigned>(factor)) > 253;
    REQUIRE_MESSAGE((kernels::fixed_point(m, 128.0F, {128, 1, 255}).rounding != 0) == moved_fits,
                    "factor ", factor);
  }
}

TEST_CASE("requant: where no fixed-point form is equal, none is given") {
  const auto rounding = [](float m, float b, kernels::FixedCodes codes = {0, 0, 15}) {
    return kernels::fixed_point(m, b, codes).rounding;
  };
  CHECK(rounding(-0.1F, 0.0F) == 0);
  CHECK(rounding(NAN, 0.0F) == 0);
  CHECK(rounding(INFINITY, 0.0F) == 0);
  CHECK(rounding(0.1F, NAN) == 0);
  CHECK(rounding(0.1F, 3.0F) == 0);   // 3 at a sum of 0
  CHECK(rounding(0.4F, 0.0F) == 0);   // no 16-bit multiplier
  CHECK(rounding(1e-5F, 0.0F) == 0);  // 15 needs a sum above 16 bits
  CHECK(rounding(0.0F, 2.0F) == 0);
  CHECK(rounding(0.0F, 0.4F) == 1);
  CHECK(rounding(0.25F, 0.0F) == 0);  // 2.5 rounds to even, lanes up
  CHECK(rounding(0x3e9p-16F, 128.0F, {128, 0, 255}) != 0);
  CHECK(rounding(0x3e9p-16F, 127.0F, {128, 0, 255}) == 0);  // another offset
  CHECK(rounding(0.003F, 128.0F, {128, 0, 255}) == 0);      // 0 needs a sum below 16 bits
  CHECK(rounding(0.0F, 128.0F, {128, 0, 255}) == 1);
  CHECK(rounding(0.0F, 0.0F, {128, 0, 255}) == 0);
}

int32_t residual_lane(int32_t code, int32_t factor, const kernels::FixedResidual& r) {
  const int32_t bits = magnitude_bits(r);
  return ((code - r.zero) * (1 << (15 - bits)) * lane_factor(factor, r) + (1 << 14)) >> 15;
}

TEST_CASE("requant: a fixed residual is the definition's") {
  for (const int32_t bits : {2, 4, 8})
    for (const int32_t zero : {0, 1 << (bits - 1)})
      for (int32_t shift = 0; shift <= 9; ++shift)
        for (int32_t factor = -3; factor <= 70000; factor += factor < 600 ? 1 : 397) {
          const kernels::FixedResidual r = {shift, bits, zero};
          const int32_t b = magnitude_bits(r);
          const bool fits = shift <= b && factor >= 0 && factor << (b - shift) <= INT16_MAX &&
                            (zero == 0 || factor % (1 << shift) == 0);
          REQUIRE(is_fixed_residual(factor, r) == fits);
          if (!fits) continue;
          for (int32_t code = 0; code < 1 << bits; ++code)
            REQUIRE(residual_lane(code, factor, r) ==
                    kernels::scaled_residual(code - zero, factor, shift));
        }
  CHECK_FALSE(kernels::is_fixed_residual(1, {0, 8, 127}));
}

TEST_CASE("requant: a residual may be added to saturated sums where that is said") {
  const auto saturated = [](int64_t x) {
    return x < INT16_MIN ? int64_t{INT16_MIN} : x > INT16_MAX ? int64_t{INT16_MAX} : x;
  };
  const float m = 100.0F / 65536.0F;
  for (const int32_t zero : {0, 128})
    for (const kernels::FixedCodes codes :
         {kernels::FixedCodes{0, 0, 15}, {0, 1, 15}, {16, 0, 31}, {16, 16, 31}}) {
      const kernels::FixedResidual r = {0, 8, zero};
      const float b = static_cast<float>(codes.offset) + 0x1p-17F;
      const kernels::FixedPoint fixed = kernels::fixed_point(m, b, codes);
      REQUIRE(fixed.rounding != 0);
      const int32_t factor = zero == 0 ? 127 : 255;
      const auto all_equal = [&](int64_t max_sum) {
        for (int64_t sum = -max_sum; sum <= max_sum; sum += 7)
          for (const int32_t code : {0, 1, 127, 128, 200, 255}) {
            const int64_t lane = saturated(saturated(sum) + residual_lane(code, factor, r));
            const int64_t whole = sum + kernels::scaled_residual(code - zero, factor, 0);
            if (kernels::fixed_code(lane, fixed, codes) != defined_code(whole, m, b, codes))
              return false;
          }
        return true;
      };
      CHECK(may_add_residual(INT16_MAX, r, codes));
      CHECK(all_equal(INT16_MAX));
      CHECK(may_add_residual(70000, r, codes) == all_equal(70000));
    }
}

TEST_CASE("requant: constants lie as vectors pack their lanes") {
  kernels::FixedPoint points[64];
  int32_t factors[64];
  for (int16_t i = 0; i < 64; ++i) {
    points[i] = {static_cast<int16_t>(100 + i), static_cast<int16_t>(1 + i)};
    factors[i] = 1000 + i;
  }
  points[37].rounding = 0;
  kernels::FixedPanel panel;
  kernels::fill_fixed_panel(points, factors, &panel);
  CHECK(panel.others == 4);  // 32..47
  for (int at = 0; at < 64; ++at) {
    // 8 lanes are 4 of one vector and 4 of the next, from the same 4 of their 16.
    const int channel = at / 32 * 32 + at % 8 / 4 * 16 + at % 32 / 8 * 4 + at % 4;
    const bool other = channel / 16 == 2;
    CHECK(panel.multiplier[at] == (other ? 4096 : 100 + channel));
    CHECK(panel.rounding[at] == (other ? 8192 : 1 + channel));
    CHECK(panel.factor[at] == (other ? 0 : 1000 + channel));
  }
}

TEST_CASE("requant: every row whose epilogue has 16-bit lanes takes them") {
  // A wrong form shows in the codes; rows without such lanes never look at it.
  for_each_kernel(conv_kernels(), [&](const ConvKernel& row, Rng& rng) {
    ConvCase c = {.shape = {.c = 256, .oh = 6, .ow = 14, .o = 64}, .hi = 3, .fixed = true};
    const uint32_t side = c.shape.r = c.shape.s = kernel_side(row);
    if ((row.isa & kernels::kIsaAvx512Vnni) == 0 || !row.fits(c.shape, c.x_cb)) return;
    // Sums of a few hundreds for every row.
    c.codes.resize(size_t{256} * (5 + side) * (13 + side));
    for (int32_t& code : c.codes) code = rng.between(0, 3);
    c.weights.resize(size_t{64} * 256 * side * side);
    for (int8_t& weight : c.weights) weight = static_cast<int8_t>(rng.between(-1, 1));
    CHECK(check_conv(row, c, rng).ok());
    c.spoil_fixed = true;
    CHECK_FALSE(check_conv(row, c, rng).ok());
  });
}

// The epilogue of a row over many (sum, scale) pairs, through the real kernel: a convolution of one
// input channel with weight 1 in the middle, and zeros around, makes acc = acc_bias[o] + x exactly,
// so channel o and pixel x are one sum.
class Sweep {
 public:
  Sweep(const ConvKernel& row, uint32_t channels, uint32_t pixels)
      : row_(&row),
        channels_(channels),
        pixels_(pixels),
        side_(kernel_side(row)),
        inputs_(inputs_of(row)),
        cb_(inputs_ == 1 ? 4 : 64),
        multiplier_(padded()),
        bias_(padded()),
        acc_bias_(padded()),
        x_(plane() * ((inputs_ + cb_ - 1) / cb_)),
        y_(padded() * pixels),
        packed_(row.packed_bytes(shape(), cb_) + 64),
        scratch_(row.scratch_bytes(shape(), cb_) + 64) {
    for (uint32_t i = 0; i < pixels; ++i)
      x_[(size_t{side_ / 2} * columns() + side_ / 2 + i) * cb_] = static_cast<uint8_t>(i);
    std::vector<int8_t> weights(size_t{channels} * inputs_ * side_ * side_);
    for (uint32_t o = 0; o < channels; ++o)
      weights[(size_t{o} * inputs_ * side_ + side_ / 2) * side_ + side_ / 2] = 1;
    row.pack(shape(), cb_, weights.data(), aligned(&packed_));
  }
  void set(uint32_t channel, int32_t acc, const Scale& s) {
    acc_bias_[channel] = acc;
    multiplier_[channel] = s.multiplier;
    bias_[channel] = s.bias;
  }
  void run(int32_t lo, int32_t hi) {
    kernels::ConvArgs a = {.shape = shape()};
    a.x = {.data = x_.data(),
           .image = 0,
           .plane = static_cast<ptrdiff_t>(plane()),
           .row = ptrdiff_t{columns()} * cb_,
           .cb = cb_};
    a.y = {.data = y_.data(), .image = 0, .plane = ptrdiff_t{pixels_} * 64, .row = 0, .cb = 64};
    a.weights = aligned(&packed_);
    a.epilogue.acc_bias = acc_bias_.data();
    a.epilogue.multiplier = multiplier_.data();
    a.epilogue.bias = bias_.data();
    a.epilogue.lo = lo;
    a.epilogue.hi = hi;
    uint32_t units = 0, panels = 0;
    row_->units(shape(), &units, &panels);
    row_->run(a, {0, units, 0, panels}, {aligned(&scratch_), scratch_.size() - 64});
  }
  int32_t code(uint32_t channel, uint32_t pixel) const {
    return y_[(size_t{channel / 64} * pixels_ + pixel) * 64 + channel % 64];
  }

 private:
  size_t padded() const { return (size_t{channels_} + 63) / 64 * 64; }
  static uint8_t* aligned(std::vector<uint8_t>* bytes) {
    return bytes->data() + (64 - reinterpret_cast<uintptr_t>(bytes->data()) % 64) % 64;
  }
  ConvShape shape() const {
    return {.c = inputs_, .ow = pixels_, .o = channels_, .r = side_, .s = side_};
  }
  uint32_t columns() const { return pixels_ + side_ - 1; }
  size_t plane() const { return size_t{side_} * columns() * cb_; }

  const ConvKernel* row_;
  uint32_t channels_, pixels_, side_, inputs_, cb_;
  std::vector<float> multiplier_, bias_;
  std::vector<int32_t> acc_bias_;
  std::vector<uint8_t> x_, y_, packed_, scratch_;
};

int32_t definition(int64_t acc, const Scale& s) {
  const float v = std::fmaf(static_cast<float>(acc), s.multiplier, s.bias);
  return kernels::round_clamp(v, s.lo, s.hi);
}

// A scale whose steps lie somewhere in int32, and the sum in the middle of them.
Scale random_scale(Rng& rng, int64_t* middle) {
  const int32_t hi = rng.pick({3, 15, 255});
  const float m = std::exp2(rng.uniform(-20.0F, 1.0F)) * (rng.chance(4) ? -1.0F : 1.0F);
  *middle = rng.between(-1 << 30, 1 << 30) >> rng.below(24);
  return {m, static_cast<float>(hi) / 2 - static_cast<float>(*middle) * m, rng.chance(3) ? 1 : 0,
          hi};
}

constexpr uint32_t kSums = 1U << 22;

struct SweepOf {
  const ConvKernel* row;
  uint32_t pixels;
  Sweep sweep;
};

// Sweeps for the rows that run here; rows of few activation codes get fewer pixels, more channels.
std::vector<SweepOf> sweeps() {
  std::vector<SweepOf> all;
  for (const ConvKernel& row : conv_kernels()) {
    const uint32_t pixels = std::bit_floor(static_cast<uint32_t>(row.max_activation) + 1);
    if (can_run(row.name, row.isa))
      all.push_back({&row, pixels, Sweep(row, kSums / pixels, pixels)});
  }
  return all;
}

// kSums sums from `first` on.
void require_equal(SweepOf* s, int64_t first, const Scale& scale,
                   const std::vector<uint8_t>& expected) {
  const uint32_t channels = kSums / s->pixels;
  for (uint32_t o = 0; o < channels; ++o)
    s->sweep.set(o, static_cast<int32_t>(first + int64_t{o} * s->pixels), scale);
  s->sweep.run(scale.lo, scale.hi);
  for (uint32_t o = 0; o < channels; ++o)
    for (uint32_t i = 0; i < s->pixels; ++i) {
      const size_t at = size_t{o} * s->pixels + i;
      if (s->sweep.code(o, i) != expected[at])
        FAIL(s->row->name << ": acc " << first + static_cast<int64_t>(at) << " multiplier "
                          << scale.multiplier << " bias " << scale.bias << ": code "
                          << s->sweep.code(o, i) << ", expected " << int{expected[at]});
    }
}

void sweep_scale(std::vector<SweepOf>* rows, int64_t first, const Scale& scale) {
  std::vector<uint8_t> expected(kSums);
  for (uint32_t i = 0; i < kSums; ++i)
    expected[i] = static_cast<uint8_t>(definition(first + i, scale));
  for (SweepOf& s : *rows) require_equal(&s, first, scale, expected);
}

TEST_CASE("requant: every kernel's epilogue equals the definition on 2^22 sums of many scales") {
  Rng rng(test_seed());
  std::vector<SweepOf> rows = sweeps();
  for (uint32_t i = 0; i < test_cases(64); ++i) {
    int64_t middle = 0;
    const Scale scale = random_scale(rng, &middle);
    sweep_scale(&rows, middle - kSums / 2, scale);
  }
}

TEST_CASE("requant: every kernel's epilogue equals the definition on all 2^32 sums of one scale" *
          doctest::skip(!long_tests())) {
  std::vector<SweepOf> rows = sweeps();
  for (int64_t first = INT32_MIN; first <= INT32_MAX; first += kSums)
    sweep_scale(&rows, first, {0x1.23456p-24F, 127.25F, 0, 255});
}

// The least sum whose code is at least `code`, by bisection of the definition; the multiplier is
// positive.
int64_t threshold(const Scale& s, int32_t code) {
  int64_t below = INT32_MIN, above = INT32_MAX;
  while (above - below > 1) {
    const int64_t middle = below + (above - below) / 2;
    (definition(middle, s) >= code ? above : below) = middle;
  }
  return above;
}

TEST_CASE("requant: every kernel steps where the definition steps") {
  // Each channel is one threshold's neighbour: 400 scales x 15 steps of a 4-bit code x 3 sums.
  constexpr uint32_t kStaircases = 400;
  for_each_kernel(conv_kernels(), [](const ConvKernel& row, Rng& rng) {
    std::vector<std::pair<int64_t, Scale>> cases;
    for (uint32_t i = 0; i < kStaircases; ++i) {
      int64_t middle = 0;
      Scale s = random_scale(rng, &middle);
      s.multiplier = std::fabs(s.multiplier);
      s.bias = 7.5F - static_cast<float>(middle) * s.multiplier;
      s.lo = 0;
      s.hi = 15;
      for (int32_t code = 1; code <= 15; ++code)
        for (const int64_t neighbour : {-1, 0, 1})
          cases.emplace_back(threshold(s, code) + neighbour, s);
    }
    Sweep sweep(row, static_cast<uint32_t>(cases.size()), 1);
    for (uint32_t o = 0; o < cases.size(); ++o)
      sweep.set(o, static_cast<int32_t>(cases[o].first), cases[o].second);
    sweep.run(0, 15);
    for (uint32_t o = 0; o < cases.size(); ++o)
      REQUIRE(sweep.code(o, 0) == definition(cases[o].first, cases[o].second));
  });
}

}  // namespace
}  // namespace mpq::test
