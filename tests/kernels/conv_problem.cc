#include "tests/kernels/conv_problem.h"

#include <algorithm>
#include <cmath>

#include "tests/kernels/planes_operand.h"

namespace mpq::test {

using kernels::ConvArgs;
using kernels::ConvKernel;
using kernels::ConvPart;
using kernels::ConvShape;
using kernels::Elem;

int32_t lowest(Elem weights) { return weights == Elem::s2 ? -2 : weights == Elem::s4 ? -8 : -128; }
int32_t highest(Elem weights) { return -1 - lowest(weights); }

DenseCodes plain_convolution(const ConvShape& s, const DenseCodes& x,
                             const std::vector<int8_t>& weights) {
  DenseCodes sums = {s.n, s.o, s.oh, s.ow, std::vector<int32_t>(size_t{s.n} * s.o * s.oh * s.ow)};
  const uint32_t group_c = s.c / s.groups, group_o = s.o / s.groups;
  size_t i = 0;
  for (uint32_t n = 0; n < s.n; ++n)
    for (uint32_t o = 0; o < s.o; ++o)
      for (uint32_t y = 0; y < s.oh; ++y)
        for (uint32_t z = 0; z < s.ow; ++z, ++i)
          for (uint32_t r = 0; r < s.r; ++r)
            for (uint32_t q = 0; q < s.s; ++q)
              for (uint32_t c = 0; c < group_c; ++c)
                sums.values[i] +=
                    weights[((size_t{o} * group_c + c) * s.r + r) * s.s + q] *
                    x.at(n, o / group_o * group_c + c, y * s.stride_h + r * s.dilation_h,
                         z * s.stride_w + q * s.dilation_w);
  return sums;
}

namespace {

// Per-channel arrays of the epilogue, padded to a multiple of 64 entries with 0.
struct EpilogueArrays {
  std::vector<float> multiplier, bias;
  std::vector<int32_t> acc_bias, residual_factor;
};

void fill_data(const ConvKernel& row, const ConvCase& c, Rng& rng, ConvProblem* p) {
  const ConvShape& s = c.shape;
  p->x = {s.n,
          s.c,
          (s.oh - 1) * s.stride_h + (s.r - 1) * s.dilation_h + 1,
          (s.ow - 1) * s.stride_w + (s.s - 1) * s.dilation_w + 1,
          {}};
  p->x.values.resize(size_t{p->x.n} * p->x.c * p->x.h * p->x.w);
  p->weights.resize(size_t{s.o} * (s.c / s.groups) * s.r * s.s);
  const int32_t lo = lowest(row.weights), hi = highest(row.weights), max = row.max_activation;
  if (c.data == ConvData::kCorners) {
    const int32_t x = rng.chance(4) ? 0 : max;
    const auto w = static_cast<int8_t>(rng.chance(2) ? lo : hi);
    std::fill(p->x.values.begin(), p->x.values.end(), x);
    std::fill(p->weights.begin(), p->weights.end(), w);
  } else if (c.data == ConvData::kRamps) {
    for (size_t i = 0; i < p->x.values.size(); ++i)
      p->x.values[i] = static_cast<int32_t>(i % (static_cast<size_t>(max) + 1));
    for (size_t i = 0; i < p->weights.size(); ++i)
      p->weights[i] =
          static_cast<int8_t>(lo + static_cast<int32_t>(i % static_cast<size_t>(hi - lo + 1)));
  } else if (c.data == ConvData::kExtremes) {
    for (int32_t& x : p->x.values) x = rng.chance(2) ? 0 : max;
    for (int8_t& w : p->weights) w = static_cast<int8_t>(rng.chance(2) ? lo : hi);
  } else {
    for (int32_t& x : p->x.values) x = rng.between(0, max);
    for (int8_t& w : p->weights) w = static_cast<int8_t>(rng.between(lo, hi));
  }
  if (!c.codes.empty()) p->x.values = c.codes;
  if (!c.weights.empty()) p->weights = c.weights;
}

// Scales that spread each channel's sums over the codes, or the special values that `data` asks
// for.
EpilogueArrays fill_epilogue(const ConvCase& c, const DenseCodes& sums, Rng& rng) {
  const size_t padded = (c.shape.o + 63) / 64 * 64;
  EpilogueArrays e = {std::vector<float>(padded), std::vector<float>(padded),
                      std::vector<int32_t>(padded), std::vector<int32_t>(padded)};
  const size_t pixels = size_t{sums.h} * sums.w;
  for (uint32_t o = 0; o < c.shape.o; ++o) {
    int64_t lowest_sum = INT32_MAX, highest_sum = INT32_MIN, some_sum = 0;
    for (uint32_t n = 0; n < sums.n; ++n)
      for (size_t i = 0; i < pixels; ++i) {
        const int64_t sum = sums.values[(size_t{n} * sums.c + o) * pixels + i];
        lowest_sum = std::min(lowest_sum, sum);
        highest_sum = std::max(highest_sum, sum);
        if (rng.chance(static_cast<uint32_t>(i) + 1)) some_sum = sum;
      }
    if (c.acc_bias) {
      e.acc_bias[o] = rng.between(-100000, 100000);
      if (rng.chance(8))  // where sums leave what binary32 adds exactly to a magic number
        e.acc_bias[o] += rng.pick({-(1 << 24), -(1 << 23), 1 << 23, 1 << 24});
    }
    const auto acc = static_cast<float>(some_sum + e.acc_bias[o]);
    const auto codes = static_cast<float>(c.hi - c.lo);
    const auto spread = static_cast<float>(highest_sum - lowest_sum + 1);
    const auto middle = static_cast<float>((c.lo + c.hi) / 2);
    float m = codes / spread * rng.uniform(0.5F, 2.0F), b = middle - acc * m;
    if (c.data == ConvData::kTies) {
      m = 0.5F;
      b = middle - std::floor(acc * 0.5F);
    } else if (c.data == ConvData::kFma && acc != 0) {
      // b is exact, so a product rounded before the addition lands on code + 1/2.
      m = rng.uniform(1000.0F, 4000.0F) / acc;
      b = static_cast<float>(rng.between(c.lo, c.hi)) + 0.5F - acc * m;
    } else if (c.fixed) {  // as an importer of integer rules has them
      const auto quarter = static_cast<int32_t>((highest_sum - lowest_sum) / 4);
      const auto zero =  // of the offset's code: below all sums, or in their middle
          static_cast<int32_t>(c.fixed_offset == 0 ? lowest_sum : (lowest_sum + highest_sum) / 2);
      if (c.acc_bias) e.acc_bias[o] = rng.between(-quarter, quarter) - zero;
      m = std::clamp(std::nearbyint(m * 65536.0F), 1.0F, 65535.0F) / 65536.0F;
      b = c.fixed_offset == 0 ? 0x1p-17F : static_cast<float>(c.fixed_offset);
    } else if (c.data == ConvData::kHuge) {
      const float past_integers = 0x1.4p31F / std::max(1.0F, std::abs(acc));
      m = rng.pick({1e38F, -1e38F, 3e38F, 1e30F, past_integers, -past_integers});
      b = rng.pick({0.0F, 1e38F, -3e38F});
    }
    e.multiplier[o] = m;
    e.bias[o] = b;
  }
  return e;
}

// What is proved of each channel, but for some that shall take the definition.
std::vector<kernels::FixedPanel> fixed_panels(const ConvCase& c, const kernels::Epilogue& e,
                                              const EpilogueArrays& a, const DenseCodes& sums,
                                              Rng& rng) {
  std::vector<kernels::FixedPanel> panels(a.multiplier.size() / 64);
  const kernels::FixedResidual residual = kernels::fixed_residual(e);
  const bool has_residual = c.residual != ConvResidual::kNone;
  const auto find = [&](uint32_t o) -> kernels::FixedPoint {
    int64_t max_sum = 0;
    for (uint32_t n = 0; n < sums.n; ++n)
      for (uint32_t y = 0; y < sums.h; ++y)
        for (uint32_t x = 0; x < sums.w; ++x)
          max_sum = std::max(
              max_sum, std::abs(int64_t{sums.at(n, o, y, x)} + (c.acc_bias ? a.acc_bias[o] : 0)));
    if ((!c.spoil_fixed && rng.chance(100)) ||
        (has_residual && !(is_fixed_residual(a.residual_factor[o], residual) &&
                           may_add_residual(max_sum, residual, kernels::fixed_codes(e)))))
      return {};
    kernels::FixedPoint point =
        kernels::fixed_point(a.multiplier[o], a.bias[o], kernels::fixed_codes(e));
    if (c.spoil_fixed) point.multiplier /= 2;
    return point;
  };
  for (uint32_t begin = 0; begin < a.multiplier.size(); begin += 64) {
    kernels::FixedPoint points[64];
    int32_t factors[64] = {};
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t o = begin + i;
      points[i] = o < c.shape.o ? find(o) : kernels::FixedPoint{0, 1};
      if (has_residual && points[i].rounding != 0 && o < c.shape.o)
        factors[i] = kernels::lane_factor(a.residual_factor[o], residual);
    }
    kernels::fill_fixed_panel(points, factors, &panels[begin / 64]);
  }
  return panels;
}

// Rectangles that cover all the work.
std::vector<ConvPart> random_parts(uint32_t units, uint32_t panels, Rng& rng) {
  std::vector<ConvPart> parts;
  for (const auto& [u0, u1] : random_cuts(units, rng))
    for (const auto& [p0, p1] : random_cuts(panels, rng)) parts.push_back({u0, u1, p0, p1});
  shuffle(&parts, rng);
  return parts;
}

std::string describe(const ConvCase& c) {
  const ConvShape& s = c.shape;
  const char* const kData[] = {"random", "corners", "ramps", "ties", "fma", "huge", "extremes"};
  const char* const kResidual[] = {"none", "float", "integer"};
  const auto number = [](auto value) { return std::to_string(value) + " "; };
  return "n " + number(s.n) + "c " + number(s.c) + "o " + number(s.o) + "oh " + number(s.oh) +
         "ow " + number(s.ow) + "r " + number(s.r) + "s " + number(s.s) + "stride " +
         number(s.stride_h) + number(s.stride_w) + "dilation " + number(s.dilation_h) +
         number(s.dilation_w) + "groups " + number(s.groups) + "x_cb " + number(c.x_cb) + "y_cb " +
         number(c.y_cb) + "out " +
         (c.out == Elem::u8    ? "u8"
          : c.out == Elem::f32 ? "f32"
                               : "s32") +
         " codes " + number(c.lo) + number(c.hi) + "second " + number(c.second) + "residual " +
         kResidual[static_cast<int>(c.residual)] + (c.in_place ? " in place" : "") + " data " +
         kData[static_cast<int>(c.data)] + " activation " + number(static_cast<int>(c.activation));
}

}  // namespace

ConvProblem conv_problem(const ConvKernel& row, const ConvCase& c, Rng& rng) {
  const ConvShape& s = c.shape;
  ConvProblem result;
  fill_data(row, c, rng, &result);
  result.sums = plain_convolution(s, result.x, result.weights);
  EpilogueArrays arrays = fill_epilogue(c, result.sums, rng);
  if (c.acc_bias) result.acc_bias = arrays.acc_bias;
  if (c.activation != kernels::Activation::kNone)
    for (auto* values : {&arrays.multiplier, &arrays.bias})
      for (float& v : *values) v *= 5.0F / static_cast<float>(c.hi - c.lo);

  Problem& p = result.problem;
  p.text = describe(c);
  const DenseCodes& x = result.x;
  const PlanesOperand x_planes = add_planes(
      &p, "x", with_random_gaps({x.n, x.c, x.h, x.w, c.x_cb}, rng), Role::kInput,
      [&](uint32_t n, uint32_t channel, uint32_t i, uint32_t j) { return x.at(n, channel, i, j); });

  const ConvKernel& reference = kernels::conv_kernels().back();
  std::vector<uint8_t> packed(row.packed_bytes(s, c.x_cb)),
      plain(reference.packed_bytes(s, c.x_cb));
  row.pack(s, c.x_cb, result.weights.data(), packed.data());
  reference.pack(s, c.x_cb, result.weights.data(), plain.data());
  const size_t packed_at = p.add("packed weights", packed, Role::kInput);
  const size_t plain_at = p.add("plain weights", plain, Role::kInput);
  const size_t multiplier_at = p.add("multiplier", arrays.multiplier, Role::kInput);
  const size_t bias_at = p.add("bias", arrays.bias, Role::kInput);
  const size_t acc_bias_at = c.acc_bias ? p.add("acc_bias", arrays.acc_bias, Role::kInput) : 0;

  kernels::Epilogue e;
  e.out = c.out;
  e.lo = c.lo;
  e.hi = c.hi;
  const PlanesSpec y_spec = {s.n, s.o, s.oh, s.ow, c.y_cb};
  PlanesOperand y, second, residual;
  const bool in_place = c.in_place && c.out == Elem::u8 && c.residual != ConvResidual::kNone;
  if (c.fixed) e.residual_bits = rng.pick({2, 4, 8});
  e.fixed_offset = c.fixed_offset;
  const int32_t max_residual = (1 << e.residual_bits) - 1;
  const auto any_code = [&](uint32_t, uint32_t, uint32_t, uint32_t) {
    return rng.between(0, max_residual);
  };
  if (in_place) {
    PlanesSpec spec = with_random_gaps(y_spec, rng);
    spec.halo = rng.below(3);
    y = residual = add_planes(&p, "y over residual", spec, Role::kUpdated, any_code);
    result.y = y.index;
  } else if (c.out == Elem::u8) {
    PlanesSpec spec = with_random_gaps(y_spec, rng);
    spec.halo = rng.below(3);
    y = add_output_planes(&p, "y", spec);
    result.y = y.index;
  } else {
    result.dense =
        p.add("dense y", std::vector<float>(size_t{s.n} * s.oh * s.ow * s.o), Role::kOutput);
  }
  size_t factor_at = 0;
  if (c.residual != ConvResidual::kNone) {
    if (!in_place) {
      PlanesSpec spec = with_random_gaps(y_spec, rng);
      spec.halo = rng.below(2);
      residual = add_planes(&p, "residual", spec, Role::kInput, any_code);
    }
    e.residual_zero_point = rng.pick({0, 1, 8, 128, 255});
    if (c.fixed) e.residual_zero_point = rng.chance(2) ? 0 : 1 << (e.residual_bits - 1);
    if (c.residual == ConvResidual::kFloat) {
      e.residual_scale = c.data == ConvData::kTies ? 0.5F : rng.uniform(-1.0F, 2.0F);
    } else {
      e.residual_shift = rng.pick({0, 1, 2, 7, 15, 16, 24, 31});
      const int32_t bound = 1 << std::min(e.residual_shift + 3, 30);
      for (uint32_t o = 0; o < s.o; ++o) arrays.residual_factor[o] = rng.between(-bound, bound);
      if (c.fixed) {
        const int32_t bits = magnitude_bits(kernels::fixed_residual(e));
        e.residual_shift = rng.chance(2) ? 0 : rng.between(0, bits);
        const int32_t room = INT16_MAX >> (bits - e.residual_shift);
        for (uint32_t o = 0; o < s.o; ++o)
          arrays.residual_factor[o] = rng.chance(100) ? 65535 : rng.between(0, room);
      } else if (rng.chance(2)) {  // products that binary32 adds on a magic number
        e.residual_shift = rng.between(0, 1);
        e.residual_zero_point = rng.pick({0, 128, 255});
        const int32_t most = rng.pick({16448, 32767});
        for (uint32_t o = 0; o < s.o; ++o)
          arrays.residual_factor[o] = rng.chance(8) ? most : rng.between(0, most);
      }
      factor_at = p.add("residual_factor", arrays.residual_factor, Role::kInput);
    }
  }
  size_t fixed_at = 0;
  if (c.fixed)
    fixed_at =
        p.add("fixed panels", fixed_panels(c, e, arrays, result.sums, rng), Role::kInput, 64);
  if (c.second) {
    PlanesSpec spec = with_random_gaps(y_spec, rng);
    spec.halo = rng.below(2);
    second = add_output_planes(&p, "second y", spec);
    e.second_scale = rng.uniform(0.02F, 1.5F);
    e.second_bias = rng.chance(2) ? 0.0F : rng.uniform(-4.0F, 4.0F);
    e.second_lo = rng.chance(2) ? 0 : 2;
    e.second_hi = rng.pick({3, 15, 255});
  }
  if (c.activation != kernels::Activation::kNone) {
    // Sums come as real numbers of a few units, and leave as codes.
    e.activation = c.activation;
    e.activation_scale = static_cast<float>(c.hi - c.lo) / 3.0F;
    e.activation_bias = static_cast<float>(c.lo) + rng.uniform(0.0F, 4.0F);
  }
  const size_t scratch_bytes = row.scratch_bytes(s, c.x_cb);
  const size_t scratch_at =
      p.add("scratch", std::vector<uint8_t>(scratch_bytes), Role::kScratch, 64);

  const auto bind = [=](Pointers at, bool is_reference) {
    ConvArgs a = {.shape = s,
                  .x = x_planes.at(at),
                  .weights = at[is_reference ? plain_at : packed_at],
                  .epilogue = e};
    if (a.epilogue.out == Elem::u8)
      a.y = y.at(at);
    else
      a.dense = at[result.dense];
    a.epilogue.multiplier = reinterpret_cast<const float*>(at[multiplier_at]);
    a.epilogue.bias = reinterpret_cast<const float*>(at[bias_at]);
    if (c.acc_bias) a.epilogue.acc_bias = reinterpret_cast<const int32_t*>(at[acc_bias_at]);
    if (c.residual != ConvResidual::kNone) a.epilogue.residual = residual.at(at);
    if (c.residual == ConvResidual::kInteger)
      a.epilogue.residual_factor = reinterpret_cast<const int32_t*>(at[factor_at]);
    if (c.fixed) a.epilogue.fixed = reinterpret_cast<const kernels::FixedPanel*>(at[fixed_at]);
    if (c.second) a.epilogue.second = second.at(at);
    return a;
  };
  const auto run = [bind, s, scratch_at, scratch_bytes](const ConvKernel& kernel, Pointers at,
                                                        bool is_reference, Rng* parts_rng) {
    const ConvArgs a = bind(at, is_reference);
    uint32_t units = 0, panels = 0;
    kernel.units(s, &units, &panels);
    if (parts_rng == nullptr)
      return kernel.run(a, {0, units, 0, panels}, {at[scratch_at], scratch_bytes});
    for (const ConvPart& part : random_parts(units, panels, *parts_rng))
      kernel.run(a, part, {at[scratch_at], scratch_bytes});
  };
  p.reference = [run, &reference](Pointers at) { run(reference, at, true, nullptr); };
  p.kernel = [run, row](Pointers at, Rng* parts_rng) { run(row, at, false, parts_rng); };
  return result;
}

namespace {

// Before anything else: conv_problem() trusts pack() with unguarded memory.
Verdict check_pack(const ConvKernel& row, const ConvCase& c, Rng& rng) {
  const ConvShape& s = c.shape;
  std::vector<int8_t> weights(size_t{s.o} * (s.c / s.groups) * s.r * s.s);
  for (int8_t& w : weights)
    w = static_cast<int8_t>(rng.between(lowest(row.weights), highest(row.weights)));
  Problem p;
  p.text = "pack " + describe(c);
  p.add("canonical weights", weights, Role::kInput);
  p.add("packed weights", std::vector<uint8_t>(row.packed_bytes(s, c.x_cb)), Role::kOutput);
  const auto pack = [&](const uint8_t* from, uint8_t* to) {
    row.pack(s, c.x_cb, reinterpret_cast<const int8_t*>(from), to);
  };
  const size_t bytes = row.packed_bytes(s, c.x_cb);
  p.reference = [&](Pointers at) {
    std::vector<uint8_t> roomy(bytes + 4096);
    pack(at[0], roomy.data());
    std::copy_n(roomy.begin(), bytes, at[1]);
  };
  p.kernel = [&](Pointers at, Rng*) { pack(at[0], at[1]); };
  return check(p, rng);  // 'bytes' here: pack() left some unwritten
}

}  // namespace

Verdict check_conv(const ConvKernel& row, const ConvCase& c, Rng& rng) {
  if (Verdict packing = check_pack(row, c, rng); !packing.ok()) return packing;
  return check(conv_problem(row, c, rng).problem, rng);
}

void require_conv(const ConvKernel& row, const ConvCase& c, Rng& rng) {
  Problem named;
  named.text = describe(c);
  require_ok(row.name, named, check_conv(row, c, rng));
}

uint32_t kernel_side(const ConvKernel& row) { return row.fits({.c = 128, .o = 1}, 64) ? 1 : 3; }

ConvCase random_conv_case(const ConvShape& shape, Rng& rng) {
  ConvCase c = {.shape = shape};
  c.x_cb = rng.chance(3) ? rng.pick({4U, 16U, 32U, 64U}) : kernels::channel_block(shape.c);
  c.y_cb = rng.chance(3) ? rng.pick({4U, 16U, 32U, 64U}) : kernels::channel_block(shape.o);
  c.out = rng.pick({Elem::u8, Elem::u8, Elem::u8, Elem::u8, Elem::f32, Elem::s32});
  c.hi = rng.pick({3, 15, 255, 127, 11});
  c.lo = rng.chance(3) ? rng.pick({1, 2, 3}) : 0;
  c.acc_bias = !rng.chance(4);
  c.data = rng.pick({ConvData::kRandom, ConvData::kRandom, ConvData::kCorners, ConvData::kRamps,
                     ConvData::kTies, ConvData::kFma, ConvData::kHuge, ConvData::kExtremes});
  if (c.out != Elem::s32) {
    c.residual = rng.pick({ConvResidual::kNone, ConvResidual::kFloat, ConvResidual::kInteger});
    c.in_place = rng.chance(2);
    c.second = rng.chance(3);
    if (c.data != ConvData::kHuge && rng.chance(3))
      c.activation = rng.pick(
          {kernels::Activation::kGelu, kernels::Activation::kGeluTanh, kernels::Activation::kTanh});
  }
  c.fixed = c.out == Elem::u8 && !c.second && c.residual != ConvResidual::kFloat &&
            c.activation == kernels::Activation::kNone && c.data != ConvData::kHuge &&
            rng.chance(2);
  if (c.fixed && c.hi > 64) c.fixed_offset = rng.pick({0, 0, 64, (c.hi + 1) / 2});
  return c;
}

}  // namespace mpq::test
