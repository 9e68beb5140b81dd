// PTX ISA, "Floating Point Instructions", for binary32. Only what the ISA defines to the last bit:
// an explicit rounding mode (without one, ptxas may fuse a product with a sum), no .approx, no
// .ftz.
#include <bit>
#include <cfenv>
#include <cmath>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

float from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
// NaN results are canonical; .sat clamps to [0, 1] and makes NaN 0.
template <bool kSat>
float finish(float v) {
  if (kSat) return v > 0.0F ? (v < 1.0F ? v : 1.0F) : 0.0F;
  return v == v ? v : from_bits(0x7fffffff);
}

// Results are stored before the mode is restored: fesetround is a call that may read memory.
struct Rounding {
  explicit Rounding(int mode) : mode_(mode) {
    if (mode_ != FE_TONEAREST) std::fesetround(mode_);
  }
  ~Rounding() {
    if (mode_ != FE_TONEAREST) std::fesetround(FE_TONEAREST);
  }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;
  int mode_;
};

template <int kMode, bool kSat, typename Op>
Execute rounded1(Op) {
  return [](Warp& w, const Inst& in, uint32_t lanes) {
    float* d = values<float>(w, in.op[0]);
    const float* a = values<float>(w, in.op[1]);
    const Rounding rounding(kMode);
    for_lanes(lanes, [&](uint32_t i) { d[i] = finish<kSat>(Op{}(a[i])); });
  };
}
template <int kMode, bool kSat, typename Op>
Execute rounded2(Op) {
  return [](Warp& w, const Inst& in, uint32_t lanes) {
    float* d = values<float>(w, in.op[0]);
    const float* a = values<float>(w, in.op[1]);
    const float* b = values<float>(w, in.op[2]);
    const Rounding rounding(kMode);
    for_lanes(lanes, [&](uint32_t i) { d[i] = finish<kSat>(Op{}(a[i], b[i])); });
  };
}
template <int kMode, bool kSat>
void fused(Warp& w, const Inst& in, uint32_t lanes) {
  float* d = values<float>(w, in.op[0]);
  const float* a = values<float>(w, in.op[1]);
  const float* b = values<float>(w, in.op[2]);
  const float* c = values<float>(w, in.op[3]);
  const Rounding rounding(kMode);
  for_lanes(lanes, [&](uint32_t i) { d[i] = finish<kSat>(std::fma(a[i], b[i], c[i])); });
}

template <int kMode, bool kSat>
void add_rounded(Opcodes& t, const std::string& mode) {
  const std::string tail = "." + mode + (kSat ? ".sat" : "") + ".f32";
  t.add("add" + tail, {.operands = "Www",
                       .execute = rounded2<kMode, kSat>([](float a, float b) { return a + b; })});
  t.add("sub" + tail, {.operands = "Www",
                       .execute = rounded2<kMode, kSat>([](float a, float b) { return a - b; })});
  t.add("mul" + tail, {.operands = "Www",
                       .execute = rounded2<kMode, kSat>([](float a, float b) { return a * b; })});
  t.add("fma" + tail, {.operands = "Wwww", .execute = fused<kMode, kSat>});
  if constexpr (!kSat) {
    t.add("div" + tail, {.operands = "Www", .execute = rounded2<kMode, false>([](float a, float b) {
                                              return a / b;
                                            })});
    t.add("rcp" + tail,
          {.operands = "Ww", .execute = rounded1<kMode, false>([](float a) { return 1.0F / a; })});
    t.add("sqrt" + tail, {.operands = "Ww",
                          .execute = rounded1<kMode, false>([](float a) { return std::sqrt(a); })});
  }
}
template <int kMode>
void add_mode(Opcodes& t, const std::string& mode) {
  add_rounded<kMode, false>(t, mode);
  add_rounded<kMode, true>(t, mode);
}

// -0 is less than +0; a NaN operand yields the other one.
template <bool kMax>
float extreme(float a, float b) {
  if (a != a) return finish<false>(b);
  if (b != b) return a;
  if (a == b) return std::signbit(a) == kMax ? b : a;
  return (a < b) == kMax ? b : a;
}
template <bool kMax>
float extreme_nan(float a, float b) {
  return a != a || b != b ? from_bits(0x7fffffff) : extreme<kMax>(a, b);
}

template <typename Op>
void add_comparison(Opcodes& t, const std::string& name, Op op) {
  add_setp<float>(t, name, "f32", op);
}

}  // namespace

void add_real(Opcodes& t) {
  add_mode<FE_TONEAREST>(t, "rn");
  add_mode<FE_TOWARDZERO>(t, "rz");
  add_mode<FE_DOWNWARD>(t, "rm");
  add_mode<FE_UPWARD>(t, "rp");
  t.add("min.f32", {.operands = "Www", .execute = binary<float>([](float a, float b) {
                                         return extreme<false>(a, b);
                                       })});
  t.add("max.f32", {.operands = "Www", .execute = binary<float>([](float a, float b) {
                                         return extreme<true>(a, b);
                                       })});
  t.add("min.NaN.f32", {.operands = "Www", .execute = binary<float>([](float a, float b) {
                                             return extreme_nan<false>(a, b);
                                           })});
  t.add("max.NaN.f32", {.operands = "Www", .execute = binary<float>([](float a, float b) {
                                             return extreme_nan<true>(a, b);
                                           })});
  // On bits: a float register copy may not change a NaN.
  t.add("neg.f32",
        {.operands = "Ww", .execute = unary<uint32_t>([](uint32_t a) { return a ^ 0x80000000U; })});
  t.add("abs.f32",
        {.operands = "Ww", .execute = unary<uint32_t>([](uint32_t a) { return a & 0x7fffffffU; })});
  t.add("copysign.f32", {.operands = "Www", .execute = binary<uint32_t>([](uint32_t a, uint32_t b) {
                                              return (a & 0x80000000U) | (b & 0x7fffffffU);
                                            })});
  for (const Form& form : *t.find("selp.u32")) t.add("selp.f32", Form(form));

  add_comparison(t, "eq", [](float a, float b) { return a == b; });
  add_comparison(t, "ne", [](float a, float b) { return a < b || a > b; });
  add_comparison(t, "lt", [](float a, float b) { return a < b; });
  add_comparison(t, "le", [](float a, float b) { return a <= b; });
  add_comparison(t, "gt", [](float a, float b) { return a > b; });
  add_comparison(t, "ge", [](float a, float b) { return a >= b; });
  add_comparison(t, "equ", [](float a, float b) { return !(a < b || a > b); });
  add_comparison(t, "neu", [](float a, float b) { return !(a == b); });
  add_comparison(t, "ltu", [](float a, float b) { return !(a >= b); });
  add_comparison(t, "leu", [](float a, float b) { return !(a > b); });
  add_comparison(t, "gtu", [](float a, float b) { return !(a <= b); });
  add_comparison(t, "geu", [](float a, float b) { return !(a < b); });
  add_comparison(t, "num", [](float a, float b) { return a == a && b == b; });
  add_comparison(t, "nan", [](float a, float b) { return a != a || b != b; });
}

}  // namespace mpq::ptx
