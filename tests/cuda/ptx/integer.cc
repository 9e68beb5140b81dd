// PTX ISA, "Integer Arithmetic", "Comparison and Selection", "Logic and Shift Instructions".
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

template <typename T>
struct TwiceOf;
template <>
struct TwiceOf<uint16_t> {
  using Type = uint32_t;
};
template <>
struct TwiceOf<int16_t> {
  using Type = int32_t;
};
template <>
struct TwiceOf<uint32_t> {
  using Type = uint64_t;
};
template <>
struct TwiceOf<int32_t> {
  using Type = int64_t;
};
template <>
struct TwiceOf<uint64_t> {
  __extension__ using Type = unsigned __int128;
};
template <>
struct TwiceOf<int64_t> {
  __extension__ using Type = __int128;
};
template <typename T>
using Twice = typename TwiceOf<T>::Type;
// All 64 bits wide or less: sums and low products do not depend on the sign.
template <typename T>
using Bits = std::make_unsigned_t<T>;

// Division by zero has an unspecified result, and compilers move divisions in front of the test
// that no use of it passes: rubbish.
template <typename T, bool kRemainder>
void divide(Warp& w, const Inst& in, uint32_t lanes) {
  T* d = values<T>(w, in.op[0]);
  const T* a = values<T>(w, in.op[1]);
  const T* b = values<T>(w, in.op[2]);
  for_lanes(lanes, [&](uint32_t i) {
    if (b[i] == 0) {
      d[i] = static_cast<T>(0x5b7a3c91d2e4f680U);
      return;
    }
    if (std::is_signed_v<T> && b[i] == static_cast<T>(-1)) {  // the lowest / -1 wraps
      d[i] = kRemainder ? T{0} : static_cast<T>(Bits<T>{0} - static_cast<Bits<T>>(a[i]));
      return;
    }
    d[i] = static_cast<T>(kRemainder ? a[i] % b[i] : a[i] / b[i]);
  });
}

template <typename T>
void add_arithmetic(Opcodes& t, const std::string& type) {
  using U = Bits<T>;
  const auto row = [&](const std::string& name, const char* operands, Execute e) {
    t.add(name + "." + type, {.operands = typed(operands, sizeof(T)), .execute = e});
  };
  row("add", "Ttt", binary<U>([](U a, U b) { return static_cast<U>(a + b); }));
  row("sub", "Ttt", binary<U>([](U a, U b) { return static_cast<U>(a - b); }));
  row("mul.lo", "Ttt", binary<U>([](U a, U b) { return static_cast<U>(uint64_t{a} * b); }));
  row("mul.hi", "Ttt",
      binary<T>([](T a, T b) { return static_cast<T>((Twice<T>{a} * b) >> (8 * sizeof(T))); }));
  row("mad.lo", "Tttt",
      ternary<U>([](U a, U b, U c) { return static_cast<U>(uint64_t{a} * b + c); }));
  row("mad.hi", "Tttt", ternary<T>([](T a, T b, T c) {
        const auto high = static_cast<U>((Twice<T>{a} * b) >> (8 * sizeof(T)));
        return static_cast<T>(static_cast<U>(high + static_cast<U>(c)));
      }));
  row("div", "Ttt", divide<T, false>);
  row("rem", "Ttt", divide<T, true>);
  row("min", "Ttt", binary<T>([](T a, T b) { return a < b ? a : b; }));
  row("max", "Ttt", binary<T>([](T a, T b) { return a > b ? a : b; }));
  row("selp", "Tttp", [](Warp& w, const Inst& in, uint32_t lanes) {
    T* d = values<T>(w, in.op[0]);
    const T* a = values<T>(w, in.op[1]);
    const T* b = values<T>(w, in.op[2]);
    const uint32_t c = predicate(w, in, 3);
    for_lanes(lanes, [&](uint32_t i) { d[i] = (c >> i & 1) != 0 ? a[i] : b[i]; });
  });
  // Counts beyond the width give 0, or copies of the sign.
  t.add("shr." + type, {.operands = typed("Ttw", sizeof(T)),
                        .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                          T* d = values<T>(w, in.op[0]);
                          const T* a = values<T>(w, in.op[1]);
                          const uint32_t* b = values<uint32_t>(w, in.op[2]);
                          constexpr uint32_t kBits = 8 * sizeof(T);
                          for_lanes(lanes, [&](uint32_t i) {
                            const uint32_t n = b[i] < kBits ? b[i] : kBits - 1;
                            const T shifted = static_cast<T>(a[i] >> n);
                            d[i] = std::is_signed_v<T> || b[i] < kBits ? shifted : T{0};
                          });
                        }});
  const auto comparisons = [&](auto... row_of) { (row_of(), ...); };
  comparisons([&] { add_setp<T>(t, "eq", type, [](T a, T b) { return a == b; }); },
              [&] { add_setp<T>(t, "ne", type, [](T a, T b) { return a != b; }); },
              [&] { add_setp<T>(t, "lt", type, [](T a, T b) { return a < b; }); },
              [&] { add_setp<T>(t, "le", type, [](T a, T b) { return a <= b; }); },
              [&] { add_setp<T>(t, "gt", type, [](T a, T b) { return a > b; }); },
              [&] { add_setp<T>(t, "ge", type, [](T a, T b) { return a >= b; }); });
  if constexpr (std::is_signed_v<T>) {
    row("neg", "Tt", unary<U>([](U a) { return static_cast<U>(0 - a); }));
    row("abs", "Tt", unary<T>([](T a) {
          return a < 0 ? static_cast<T>(static_cast<U>(0 - static_cast<U>(a))) : a;
        }));
  }
}

template <typename T>
void add_wide(Opcodes& t, const std::string& type) {
  using D = Twice<T>;
  using U = std::make_unsigned_t<D>;
  const std::string big(1, sized('W', sizeof(D))), small(1, sized('w', sizeof(D)));
  t.add("mul.wide." + type, {.operands = join({big, typed("tt", sizeof(T))}),
                             .execute = binary_to<D, T>([](T a, T b) { return D{a} * D{b}; })});
  t.add("mad.wide." + type,
        {.operands = join({big, typed("tt", sizeof(T)), small}),
         .execute = ternary_to<D, T>([](T a, T b, D c) {
           return static_cast<D>(static_cast<U>(D{a} * D{b}) + static_cast<U>(c));
         })});
}

// Types without a sign.
template <typename T>
void add_logic(Opcodes& t, const std::string& type) {
  const auto row = [&](const std::string& name, const char* operands, Execute e) {
    t.add(name + "." + type, {.operands = typed(operands, sizeof(T)), .execute = e});
  };
  row("and", "Ttt", binary<T>([](T a, T b) { return static_cast<T>(a & b); }));
  row("or", "Ttt", binary<T>([](T a, T b) { return static_cast<T>(a | b); }));
  row("xor", "Ttt", binary<T>([](T a, T b) { return static_cast<T>(a ^ b); }));
  row("not", "Tt", unary<T>([](T a) { return static_cast<T>(~a); }));
  row("cnot", "Tt", unary<T>([](T a) { return static_cast<T>(a == 0); }));
  row("shl", "Ttw", [](Warp& w, const Inst& in, uint32_t lanes) {
    T* d = values<T>(w, in.op[0]);
    const T* a = values<T>(w, in.op[1]);
    const uint32_t* b = values<uint32_t>(w, in.op[2]);
    for_lanes(lanes, [&](uint32_t i) {
      d[i] = b[i] < 8 * sizeof(T) ? static_cast<T>(uint64_t{a[i]} << (b[i] & 63)) : T{0};
    });
  });
  for (const char* name : {"shr", "selp"})  // .bN means .uN
    for (const Form& form : *t.find(std::string(name) + ".u" + type.substr(1)))
      t.add(std::string(name) + "." + type, Form(form));
  add_setp<T>(t, "eq", type, [](T a, T b) { return a == b; });
  add_setp<T>(t, "ne", type, [](T a, T b) { return a != b; });
}

template <typename T>
void add_bit_counts(Opcodes& t, const std::string& type) {
  const std::string from_t = join({"W", typed("t", sizeof(T))});
  const auto count = [&](const char* name, Execute e) {
    t.add(std::string(name) + "." + type, {.operands = from_t, .execute = e});
  };
  count("popc", binary_to<uint32_t, T>([](T a, T) { return std::popcount(a); }));
  count("clz", binary_to<uint32_t, T>([](T a, T) { return std::countl_zero(a); }));
  t.add("brev." + type,
        {.operands = typed("Tt", sizeof(T)), .execute = unary<T>([](T a) {
                                               T out = 0;
                                               for (uint32_t i = 0; i < 8 * sizeof(T); ++i)
                                                 out = static_cast<T>(out << 1 | (a >> i & 1));
                                               return out;
                                             })});
  t.add("bfi." + type,
        {.operands = typed("Tttww", sizeof(T)),
         .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           T* d = values<T>(w, in.op[0]);
           const T* a = values<T>(w, in.op[1]);
           const T* b = values<T>(w, in.op[2]);
           const uint32_t* c = values<uint32_t>(w, in.op[3]);
           const uint32_t* n = values<uint32_t>(w, in.op[4]);
           for_lanes(lanes, [&](uint32_t i) {
             const uint32_t at = c[i] & 255, bits = n[i] & 255;
             T f = b[i];
             const T from = a[i];
             for (uint32_t k = 0; k < bits && at + k < 8 * sizeof(T); ++k)
               f = static_cast<T>((f & ~(T{1} << (at + k))) | ((from >> k & 1) << (at + k)));
             d[i] = f;
           });
         }});
}

template <typename T>
void add_bit_field(Opcodes& t, const std::string& type) {
  t.add("bfe." + type,
        {.operands = typed("Ttww", sizeof(T)),
         .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           using U = Bits<T>;
           U* d = values<U>(w, in.op[0]);
           const U* a = values<U>(w, in.op[1]);
           const uint32_t* b = values<uint32_t>(w, in.op[2]);
           const uint32_t* c = values<uint32_t>(w, in.op[3]);
           for_lanes(lanes, [&](uint32_t i) {
             constexpr uint32_t kTop = 8 * sizeof(T) - 1;
             const uint32_t at = b[i] & 255, bits = c[i] & 255;
             const U sign =
                 !std::is_signed_v<T> || bits == 0 ? 0 : a[i] >> std::min(at + bits - 1, kTop) & 1;
             U out = 0;
             for (uint32_t k = 0; k <= kTop; ++k)
               out |= (k < bits && at + k <= kTop ? a[i] >> (at + k) & 1 : sign) << k;
             d[i] = out;
           });
         }});
}

// bfind: position of the leading bit that is not a copy of the sign; ~0 if there is none.
template <typename T>
void add_find(Opcodes& t, const std::string& type) {
  const auto leading = [](T a, T) {
    const auto u = static_cast<Bits<T>>(a < 0 ? ~a : a);
    return static_cast<uint32_t>(std::bit_width(u)) - 1;
  };
  const auto shift = [](T a, T) {
    const auto u = static_cast<Bits<T>>(a < 0 ? ~a : a);
    return u == 0 ? ~0U : static_cast<uint32_t>(std::countl_zero(u));
  };
  const std::string operands = join({"W", typed("t", sizeof(T))});
  t.add("bfind." + type, {.operands = operands, .execute = binary_to<uint32_t, T>(leading)});
  t.add("bfind.shiftamt." + type, {.operands = operands, .execute = binary_to<uint32_t, T>(shift)});
}

// Dot product of four bytes, or of two halves and the low or high pair of bytes.
template <typename A, typename B>
void add_dot(Opcodes& t, const std::string& types) {
  t.add("dp4a." + types,
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               for (uint32_t i = 0; i < 32; i += 8)
                                 c += static_cast<uint32_t>(int32_t{static_cast<A>(a >> i)} *
                                                            int32_t{static_cast<B>(b >> i)});
                               return c;
                             })});
}

uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t s = selectors >> (4 * i) & 15;
    auto byte = static_cast<uint32_t>(bytes >> (8 * (s & 7)) & 255);
    if ((s & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    out |= byte << (8 * i);
  }
  return out;
}

void lop3(Warp& w, const Inst& in, uint32_t lanes) {
  uint32_t* d = values<uint32_t>(w, in.op[0]);
  const uint32_t* a = values<uint32_t>(w, in.op[1]);
  const uint32_t* b = values<uint32_t>(w, in.op[2]);
  const uint32_t* c = values<uint32_t>(w, in.op[3]);
  const uint32_t table = in.op[4];
  for_lanes(lanes, [&](uint32_t i) {
    const uint32_t x = a[i], y = b[i], z = c[i];
    uint32_t out = 0;
    for (uint32_t k = 0; k < 8; ++k)
      if ((table >> k & 1) != 0)
        out |= ((k & 4) != 0 ? x : ~x) & ((k & 2) != 0 ? y : ~y) & ((k & 1) != 0 ? z : ~z);
    d[i] = out;
  });
}

template <bool kLeft, bool kWrap>
uint32_t funnel(uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t n = kWrap ? c & 31 : std::min(c, 32U);
  const uint64_t ba = uint64_t{b} << 32 | a;
  return kLeft ? static_cast<uint32_t>(ba << n >> 32) : static_cast<uint32_t>(ba >> n);
}

void add_predicates(Opcodes& t) {
  const auto row = [&](const char* opcode, auto op) {
    using Op = decltype(op);
    t.add(opcode, {.operands = "Ppp", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                     set_predicate(w, in.op[0], Op{}(predicate(w, in, 1), predicate(w, in, 2)),
                                   lanes);
                   }});
  };
  row("and.pred", [](uint32_t a, uint32_t b) { return a & b; });
  row("or.pred", [](uint32_t a, uint32_t b) { return a | b; });
  row("xor.pred", [](uint32_t a, uint32_t b) { return a ^ b; });
  t.add("not.pred", {.operands = "Pp", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                       set_predicate(w, in.op[0], ~predicate(w, in, 1), lanes);
                     }});
}

}  // namespace

void add_integer(Opcodes& t) {
  add_arithmetic<uint16_t>(t, "u16");
  add_arithmetic<int16_t>(t, "s16");
  add_arithmetic<uint32_t>(t, "u32");
  add_arithmetic<int32_t>(t, "s32");
  add_arithmetic<uint64_t>(t, "u64");
  add_arithmetic<int64_t>(t, "s64");
  add_wide<uint16_t>(t, "u16");
  add_wide<int16_t>(t, "s16");
  add_wide<uint32_t>(t, "u32");
  add_wide<int32_t>(t, "s32");
  add_logic<uint16_t>(t, "b16");
  add_logic<uint32_t>(t, "b32");
  add_logic<uint64_t>(t, "b64");
  add_bit_counts<uint32_t>(t, "b32");
  add_bit_counts<uint64_t>(t, "b64");
  add_bit_field<uint32_t>(t, "u32");
  add_bit_field<int32_t>(t, "s32");
  add_bit_field<uint64_t>(t, "u64");
  add_bit_field<int64_t>(t, "s64");
  add_find<uint32_t>(t, "u32");
  add_find<int32_t>(t, "s32");
  add_find<uint64_t>(t, "u64");
  add_find<int64_t>(t, "s64");
  add_dot<uint8_t, uint8_t>(t, "u32.u32");
  add_dot<uint8_t, int8_t>(t, "u32.s32");
  add_dot<int8_t, uint8_t>(t, "s32.u32");
  add_dot<int8_t, int8_t>(t, "s32.s32");
  add_predicates(t);
  t.add("prmt.b32",
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               return permute_bytes(a, b, c);
                             })});
  t.add("lop3.b32", {.operands = "Wwwwi", .execute = lop3});
  t.add("shf.l.wrap.b32",
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               return funnel<true, true>(a, b, c);
                             })});
  t.add("shf.l.clamp.b32",
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               return funnel<true, false>(a, b, c);
                             })});
  t.add("shf.r.wrap.b32",
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               return funnel<false, true>(a, b, c);
                             })});
  t.add("shf.r.clamp.b32",
        {.operands = "Wwww", .execute = ternary<uint32_t>([](uint32_t a, uint32_t b, uint32_t c) {
                               return funnel<false, false>(a, b, c);
                             })});
  t.add("add.sat.s32", {.operands = "Www", .execute = binary<int32_t>([](int32_t a, int32_t b) {
                                             const int64_t sum = int64_t{a} + b;
                                             return static_cast<int32_t>(
                                                 std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX));
                                           })});
  t.add("sub.sat.s32", {.operands = "Www", .execute = binary<int32_t>([](int32_t a, int32_t b) {
                                             const int64_t difference = int64_t{a} - b;
                                             return static_cast<int32_t>(std::clamp<int64_t>(
                                                 difference, INT32_MIN, INT32_MAX));
                                           })});
}

}  // namespace mpq::ptx
