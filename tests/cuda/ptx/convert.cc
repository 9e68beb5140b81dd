// PTX ISA, "Data Movement and Conversion": mov, cvt, cvt.pack, cvta.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

// A register wider than the type: reads take its low bits, writes extend by the sign of the type.
template <typename T>
T read_register(Warp& w, Slot slot, uint32_t width, uint32_t lane) {
  if (width == 2) return static_cast<T>(values<uint16_t>(w, slot)[lane]);
  if (width == 4) return static_cast<T>(values<uint32_t>(w, slot)[lane]);
  return static_cast<T>(values<uint64_t>(w, slot)[lane]);
}
template <typename T>
void write_register(Warp& w, Slot slot, uint32_t width, uint32_t lane, T value) {
  const auto extended = static_cast<uint64_t>(static_cast<int64_t>(value));
  if (width == 2) values<uint16_t>(w, slot)[lane] = static_cast<uint16_t>(extended);
  if (width == 4) values<uint32_t>(w, slot)[lane] = static_cast<uint32_t>(extended);
  if (width == 8) values<uint64_t>(w, slot)[lane] = extended;
}

// The nearest value that D has.
template <typename D, typename T>
D saturated(T v) {
  __extension__ using Wide = __int128;
  const Wide lo = std::numeric_limits<D>::min(), hi = std::numeric_limits<D>::max();
  return static_cast<D>(std::clamp<Wide>(Wide{v}, lo, hi));
}

template <typename D, typename T, bool kSat>
void integer_to_integer(Warp& w, const Inst& in, uint32_t lanes) {
  for_lanes(lanes, [&](uint32_t i) {
    const T a = read_register<T>(w, in.op[1], in.width[1], i);
    write_register<D>(w, in.op[0], in.width[0], i, kSat ? saturated<D>(a) : static_cast<D>(a));
  });
}

enum class Round : uint8_t { kNearest, kZero, kDown, kUp };
constexpr struct {
  const char* suffix;
  Round round;
} kRounds[] = {{"n", Round::kNearest}, {"z", Round::kZero}, {"m", Round::kDown}, {"p", Round::kUp}};

double to_integral(double v, Round round) {
  switch (round) {
    case Round::kNearest:
      return std::nearbyint(v);
    case Round::kZero:
      return std::trunc(v);
    case Round::kDown:
      return std::floor(v);
    case Round::kUp:
      return std::ceil(v);
  }
  return v;
}

// Out of range becomes the nearest value of D; NaN becomes 0, of 64 bits only the highest one.
template <typename D>
void real_to_integer(Warp& w, const Inst& in, uint32_t lanes) {
  const float* a = values<float>(w, in.op[1]);
  const auto round = static_cast<Round>(in.variant);
  for_lanes(lanes, [&](uint32_t i) {
    if (a[i] != a[i]) {
      const uint64_t nan = sizeof(D) == 8 ? uint64_t{1} << 63 : 0;
      return write_register<D>(w, in.op[0], in.width[0], i, static_cast<D>(nan));
    }
    const double v = to_integral(double{a[i]}, round);
    const double lo = static_cast<double>(std::numeric_limits<D>::min());
    const double above = std::ldexp(1.0, std::numeric_limits<D>::digits);  // hi + 1, exact
    const D d = v < lo       ? std::numeric_limits<D>::min()
                : v >= above ? std::numeric_limits<D>::max()
                             : static_cast<D>(v);
    write_register<D>(w, in.op[0], in.width[0], i, d);
  });
}

// By the definition: the neighbour of the exact value that the mode names.
template <typename T>
float integer_to_real(T v, Round round) {
  __extension__ using Wide = __int128;
  const auto near = static_cast<float>(v);
  const auto exact = static_cast<Wide>(near);
  if (round == Round::kNearest || exact == Wide{v}) return near;
  const bool want_below = round == Round::kDown || (round == Round::kZero && v > 0);
  const bool is_below = exact < Wide{v};
  if (want_below == is_below) return near;
  return std::nextafter(near, want_below ? -INFINITY : INFINITY);
}
template <typename T>
void to_real(Warp& w, const Inst& in, uint32_t lanes) {
  float* d = values<float>(w, in.op[0]);
  const auto round = static_cast<Round>(in.variant);
  for_lanes(lanes, [&](uint32_t i) {
    d[i] = integer_to_real(read_register<T>(w, in.op[1], in.width[1], i), round);
  });
}

template <typename D, typename T>
void add_pair(Opcodes& t, const std::string& d, const std::string& a) {
  constexpr uint8_t kD = 8 * sizeof(D), kA = 8 * sizeof(T);
  t.add("cvt." + d + "." + a,
        {.operands = "Xx", .execute = integer_to_integer<D, T, false>, .bits = {kD, kA}});
  t.add("cvt.sat." + d + "." + a,
        {.operands = "Xx", .execute = integer_to_integer<D, T, true>, .bits = {kD, kA}});
}
template <typename D>
void add_to(Opcodes& t, const std::string& d) {
  add_pair<D, uint8_t>(t, d, "u8");
  add_pair<D, int8_t>(t, d, "s8");
  add_pair<D, uint16_t>(t, d, "u16");
  add_pair<D, int16_t>(t, d, "s16");
  add_pair<D, uint32_t>(t, d, "u32");
  add_pair<D, int32_t>(t, d, "s32");
  add_pair<D, uint64_t>(t, d, "u64");
  add_pair<D, int64_t>(t, d, "s64");
  for (const auto& [suffix, round] : kRounds) {
    const auto variant = static_cast<uint8_t>(round);
    const std::string n(suffix);
    constexpr uint8_t kBits = 8 * sizeof(D);
    t.add("cvt.r" + n + "i." + d + ".f32",
          {.operands = "Xw", .execute = real_to_integer<D>, .variant = variant, .bits = {kBits}});
    t.add("cvt.r" + n + "i.sat." + d + ".f32",
          {.operands = "Xw", .execute = real_to_integer<D>, .variant = variant, .bits = {kBits}});
    t.add("cvt.r" + n + ".f32." + d,
          {.operands = "Wx", .execute = to_real<D>, .variant = variant, .bits = {0, kBits}});
  }
}

void add_real_to_real(Opcodes& t) {
  for (const auto& [suffix, round] : kRounds)
    t.add("cvt.r" + std::string(suffix) + "i.f32.f32",
          {.operands = "Ww",
           .execute =
               [](Warp& w, const Inst& in, uint32_t lanes) {
                 float* d = values<float>(w, in.op[0]);
                 const float* a = values<float>(w, in.op[1]);
                 for_lanes(lanes, [&](uint32_t i) {
                   const float v = a[i];
                   d[i] = v == v ? static_cast<float>(
                                       to_integral(double{v}, static_cast<Round>(in.variant)))
                                 : std::bit_cast<float>(0x7fffffffU);
                 });
               },
           .variant = static_cast<uint8_t>(round)});
  t.add("cvt.sat.f32.f32", {.operands = "Ww", .execute = unary<float>([](float a) {
                                                return a > 0.0F ? (a < 1.0F ? a : 1.0F) : 0.0F;
                                              })});
}

// d = the two saturated values, b below a; for less than 16 bits each, c follows above them.
template <int32_t kLo, int32_t kHi, uint32_t kBits>
void pack(Warp& w, const Inst& in, uint32_t lanes) {
  uint32_t* d = values<uint32_t>(w, in.op[0]);
  const int32_t* a = values<int32_t>(w, in.op[1]);
  const int32_t* b = values<int32_t>(w, in.op[2]);
  const uint32_t* c = values<uint32_t>(w, in.op[3]);
  constexpr uint32_t kMask = (1U << kBits) - 1;
  for_lanes(lanes, [&](uint32_t i) {
    const uint32_t ta = static_cast<uint32_t>(std::clamp(a[i], kLo, kHi)) & kMask;
    const uint32_t tb = static_cast<uint32_t>(std::clamp(b[i], kLo, kHi)) & kMask;
    uint32_t out = ta << kBits | tb;
    if constexpr (kBits < 16) out |= c[i] << (2 * kBits);
    d[i] = out;
  });
}
void add_packs(Opcodes& t) {
  const auto row = [&](const char* opcode, const char* operands, Execute e) {
    t.add(opcode, {.operands = operands, .execute = e});
  };
  row("cvt.pack.sat.u16.s32", "Www", pack<0, 65535, 16>);
  row("cvt.pack.sat.s16.s32", "Www", pack<-32768, 32767, 16>);
  row("cvt.pack.sat.u8.s32.b32", "Wwww", pack<0, 255, 8>);
  row("cvt.pack.sat.s8.s32.b32", "Wwww", pack<-128, 127, 8>);
  row("cvt.pack.sat.u4.s32.b32", "Wwww", pack<0, 15, 4>);
  row("cvt.pack.sat.s4.s32.b32", "Wwww", pack<-8, 7, 4>);
  row("cvt.pack.sat.u2.s32.b32", "Wwww", pack<0, 3, 2>);
  row("cvt.pack.sat.s2.s32.b32", "Wwww", pack<-2, 1, 2>);
}

// Vectors: the first element is the least significant.
template <typename Big, typename Small, uint32_t kCount>
void join(Warp& w, const Inst& in, uint32_t lanes) {
  for_lanes(lanes, [&](uint32_t i) {
    Big out = 0;
    for (uint32_t k = 0; k < kCount; ++k)
      out |= static_cast<Big>(Big{values<Small>(w, in.op[1 + k])[i]} << (8 * sizeof(Small) * k));
    values<Big>(w, in.op[0])[i] = out;
  });
}
template <typename Big, typename Small, uint32_t kCount>
void split(Warp& w, const Inst& in, uint32_t lanes) {
  for_lanes(lanes, [&](uint32_t i) {
    const Big whole = values<Big>(w, in.op[kCount])[i];
    for (uint32_t k = 0; k < kCount; ++k)
      values<Small>(w, in.op[k])[i] = static_cast<Small>(whole >> (8 * sizeof(Small) * k));
  });
}

void add_moves(Opcodes& t) {
  for (const char sign : {'b', 'u', 's'}) {
    const std::string mov = std::string("mov.") + sign;
    t.add(mov + "16", {.operands = "Hh", .execute = unary<uint16_t>([](uint16_t a) { return a; })});
    t.add(mov + "32", {.operands = "Ww", .execute = unary<uint32_t>([](uint32_t a) { return a; })});
    t.add(mov + "64", {.operands = "Dd", .execute = unary<uint64_t>([](uint64_t a) { return a; })});
  }
  t.add("mov.f32", {.operands = "Ww", .execute = unary<uint32_t>([](uint32_t a) { return a; })});
  t.add("mov.pred", {.operands = "Pp", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                       set_predicate(w, in.op[0], predicate(w, in, 1), lanes);
                     }});
  t.add("mov.b32", {.operands = "W2h", .execute = join<uint32_t, uint16_t, 2>});
  t.add("mov.b64", {.operands = "D2w", .execute = join<uint64_t, uint32_t, 2>});
  t.add("mov.b64", {.operands = "D4h", .execute = join<uint64_t, uint16_t, 4>});
  t.add("mov.b32", {.operands = "2Hw", .execute = split<uint32_t, uint16_t, 2>});
  t.add("mov.b64", {.operands = "2Wd", .execute = split<uint64_t, uint32_t, 2>});
  t.add("mov.b64", {.operands = "4Hd", .execute = split<uint64_t, uint16_t, 4>});
}

// Between an address within a space and the generic one; they differ only for .shared.
void add_address_conversions(Opcodes& t) {
  for (const char* space : {"global", "local", "const", "param"})
    for (const char* to : {"", "to."})
      t.add(std::string("cvta.") + to + space + ".u64",
            {.operands = "Dd", .execute = unary<uint64_t>([](uint64_t a) { return a; })});
  for (const char* space : {"shared", "shared::cta"}) {
    t.add(std::string("cvta.") + space + ".u64",
          {.operands = "Dd",
           .execute = unary<uint64_t>([](uint64_t a) { return a + kSharedWindow; })});
    t.add(std::string("cvta.to.") + space + ".u64",
          {.operands = "Dd",
           .execute = unary<uint64_t>([](uint64_t a) { return a - kSharedWindow; })});
  }
}

}  // namespace

void add_convert(Opcodes& t) {
  add_moves(t);
  add_to<uint8_t>(t, "u8");
  add_to<int8_t>(t, "s8");
  add_to<uint16_t>(t, "u16");
  add_to<int16_t>(t, "s16");
  add_to<uint32_t>(t, "u32");
  add_to<int32_t>(t, "s32");
  add_to<uint64_t>(t, "u64");
  add_to<int64_t>(t, "s64");
  add_real_to_real(t);
  add_packs(t);
  add_address_conversions(t);
}

}  // namespace mpq::ptx
