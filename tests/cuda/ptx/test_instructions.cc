// Every element-wise instruction against its definition in the ISA, on corner values and random
// ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>

#include "tests/cuda/ptx/exact.h"
#include "tests/cuda/ptx/opcodes.h"
#include "tests/cuda/ptx/test_support.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

__extension__ using Wide = __int128;

struct Row {
  std::string opcode, operands;
  std::function<uint64_t(const uint64_t*)> expected;
  std::function<bool(const uint64_t*)> defined = nullptr;  // all operands if null
};

// Values where integer and float instructions change their mind.
std::vector<uint64_t> corners() {
  std::vector<uint64_t> v = {0,
                             1,
                             2,
                             3,
                             7,
                             8,
                             15,
                             16,
                             31,
                             32,
                             33,
                             63,
                             64,
                             65,
                             127,
                             128,
                             255,
                             256,
                             0x3210,
                             0x7654,
                             0xba98,
                             0x7fff,
                             0x8000,
                             0xffff,
                             0x10000,
                             0x7fffffff,
                             0x80000000,
                             0xffffffff,
                             0x100000000,
                             0x7fffffffffffffff,
                             0x8000000000000000,
                             ~uint64_t{0},
                             0xfffffffffffffffe};
  for (const float f : {0.5F,
                        1.0F,
                        1.5F,
                        2.5F,
                        3.5F,
                        -0.0F,
                        -0.5F,
                        -1.5F,
                        -2.5F,
                        0x1p-149F,
                        -0x1p-149F,
                        0x1p-126F,
                        0x1.fffffep-127F,
                        3.4e38F,
                        -3.4e38F,
                        0x1p31F,
                        -0x1p31F,
                        0x1.fffffep30F,
                        0x1p32F,
                        0x1p63F,
                        0x1p64F,
                        16777215.0F,
                        16777216.0F,
                        16777217.0F,
                        127.5F,
                        128.5F,
                        255.5F,
                        0.1F,
                        1.0000001F,
                        INFINITY,
                        -INFINITY,
                        NAN})
    v.push_back(bits_of(f));
  return v;
}

const std::vector<Operands>& samples() {
  static const std::vector<Operands> all = [] {
    Rng rng(test_seed());
    const std::vector<uint64_t> c = corners();
    std::vector<Operands> out;
    const auto any = [&] { return c[rng.below(static_cast<uint32_t>(c.size()))]; };
    for (const uint64_t a : c)
      for (const uint64_t b : c) out.push_back({{a, b, any(), any()}});
    for (uint32_t i = 0; i < 6000; ++i) {
      Operands o;
      for (uint64_t& s : o.s)
        s = rng.chance(4) ? any() : rng.chance(3) ? rng.below(70) : rng.next();
      // Floats near each other in size, so that sums round.
      if (rng.chance(2))
        for (uint64_t& s : o.s) s = (s & 0x807fffff) | (120 + rng.below(16)) << 23;
      out.push_back(o);
    }
    return out;
  }();
  return all;
}

template <typename T>
T as(uint64_t v) {
  return static_cast<T>(v);
}
uint64_t low_bits(Wide v, uint32_t bytes) {
  const auto u = static_cast<uint64_t>(v);
  return bytes == 8 ? u : u & ((uint64_t{1} << (8 * bytes)) - 1);
}
template <typename T>
std::string sizes(const char* pattern) {
  return ptx::typed(pattern, sizeof(T));
}

template <typename T>
void add_integer_rows(std::vector<Row>* rows, const std::string& type) {
  constexpr uint32_t kBytes = sizeof(T), kBits = 8 * kBytes;
  const auto three = [=](const std::string& name, const char* operands, auto f) {
    rows->push_back({name + "." + type, sizes<T>(operands), [=](const uint64_t* s) {
                       return low_bits(f(Wide{as<T>(s[0])}, Wide{as<T>(s[1])}, Wide{as<T>(s[2])}),
                                       kBytes);
                     }});
  };
  // The product of two 64-bit values is below 2^128 but not below 2^127: add by halves.
  const auto high = [](Wide a, Wide b) {
    __extension__ using UWide = unsigned __int128;
    return static_cast<Wide>(
        std::is_signed_v<T>
            ? (a * b) >> kBits
            : static_cast<Wide>((static_cast<UWide>(a) * static_cast<UWide>(b)) >> kBits));
  };
  three("add", "Ttt", [](Wide a, Wide b, Wide) { return a + b; });
  three("sub", "Ttt", [](Wide a, Wide b, Wide) { return a - b; });
  three("mul.lo", "Ttt", [](Wide a, Wide b, Wide) {
    return static_cast<Wide>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  });
  three("mul.hi", "Ttt", [=](Wide a, Wide b, Wide) { return high(a, b); });
  three("mad.lo", "Tttt", [](Wide a, Wide b, Wide c) {
    return static_cast<Wide>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)) + c;
  });
  three("mad.hi", "Tttt", [=](Wide a, Wide b, Wide c) { return high(a, b) + c; });
  three("min", "Ttt", [](Wide a, Wide b, Wide) { return a < b ? a : b; });
  three("max", "Ttt", [](Wide a, Wide b, Wide) { return a < b ? b : a; });
  const auto divisor = [](const uint64_t* s) { return as<T>(s[1]) != 0; };
  three("div", "Ttt", [](Wide a, Wide b, Wide) { return b == 0 ? Wide{0} : a / b; });
  rows->back().defined = divisor;
  three("rem", "Ttt", [](Wide a, Wide b, Wide) { return b == 0 ? Wide{0} : a % b; });
  rows->back().defined = divisor;
  if (std::is_signed_v<T>) {
    three("neg", "Tt", [](Wide a, Wide, Wide) { return -a; });
    three("abs", "Tt", [](Wide a, Wide, Wide) { return a < 0 ? -a : a; });
  }
  rows->push_back({"shr." + type, sizes<T>("Ttw"), [](const uint64_t* s) {
                     const uint32_t n = as<uint32_t>(s[1]);
                     return low_bits(n >= kBits ? (as<T>(s[0]) < 0 ? Wide{-1} : Wide{0})
                                                : Wide{as<T>(s[0])} >> n,
                                     kBytes);
                   }});
  rows->push_back({"selp." + type, sizes<T>("Tttp"), [](const uint64_t* s) {
                     return low_bits(as<uint32_t>(s[2]) != 0 ? s[0] : s[1], kBytes);
                   }});
  const std::pair<const char*, bool (*)(T, T)> comparisons[] = {
      {"eq", [](T a, T b) { return a == b; }}, {"ne", [](T a, T b) { return a != b; }},
      {"lt", [](T a, T b) { return a < b; }},  {"le", [](T a, T b) { return a <= b; }},
      {"gt", [](T a, T b) { return a > b; }},  {"ge", [](T a, T b) { return a >= b; }}};
  for (const auto& [name, holds] : comparisons) {
    const auto f = holds;
    const std::string head = std::string("setp.") + name;
    rows->push_back({head + "." + type, sizes<T>("Ptt"),
                     [f](const uint64_t* s) { return f(as<T>(s[0]), as<T>(s[1])); }});
    rows->push_back({head + ".and." + type, sizes<T>("Pttp"), [f](const uint64_t* s) {
                       return f(as<T>(s[0]), as<T>(s[1])) && as<uint32_t>(s[2]) != 0;
                     }});
    rows->push_back({head + ".or." + type, sizes<T>("Pttp"), [f](const uint64_t* s) {
                       return f(as<T>(s[0]), as<T>(s[1])) || as<uint32_t>(s[2]) != 0;
                     }});
    rows->push_back({head + ".xor." + type, sizes<T>("Pttp"), [f](const uint64_t* s) {
                       return f(as<T>(s[0]), as<T>(s[1])) != (as<uint32_t>(s[2]) != 0);
                     }});
  }
}

template <typename T, typename D>
void add_wide_rows(std::vector<Row>* rows, const std::string& type) {
  const std::string big(1, ptx::sized('W', sizeof(D))), small(1, ptx::sized('w', sizeof(D)));
  rows->push_back({"mul.wide." + type, big + sizes<T>("tt"), [](const uint64_t* s) {
                     return low_bits(Wide{as<T>(s[0])} * as<T>(s[1]), sizeof(D));
                   }});
  rows->push_back({"mad.wide." + type, big + sizes<T>("tt") + small, [](const uint64_t* s) {
                     return low_bits(Wide{as<T>(s[0])} * as<T>(s[1]) + as<D>(s[2]), sizeof(D));
                   }});
}

// Bit by bit.
template <typename T>
void add_logic_rows(std::vector<Row>* rows, const std::string& type) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  const auto bit = [](uint64_t v, uint32_t i) { return i < 64 ? v >> i & 1 : 0; };
  const auto build = [](auto of) {
    uint64_t out = 0;
    for (uint32_t i = 0; i < kBits; ++i) out |= uint64_t{of(i)} << i;
    return out;
  };
  const auto row = [&](const std::string& name, const char* operands, auto f) {
    rows->push_back({name + "." + type, sizes<T>(operands), f});
  };
  row("and", "Ttt", [=](const uint64_t* s) {
    return build([&](uint32_t i) { return bit(s[0], i) & bit(s[1], i); });
  });
  row("or", "Ttt", [=](const uint64_t* s) {
    return build([&](uint32_t i) { return bit(s[0], i) | bit(s[1], i); });
  });
  row("xor", "Ttt", [=](const uint64_t* s) {
    return build([&](uint32_t i) { return bit(s[0], i) ^ bit(s[1], i); });
  });
  row("not", "Tt",
      [=](const uint64_t* s) { return build([&](uint32_t i) { return 1 - bit(s[0], i); }); });
  row("cnot", "Tt", [](const uint64_t* s) { return uint64_t{as<T>(s[0]) == 0}; });
  row("shl", "Ttw", [=](const uint64_t* s) {
    const uint64_t n = as<uint32_t>(s[1]);
    return build([&](uint32_t i) { return i >= n ? bit(s[0], static_cast<uint32_t>(i - n)) : 0; });
  });
  row("shr", "Ttw", [=](const uint64_t* s) {
    const uint64_t n = as<uint32_t>(s[1]);
    return build(
        [&](uint32_t i) { return i + n < kBits ? bit(s[0], static_cast<uint32_t>(i + n)) : 0; });
  });
  for (const bool equal : {true, false})
    for (const std::string with : {"", ".and", ".or", ".xor"})
      row((equal ? "setp.eq" : "setp.ne") + with, with.empty() ? "Ptt" : "Pttp",
          [=](const uint64_t* s) {
            const bool t = (as<T>(s[0]) == as<T>(s[1])) == equal, c = as<uint32_t>(s[2]) != 0;
            return uint64_t{with.empty()     ? t
                            : with == ".and" ? t && c
                            : with == ".or"  ? t || c
                                             : t != c};
          });
  if constexpr (sizeof(T) == 2) return;
  const std::string from_t = sizes<T>("t");
  rows->push_back({"popc." + type, "W" + from_t, [=](const uint64_t* s) {
                     uint64_t n = 0;
                     for (uint32_t i = 0; i < kBits; ++i) n += bit(s[0], i);
                     return n;
                   }});
  rows->push_back({"clz." + type, "W" + from_t, [=](const uint64_t* s) {
                     uint64_t n = 0;
                     while (n < kBits && bit(s[0], static_cast<uint32_t>(kBits - 1 - n)) == 0) ++n;
                     return n;
                   }});
  row("brev", "Tt", [=](const uint64_t* s) {
    return build([&](uint32_t i) { return bit(s[0], kBits - 1 - i); });
  });
  row("bfi", "Tttww", [=](const uint64_t* s) {
    const uint32_t at = s[2] & 255, n = s[3] & 255;
    return build(
        [&](uint32_t i) { return i >= at && i - at < n ? bit(s[0], i - at) : bit(s[1], i); });
  });
}

template <typename T>
void add_field_rows(std::vector<Row>* rows, const std::string& type) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  rows->push_back({"bfe." + type, sizes<T>("Ttww"), [](const uint64_t* s) {
                     const uint32_t at = s[1] & 255, n = s[2] & 255;
                     const auto value = as<T>(s[0]);
                     if (n == 0) return uint64_t{0};
                     Wide v = at >= kBits ? (value < 0 ? -1 : 0) : Wide{value} >> at;
                     if (n < 64 && at + n <= kBits) {  // the field ends inside: keep n bits, extend
                       v &= (Wide{1} << n) - 1;
                       if (std::is_signed_v<T> && (v >> (n - 1) & 1) != 0) v -= Wide{1} << n;
                     }
                     return low_bits(v, sizeof(T));
                   }});
  const auto leading = [](uint64_t s) {
    auto v = Wide{as<T>(s)};
    if (v < 0) v = ~v;
    int32_t n = -1;
    for (; v != 0; v >>= 1) ++n;
    return n;
  };
  rows->push_back({"bfind." + type, "W" + sizes<T>("t"), [=](const uint64_t* s) {
                     return uint64_t{static_cast<uint32_t>(leading(s[0]))};
                   }});
  rows->push_back({"bfind.shiftamt." + type, "W" + sizes<T>("t"), [=](const uint64_t* s) {
                     const int32_t n = leading(s[0]);
                     return uint64_t{n < 0 ? 0xffffffffU : kBits - 1 - static_cast<uint32_t>(n)};
                   }});
}

template <typename A, typename B>
void add_dot_row(std::vector<Row>* rows, const std::string& types) {
  rows->push_back({"dp4a." + types, "Wwww", [](const uint64_t* s) {
                     Wide sum = as<uint32_t>(s[2]);
                     for (uint32_t i = 0; i < 4; ++i)
                       sum += Wide{as<A>(s[0] >> (8 * i))} * as<B>(s[1] >> (8 * i));
                     return low_bits(sum, 4);
                   }});
}

std::vector<Row> integer_rows() {
  std::vector<Row> rows;
  add_integer_rows<uint16_t>(&rows, "u16");
  add_integer_rows<int16_t>(&rows, "s16");
  add_integer_rows<uint32_t>(&rows, "u32");
  add_integer_rows<int32_t>(&rows, "s32");
  add_integer_rows<uint64_t>(&rows, "u64");
  add_integer_rows<int64_t>(&rows, "s64");
  add_wide_rows<uint16_t, uint32_t>(&rows, "u16");
  add_wide_rows<int16_t, int32_t>(&rows, "s16");
  add_wide_rows<uint32_t, uint64_t>(&rows, "u32");
  add_wide_rows<int32_t, int64_t>(&rows, "s32");
  add_logic_rows<uint16_t>(&rows, "b16");
  add_logic_rows<uint32_t>(&rows, "b32");
  add_logic_rows<uint64_t>(&rows, "b64");
  add_field_rows<uint32_t>(&rows, "u32");
  add_field_rows<int32_t>(&rows, "s32");
  add_field_rows<uint64_t>(&rows, "u64");
  add_field_rows<int64_t>(&rows, "s64");
  add_dot_row<uint8_t, uint8_t>(&rows, "u32.u32");
  add_dot_row<uint8_t, int8_t>(&rows, "u32.s32");
  add_dot_row<int8_t, uint8_t>(&rows, "s32.u32");
  add_dot_row<int8_t, int8_t>(&rows, "s32.s32");
  const auto saturated = [](Wide v) {
    return low_bits(std::clamp<Wide>(v, INT32_MIN, INT32_MAX), 4);
  };
  rows.push_back({"add.sat.s32", "Www", [=](const uint64_t* s) {
                    return saturated(Wide{as<int32_t>(s[0])} + as<int32_t>(s[1]));
                  }});
  rows.push_back({"sub.sat.s32", "Www", [=](const uint64_t* s) {
                    return saturated(Wide{as<int32_t>(s[0])} - as<int32_t>(s[1]));
                  }});
  for (const bool left : {false, true})
    for (const bool wrap : {false, true})
      rows.push_back(
          {std::string("shf.") + (left ? "l" : "r") + (wrap ? ".wrap" : ".clamp") + ".b32", "Wwww",
           [=](const uint64_t* s) {
             const uint32_t c = as<uint32_t>(s[2]), n = wrap ? c % 32 : c < 32 ? c : 32;
             const uint32_t a = as<uint32_t>(s[0]), b = as<uint32_t>(s[1]);
             if (n == 0) return uint64_t{left ? b : a};
             if (n == 32) return uint64_t{left ? a : b};
             return uint64_t{left ? b << n | a >> (32 - n) : b << (32 - n) | a >> n};
           }});
  rows.push_back({"prmt.b32", "Wwww", [](const uint64_t* s) {
                    uint8_t bytes[8];
                    for (uint32_t i = 0; i < 4; ++i) {
                      bytes[i] = as<uint8_t>(s[0] >> (8 * i));
                      bytes[4 + i] = as<uint8_t>(s[1] >> (8 * i));
                    }
                    uint64_t out = 0;
                    for (uint32_t i = 0; i < 4; ++i) {
                      const auto selector = static_cast<uint32_t>(s[2] >> (4 * i)) % 16;
                      const uint8_t chosen = bytes[selector % 8];
                      out += uint64_t{selector < 8    ? chosen
                                      : chosen >= 128 ? uint8_t{255}
                                                      : uint8_t{0}}
                             << (8 * i);
                    }
                    return out;
                  }});
  const std::pair<const char*, bool (*)(bool, bool)> logic[] = {
      {"and", [](bool a, bool b) { return a && b; }},
      {"or", [](bool a, bool b) { return a || b; }},
      {"xor", [](bool a, bool b) { return a != b; }}};
  for (const auto& [name, of] : logic) {
    const auto f = of;
    rows.push_back({std::string(name) + ".pred", "Ppp", [f](const uint64_t* s) {
                      return f(as<uint32_t>(s[0]) != 0, as<uint32_t>(s[1]) != 0);
                    }});
  }
  rows.push_back({"not.pred", "Pp", [](const uint64_t* s) { return as<uint32_t>(s[0]) == 0; }});
  rows.push_back({"mov.pred", "Pp", [](const uint64_t* s) { return as<uint32_t>(s[0]) != 0; }});
  return rows;
}

constexpr std::pair<const char*, Mode> kModes[] = {
    {"n", Mode::kNearest}, {"z", Mode::kZero}, {"m", Mode::kDown}, {"p", Mode::kUp}};

std::vector<Row> real_rows() {
  std::vector<Row> rows;
  for (const auto& [letter, rounding] : kModes) {
    const Mode mode = rounding;
    const std::string r = std::string(".r") + letter;
    using Function = float (*)(const float*, Mode);
    const std::tuple<const char*, const char*, Function> functions[] = {
        {"add", "Www", [](const float* x, Mode m) { return exact_fma(x[0], 1.0F, x[1], m); }},
        {"sub", "Www", [](const float* x, Mode m) { return exact_fma(x[0], 1.0F, -x[1], m); }},
        {"mul", "Www",
         [](const float* x, Mode m) {
           return std::isfinite(x[0] * double{x[1]}) ? rounded(double{x[0]} * x[1], 0, m)
                                                     : x[0] * x[1];
         }},
        {"fma", "Wwww", [](const float* x, Mode m) { return exact_fma(x[0], x[1], x[2], m); }},
        {"div", "Www",
         [](const float* x, Mode m) { return exact_of(static_cast<long double>(x[0]) / x[1], m); }},
        {"rcp", "Ww", [](const float* x, Mode m) { return exact_of(1.0L / x[0], m); }},
        {"sqrt", "Ww", [](const float* x, Mode m) {
           return exact_of(std::sqrt(static_cast<long double>(x[0])), m);
         }}};
    for (const auto& [name, operands, function] : functions) {
      const Function f = function;
      const auto value = [f, mode](const uint64_t* s) {
        const float x[] = {as_float(s[0]), as_float(s[1]), as_float(s[2])};
        return f(x, mode);
      };
      rows.push_back(
          {name + r + ".f32", operands, [=](const uint64_t* s) { return bits_of(value(s)); }});
      if (rows.back().operands == "Ww" || std::string(name) == "div") continue;
      rows.push_back({name + r + ".sat.f32", operands, [=](const uint64_t* s) {
                        const float v = value(s);
                        return bits_of(v > 0 ? std::min(v, 1.0F) : 0.0F);
                      }});
    }
    const auto integral = [mode](float v) {
      if (std::abs(v) >= 0x1p24F || v != v) return double{v};
      const double floor = std::floor(double{v}), part = v - floor;
      const bool up = mode == Mode::kUp ? part > 0
                      : mode == Mode::kZero
                          ? part > 0 && v < 0
                          : mode == Mode::kNearest &&
                                (part > 0.5 || (part == 0.5 && std::fmod(floor, 2.0) != 0));
      return std::copysign(floor + (up ? 1 : 0), double{v});
    };
    rows.push_back({"cvt" + r + "i.f32.f32", "Ww", [=](const uint64_t* s) {
                      return bits_of(static_cast<float>(integral(as_float(s[0]))));
                    }});
    const auto add_type = [&]<typename T>(const std::string& type, T) {
      const std::string to = sizeof(T) == 8 ? "D" : sizeof(T) == 4 ? "W" : "H";
      const std::string from = sizeof(T) == 8 ? "d" : sizeof(T) == 4 ? "w" : "h";
      const auto expected = [=](const uint64_t* s) {
        const float f = as_float(s[0]);
        if (f != f) return sizeof(T) == 8 ? uint64_t{1} << 63 : 0;
        const double v = integral(f);
        constexpr Wide kLo = std::numeric_limits<T>::min(), kHi = std::numeric_limits<T>::max();
        const Wide w = v <= -0x1p65  ? -(Wide{1} << 65)
                       : v >= 0x1p65 ? Wide{1} << 65
                                     : static_cast<Wide>(v);
        return low_bits(std::clamp(w, kLo, kHi), std::max<uint32_t>(sizeof(T), 2));
      };
      rows.push_back({"cvt" + r + "i." + type + ".f32", to + "w", expected});
      rows.push_back({"cvt" + r + "i.sat." + type + ".f32", to + "w", expected});
      rows.push_back({"cvt" + r + ".f32." + type, "W" + from, [=](const uint64_t* s) {
                        const Wide v = as<T>(s[0]);
                        const auto high = static_cast<double>(v);
                        return bits_of(
                            rounded(high, static_cast<double>(v - static_cast<Wide>(high)), mode));
                      }});
    };
    add_type("u8", uint8_t{});
    add_type("s8", int8_t{});
    add_type("u16", uint16_t{});
    add_type("s16", int16_t{});
    add_type("u32", uint32_t{});
    add_type("s32", int32_t{});
    add_type("u64", uint64_t{});
    add_type("s64", int64_t{});
  }
  const auto extreme = [](bool largest) {
    return [largest](const uint64_t* s) {
      const float a = as_float(s[0]), b = as_float(s[1]);
      if (a != a) return bits_of(b);
      if (b != b) return bits_of(a);
      if (a == 0 && b == 0) return largest ? bits_of(a) & bits_of(b) : bits_of(a) | bits_of(b);
      return bits_of(largest ? (a > b ? a : b) : (a < b ? a : b));
    };
  };
  const auto or_nan = [](std::function<uint64_t(const uint64_t*)> f) {
    return [f](const uint64_t* s) {
      return as_float(s[0]) != as_float(s[0]) || as_float(s[1]) != as_float(s[1])
                 ? uint64_t{0x7fffffff}
                 : f(s);
    };
  };
  rows.push_back({"min.f32", "Www", extreme(false)});
  rows.push_back({"max.f32", "Www", extreme(true)});
  rows.push_back({"min.NaN.f32", "Www", or_nan(extreme(false))});
  rows.push_back({"max.NaN.f32", "Www", or_nan(extreme(true))});
  rows.push_back(
      {"neg.f32", "Ww", [](const uint64_t* s) { return low_bits(s[0] ^ 0x80000000, 4); }});
  rows.push_back({"abs.f32", "Ww", [](const uint64_t* s) { return s[0] & 0x7fffffff; }});
  rows.push_back({"copysign.f32", "Www",
                  [](const uint64_t* s) { return (s[0] & 0x80000000) | (s[1] & 0x7fffffff); }});
  rows.push_back({"selp.f32", "Wwwp", [](const uint64_t* s) {
                    return low_bits(as<uint32_t>(s[2]) != 0 ? s[0] : s[1], 4);
                  }});
  rows.push_back({"cvt.sat.f32.f32", "Ww", [](const uint64_t* s) {
                    const float v = as_float(s[0]);
                    return bits_of(v > 0 ? std::min(v, 1.0F) : 0.0F);
                  }});
  // less, equal, greater, unordered: the relations for which each comparison holds.
  const std::pair<const char*, const char*> comparisons[] = {
      {"eq", "e"},   {"ne", "lg"},   {"lt", "l"},    {"le", "le"},  {"gt", "g"},
      {"ge", "ge"},  {"equ", "eu"},  {"neu", "lgu"}, {"ltu", "lu"}, {"leu", "leu"},
      {"gtu", "gu"}, {"geu", "geu"}, {"num", "leg"}, {"nan", "u"}};
  for (const auto& [name, relations] : comparisons) {
    const std::string set = relations;
    const auto holds = [set](const uint64_t* s) {
      const float a = as_float(s[0]), b = as_float(s[1]);
      return set.find(a < b ? 'l' : a > b ? 'g' : a == b ? 'e' : 'u') != std::string::npos;
    };
    const std::string head = std::string("setp.") + name;
    rows.push_back({head + ".f32", "Pww", holds});
    rows.push_back({head + ".and.f32", "Pwwp",
                    [=](const uint64_t* s) { return holds(s) && as<uint32_t>(s[2]) != 0; }});
    rows.push_back({head + ".or.f32", "Pwwp",
                    [=](const uint64_t* s) { return holds(s) || as<uint32_t>(s[2]) != 0; }});
    rows.push_back({head + ".xor.f32", "Pwwp",
                    [=](const uint64_t* s) { return holds(s) != (as<uint32_t>(s[2]) != 0); }});
  }
  return rows;
}

template <typename D, typename T>
void add_convert_rows(std::vector<Row>* rows, const std::string& d, const std::string& t) {
  // Registers of the type's own size, and the widest.
  for (const char* to : {"H", "W", "D"})
    for (const char* from : {"h", "w", "d"}) {
      const uint32_t to_bytes = *to == 'H'   ? 2
                                : *to == 'W' ? 4
                                             : 8,
                     from_bytes = *from == 'h'   ? 2
                                  : *from == 'w' ? 4
                                                 : 8;
      if (to_bytes < sizeof(D) || from_bytes < sizeof(T)) continue;
      const std::string operands = std::string(to) + from;
      rows->push_back({"cvt." + d + "." + t, operands, [=](const uint64_t* s) {
                         return low_bits(Wide{static_cast<D>(as<T>(s[0]))}, to_bytes);
                       }});
      rows->push_back({"cvt.sat." + d + "." + t, operands, [=](const uint64_t* s) {
                         constexpr Wide kLo = std::numeric_limits<D>::min(),
                                        kHi = std::numeric_limits<D>::max();
                         return low_bits(std::clamp(Wide{as<T>(s[0])}, kLo, kHi), to_bytes);
                       }});
    }
}
template <typename D>
void add_convert_rows_to(std::vector<Row>* rows, const std::string& d) {
  add_convert_rows<D, uint8_t>(rows, d, "u8");
  add_convert_rows<D, int8_t>(rows, d, "s8");
  add_convert_rows<D, uint16_t>(rows, d, "u16");
  add_convert_rows<D, int16_t>(rows, d, "s16");
  add_convert_rows<D, uint32_t>(rows, d, "u32");
  add_convert_rows<D, int32_t>(rows, d, "s32");
  add_convert_rows<D, uint64_t>(rows, d, "u64");
  add_convert_rows<D, int64_t>(rows, d, "s64");
}

std::vector<Row> convert_rows() {
  std::vector<Row> rows;
  add_convert_rows_to<uint8_t>(&rows, "u8");
  add_convert_rows_to<int8_t>(&rows, "s8");
  add_convert_rows_to<uint16_t>(&rows, "u16");
  add_convert_rows_to<int16_t>(&rows, "s16");
  add_convert_rows_to<uint32_t>(&rows, "u32");
  add_convert_rows_to<int32_t>(&rows, "s32");
  add_convert_rows_to<uint64_t>(&rows, "u64");
  add_convert_rows_to<int64_t>(&rows, "s64");
  const std::tuple<const char*, int32_t, int32_t, uint32_t> packs[] = {
      {"u16", 0, 65535, 16}, {"s16", -32768, 32767, 16}, {"u8", 0, 255, 8}, {"s8", -128, 127, 8},
      {"u4", 0, 15, 4},      {"s4", -8, 7, 4},           {"u2", 0, 3, 2},   {"s2", -2, 1, 2}};
  for (const auto& [type, lowest, highest, size] : packs) {
    const int32_t lo = lowest, hi = highest;
    const uint32_t bits = size;
    const bool three = bits < 16;
    rows.push_back({std::string("cvt.pack.sat.") + type + (three ? ".s32.b32" : ".s32"),
                    three ? "Wwww" : "Www", [=](const uint64_t* s) {
                      const auto part = [&](uint64_t v) {
                        return uint64_t{static_cast<uint32_t>(std::clamp(as<int32_t>(v), lo, hi))} %
                               (uint64_t{1} << bits);
                      };
                      uint64_t out = part(s[1]) + (part(s[0]) << bits);
                      if (three) out += s[2] << (2 * bits);
                      return low_bits(out, 4);
                    }});
  }
  for (const char* sign : {"b", "u", "s"}) {
    rows.push_back({std::string("mov.") + sign + "16", "Hh",
                    [](const uint64_t* s) { return low_bits(s[0], 2); }});
    rows.push_back({std::string("mov.") + sign + "32", "Ww",
                    [](const uint64_t* s) { return low_bits(s[0], 4); }});
    rows.push_back(
        {std::string("mov.") + sign + "64", "Dd", [](const uint64_t* s) { return s[0]; }});
  }
  rows.push_back({"mov.f32", "Ww", [](const uint64_t* s) { return low_bits(s[0], 4); }});
  return rows;
}

std::vector<Operands> defined(const Row& row) {
  std::vector<Operands> in = samples();
  if (row.defined) std::erase_if(in, [&](const Operands& o) { return !row.defined(o.s); });
  return in;
}

void check_rows(const std::vector<Row>& rows) {
  uint32_t wrong = 0;
  for (const Row& row : rows) {
    const std::vector<Operands> in = defined(row);
    const std::vector<uint64_t> out = execute(row.opcode, row.operands, in);
    for (size_t i = 0; i < in.size() && wrong < 20; ++i) {
      const uint64_t expected = row.expected(in[i].s);
      if (out[i] == expected) continue;
      ++wrong;
      MESSAGE(row.opcode << " " << row.operands << std::hex << " of " << in[i].s[0] << " "
                         << in[i].s[1] << " " << in[i].s[2] << " " << in[i].s[3] << " is " << out[i]
                         << ", not " << expected);
      break;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("ptx: integer and logic instructions are their definitions") {
  check_rows(integer_rows());
}
TEST_CASE("ptx: binary32 instructions are exact results, rounded once") { check_rows(real_rows()); }
TEST_CASE("ptx: conversions and moves are their definitions") { check_rows(convert_rows()); }

TEST_CASE("ptx: lop3 is its truth table, for all 256 of them") {
  std::vector<uint32_t> in(32 * 3);
  Rng rng(test_seed());
  for (uint32_t& w : in) w = static_cast<uint32_t>(rng.next());
  for (uint32_t table = 0; table < 256; ++table) {
    const std::vector<uint32_t> out = run_words(
        "mad.wide.u32 %d1, %r63, 12, %d62;\nld.global.u32 %r1, [%d1];\nld.global.u32 %r2, "
        "[%d1+4];\nld.global.u32 %r3, [%d1+8];\nlop3.b32 %r4, %r1, %r2, %r3, " +
            std::to_string(table) +
            ";\nmad.wide.u32 %d2, %r63, 4, %d63;\nst.global.u32 [%d2], %r4;",
        in, 32);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint32_t expected = 0;
      for (uint32_t i = 0; i < 32; ++i) {
        const uint32_t index = (in[lane * 3] >> i & 1) * 4 + (in[lane * 3 + 1] >> i & 1) * 2 +
                               (in[lane * 3 + 2] >> i & 1);
        expected |= (table >> index & 1) << i;
      }
      REQUIRE(out[lane] == expected);
    }
  }
}

TEST_CASE("ptx: setp's second predicate is the opposite comparison with the same third operand") {
  for (const std::string with : {"", ".and", ".or", ".xor"})
    for (const uint32_t c : {0U, 1U}) {
      const std::string third = with.empty() ? "" : ", %p3";
      const std::vector<uint32_t> out = run_words(
          "setp.eq.u32 %p3, " + std::to_string(c) + ", 1;\nsetp.lt" + with +
              ".s32 %p1|%p2, %r63, 20" + third +
              ";\nselp.u32 %r1, 1, 0, %p1;\n@%p2 add.u32 %r1, %r1, 2;\nmad.wide.u32 %d2, %r63, 4, "
              "%d63;\nst.global.u32 [%d2], %r1;",
          {0}, 32);
      const auto combined = [&](bool t) {
        return with.empty()     ? t
               : with == ".and" ? t && c != 0
               : with == ".or"  ? t || c != 0
                                : t != (c != 0);
      };
      for (uint32_t i = 0; i < 32; ++i)
        REQUIRE(out[i] == (combined(i < 20) ? 1U : 0U) + (combined(i >= 20) ? 2U : 0U));
    }
}

// A planted fault of the machine: any opcode of the tables does the work of any other one that
// takes the same operands. The samples tell them apart, or they are one function by definition.
TEST_CASE("ptx: the samples tell every two instructions apart") {
  std::vector<Row> rows = integer_rows();
  for (const auto& more : {real_rows(), convert_rows()})
    rows.insert(rows.end(), more.begin(), more.end());
  // Two's complement: the same function for both signs.
  // Down is towards zero where no result is negative.
  const auto meaning = [](const Row& row) {
    std::string name = row.opcode;
    for (const char* of : {"add", "sub", "mul.lo", "mad.lo", "selp", "mov", "setp.eq", "setp.ne"})
      if (name.starts_with(of) &&
          (name.find("f32") == std::string::npos || *of == 'm' || name.starts_with("selp")))
        return name.substr(0, name.rfind('.'));
    if (name.starts_with("shr.b")) name[4] = 'u';
    const size_t down = name.find(".rm.");
    if (down != std::string::npos &&
        (name.starts_with("sqrt") || name.find(".sat") != std::string::npos))
      name[down + 2] = 'z';
    return name;
  };
  std::map<std::pair<std::string, std::vector<uint64_t>>, std::vector<const Row*>> same;
  for (const Row& row : rows) {
    std::vector<uint64_t> out;
    for (const Operands& o : samples())
      out.push_back(row.defined && !row.defined(o.s) ? 0x1dead : row.expected(o.s));
    same[{row.operands, std::move(out)}].push_back(&row);
  }
  uint32_t pairs = 0;
  for (const auto& [key, group] : same)
    for (const Row* a : group)
      for (const Row* b : group) {
        // cvt between types of one register, .sat where it changes nothing, are compared by value
        // above.
        if (a->opcode < b->opcode && meaning(*a) != meaning(*b) && !a->opcode.starts_with("cvt") &&
            !b->opcode.starts_with("cvt")) {
          ++pairs;
          MESSAGE(a->opcode << " and " << b->opcode);
        }
      }
  CHECK(pairs == 0);
}

}  // namespace
}  // namespace mpq::test
