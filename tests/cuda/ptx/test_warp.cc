// What lanes, warps and blocks do together: against the ISA's definitions, with faults that must be
// named.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "tests/cuda/ptx/opcodes.h"
#include "tests/cuda/ptx/test_support.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using ptx::Async;
using ptx::Memory;
using ptx::RunOptions;

std::vector<uint32_t> random_words(size_t n, Rng& rng) {
  std::vector<uint32_t> v(n);
  for (uint32_t& w : v) w = static_cast<uint32_t>(rng.next());
  return v;
}

// Loads word `i` of each thread's `count` into %r<i + 1>; stores %r10 as the thread's word.
std::string load_words(uint32_t count) {
  std::string text = "mad.wide.u32 %d1, %r63, " + std::to_string(4 * count) + ", %d62;\n";
  for (uint32_t i = 0; i < count; ++i)
    text += "ld.global.u32 %r" + std::to_string(i + 1) + ", [%d1+" + std::to_string(4 * i) + "];\n";
  return text;
}
const char* const kStore = "mad.wide.u32 %d2, %r63, 4, %d63;\nst.global.u32 [%d2], %r10;\n";

// The error of a body that has to fail.
std::string error_of(const std::string& body, uint32_t threads = 32, uint32_t shared_bytes = 4096,
                     uint32_t target = 80) {
  Memory memory;
  std::vector<uint8_t> in(256), out(256);
  const uint64_t x = memory.map(std::span<const uint8_t>(in)),
                 y = memory.map(std::span<uint8_t>(out));
  return run_text(
      kernel_text(
          ".param .u64 x, .param .u64 y",
          "ld.param.u64 %d62, [x];\nld.param.u64 %d63, [y];\nmov.u32 %r63, %tid.x;\n" + body,
          target),
      memory, {}, {threads, 1, 1}, {x, y}, {}, shared_bytes);
}
bool has(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE("'" << text << "' lacks '" << part << "'");
  return found;
}

TEST_CASE("ptx: shfl takes the lane that the pseudocode of the ISA names") {
  Rng rng(test_seed());
  for (const std::string mode : {"up", "down", "bfly", "idx"})
    for (const bool with_predicate : {true, false})
      for (uint32_t round = 0; round < 40; ++round) {
        std::vector<uint32_t> in = random_words(32 * 3, rng);
        const uint32_t b = rng.below(40),
                       c = rng.pick({0x1fU, 0U, 0x1c1fU, 0x1800U, 0x181fU, 0x100fU});
        for (uint32_t lane = 0; lane < 32; ++lane) {
          in[lane * 3 + 1] = rng.chance(3) && mode == "idx" ? rng.below(32) : b;
          in[lane * 3 + 2] = c;
        }
        const auto out = run_words(
            load_words(3) +
                (with_predicate
                     ? "shfl.sync." + mode +
                           ".b32 %r10|%p1, %r1, %r2, %r3, -1;\n@!%p1 add.u32 %r10, %r10, 1;\n"
                     : "shfl.sync." + mode + ".b32 %r10, %r1, %r2, %r3, 0xffffffff;\n") +
                kStore,
            in, 32);
        for (uint32_t lane = 0; lane < 32; ++lane) {
          const int32_t bval = static_cast<int32_t>(in[lane * 3 + 1] & 31),
                        cval = static_cast<int32_t>(c & 31),
                        mask = static_cast<int32_t>(c >> 8 & 31), l = static_cast<int32_t>(lane);
          const int32_t max_lane = (l & mask) | (cval & ~mask), min_lane = l & mask;
          int32_t j = mode == "up"     ? l - bval
                      : mode == "down" ? l + bval
                      : mode == "bfly" ? l ^ bval
                                       : min_lane | (bval & ~mask);
          const bool p = mode == "up" ? j >= max_lane : j <= max_lane;
          if (!p) j = l;
          REQUIRE(out[lane] == in[static_cast<uint32_t>(j) * 3] + (!p && with_predicate ? 1 : 0));
        }
      }
}

TEST_CASE("ptx: votes, matches and reductions see all lanes of the mask") {
  Rng rng(test_seed());
  for (uint32_t round = 0; round < 20; ++round) {
    std::vector<uint32_t> in = random_words(32, rng);
    const uint32_t range = rng.pick({1U, 2U, 5U});
    for (uint32_t& w : in) w = rng.chance(2) ? w : rng.below(range);
    const auto one = [&](const std::string& instructions) {
      return run_words(load_words(1) + "setp.ne.s32 %p1, %r1, 0;\n" + instructions + kStore, in,
                       32);
    };
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 32; ++i) bits |= uint32_t{in[i] != 0} << i;
    const auto vote = [&](const char* mode) {
      return one("vote.sync." + std::string(mode) +
                 ".pred %p2, %p1, -1;\nselp.u32 %r10, 1, 0, %p2;\n");
    };
    const auto all = vote("all"), any = vote("any"), uni = vote("uni");
    const auto none = one("vote.sync.any.pred %p2, !%p1, -1;\nselp.u32 %r10, 1, 0, %p2;\n");
    const auto ballot = one("vote.sync.ballot.b32 %r10, %p1, -1;\n"),
               match = one("match.any.sync.b32 %r10, %r1, -1;\n");
    for (uint32_t i = 0; i < 32; ++i) {
      REQUIRE(all[i] == (bits == ~0U));
      REQUIRE(any[i] == (bits != 0));
      REQUIRE(uni[i] == (bits == ~0U || bits == 0));
      REQUIRE(none[i] == (bits != ~0U));
      REQUIRE(ballot[i] == bits);
      uint32_t equal = 0;
      for (uint32_t j = 0; j < 32; ++j) equal |= uint32_t{in[j] == in[i]} << j;
      REQUIRE(match[i] == equal);
    }
    const auto redux = [&](const char* op) {
      return one("redux.sync." + std::string(op) + " %r10, %r1, -1;\n")[7];
    };
    const auto fold = [&](auto f) { return std::accumulate(in.begin() + 1, in.end(), in[0], f); };
    const auto as_int = [](uint32_t v) { return static_cast<int32_t>(v); };
    CHECK(redux("add.u32") == fold([](uint32_t a, uint32_t b) { return a + b; }));
    CHECK(redux("add.s32") == fold([](uint32_t a, uint32_t b) { return a + b; }));
    CHECK(redux("min.u32") == fold([](uint32_t a, uint32_t b) { return std::min(a, b); }));
    CHECK(redux("max.u32") == fold([](uint32_t a, uint32_t b) { return std::max(a, b); }));
    CHECK(redux("min.s32") ==
          fold([&](uint32_t a, uint32_t b) { return as_int(a) < as_int(b) ? a : b; }));
    CHECK(redux("max.s32") ==
          fold([&](uint32_t a, uint32_t b) { return as_int(a) < as_int(b) ? b : a; }));
    CHECK(redux("and.b32") == fold([](uint32_t a, uint32_t b) { return a & b; }));
    CHECK(redux("or.b32") == fold([](uint32_t a, uint32_t b) { return a | b; }));
    CHECK(redux("xor.b32") == fold([](uint32_t a, uint32_t b) { return a ^ b; }));
  }
}

TEST_CASE("ptx: ldmatrix gives each lane its elements of each matrix") {
  for (const uint32_t target : {75U, 80U})
    for (const uint32_t n : {1U, 2U, 4U})
      for (const bool transposed : {false, true}) {
        // Row r of matrix i lies at 16 * order(8 i + r); element e of it holds 1000 i + 100 r + e.
        std::vector<uint32_t> in(128);
        const auto order = [](uint32_t row) { return (row * 5 + 3) % 32; };
        for (uint32_t row = 0; row < 32; ++row)
          for (uint32_t e = 0; e < 8; ++e)
            in[order(row) * 4 + e / 2] |= (row / 8 * 1000 + row % 8 * 100 + e) << (16 * (e % 2));
        std::string registers, stores;
        for (uint32_t i = 0; i < n; ++i) {
          registers += (i != 0 ? ", %r" : "%r") + std::to_string(20 + i);
          stores += "st.global.u32 [%d4+" + std::to_string(4 * i) + "], %r" +
                    std::to_string(20 + i) + ";\n";
        }
        const auto out = run_words(
            "mov.u32 %r1, dyn;\nshl.b32 %r2, %r63, 4;\nadd.u32 %r2, %r2, %r1;\nmad.wide.u32 %d1, "
            "%r63, 16, %d62;\nld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%d1];\nst.shared.v4.u32 "
            "[%r2], {%r3, %r4, %r5, %r6};\nbar.sync 0;\nmad.lo.u32 %r7, %r63, 5, 3;\nand.b32 %r7, "
            "%r7, 31;\nmad.lo.u32 %r7, %r7, 16, %r1;\nldmatrix.sync.aligned.m8n8.x" +
                std::to_string(n) + (transposed ? ".trans" : "") + ".shared.b16 {" + registers +
                "}, [%r7];\nmad.wide.u32 %d4, %r63, " + std::to_string(4 * n) + ", %d63;\n" +
                stores,
            in, 32 * n, 32, target);
        for (uint32_t lane = 0; lane < 32; ++lane)
          for (uint32_t i = 0; i < n; ++i)
            for (uint32_t half = 0; half < 2; ++half) {
              uint32_t r = lane / 4, e = lane % 4 * 2 + half;
              if (transposed) std::swap(r, e);
              REQUIRE((out[lane * n + i] >> (16 * half) & 0xffff) == i * 1000 + r * 100 + e);
            }
      }
}

// Which element of A, B and C a lane's registers hold: the tables of the ISA's figures for one lane
// each, as (row, first k) of A's registers, (first k) of B's, (row, column) of C's, for lane 13
// (g = 3, t = 1).
struct Shape {
  const char* name;
  uint32_t m, k, bits;
  std::vector<std::pair<uint32_t, uint32_t>> a13;
  std::vector<uint32_t> b13;
  std::vector<std::pair<uint32_t, uint32_t>> c13;
};
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {"m8n8k16", 8, 16, 8, {{3, 4}}, {4}, {{3, 2}, {3, 3}}},
      {"m16n8k16", 16, 16, 8, {{3, 4}, {11, 4}}, {4}, {{3, 2}, {3, 3}, {11, 2}, {11, 3}}},
      {"m16n8k32",
       16,
       32,
       8,
       {{3, 4}, {11, 4}, {3, 20}, {11, 20}},
       {4, 20},
       {{3, 2}, {3, 3}, {11, 2}, {11, 3}}},
      {"m8n8k32", 8, 32, 4, {{3, 8}}, {8}, {{3, 2}, {3, 3}}},
      {"m16n8k32", 16, 32, 4, {{3, 8}, {11, 8}}, {8}, {{3, 2}, {3, 3}, {11, 2}, {11, 3}}},
      {"m16n8k64",
       16,
       64,
       4,
       {{3, 8}, {11, 8}, {3, 40}, {11, 40}},
       {8, 40},
       {{3, 2}, {3, 3}, {11, 2}, {11, 3}}}};
  return all;
}

// The rows and columns of any lane follow from lane 13: g moves rows and B's column, t moves k and
// C's columns.
struct Fragment {
  uint32_t row, k;
};
Fragment a_place(const Shape& s, uint32_t lane, uint32_t r) {
  return {s.a13[r].first - 3 + lane / 4,
          s.a13[r].second + (lane % 4) * (32 / s.bits) - 32 / s.bits};
}
uint32_t b_k(const Shape& s, uint32_t lane, uint32_t r) {
  return s.b13[r] + (lane % 4) * (32 / s.bits) - 32 / s.bits;
}

std::string vector_of(uint32_t first, size_t n) {
  std::string text = "{";
  for (size_t i = 0; i < n; ++i) text += (i != 0 ? ", %r" : "%r") + std::to_string(first + i);
  return text + "}";
}

// in: for each lane A's registers, B's, C's.
std::vector<uint32_t> run_mma(const Shape& s, const std::string& types,
                              const std::vector<uint32_t>& in) {
  const size_t a = s.a13.size(), b = s.b13.size(), c = s.c13.size();
  const uint32_t words = static_cast<uint32_t>(a + b + c);
  std::string text = load_words(words) + "mma.sync.aligned." + s.name + ".row.col" + types + " " +
                     vector_of(40, c) + ", " + vector_of(1, a) + ", " +
                     vector_of(static_cast<uint32_t>(1 + a), b) + ", " +
                     vector_of(static_cast<uint32_t>(1 + a + b), c) +
                     ";\nmad.wide.u32 %d2, %r63, " + std::to_string(4 * c) + ", %d63;\n";
  for (size_t i = 0; i < c; ++i)
    text +=
        "st.global.u32 [%d2+" + std::to_string(4 * i) + "], %r" + std::to_string(40 + i) + ";\n";
  return run_words(text, in, 32 * c);
}

int32_t element(uint32_t code, uint32_t bits, bool is_signed) {
  code &= (1U << bits) - 1;
  return static_cast<int32_t>(code) - (is_signed && code >> (bits - 1) != 0 ? 1 << bits : 0);
}

// The matrices that the registers hold, multiplied plainly.
std::vector<uint32_t> plain_product(const Shape& s, bool a_signed, bool b_signed, bool saturate,
                                    const std::vector<uint32_t>& in) {
  const size_t a = s.a13.size(), b = s.b13.size(), c = s.c13.size(), words = a + b + c;
  const uint32_t e = 32 / s.bits;
  std::vector<int32_t> left(s.m * s.k), right(s.k * 8);
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t i = 0; i < e; ++i) {
      for (uint32_t r = 0; r < a; ++r) {
        const Fragment f = a_place(s, lane, r);
        left[f.row * s.k + f.k + i] =
            element(in[lane * words + r] >> (s.bits * i), s.bits, a_signed);
      }
      for (uint32_t r = 0; r < b; ++r)
        right[(b_k(s, lane, r) + i) * 8 + lane / 4] =
            element(in[lane * words + a + r] >> (s.bits * i), s.bits, b_signed);
    }
  std::vector<uint32_t> out(32 * c);
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t r = 0; r < c; ++r) {
      const uint32_t row = s.c13[r].first - 3 + lane / 4,
                     column = s.c13[r].second - 2 + lane % 4 * 2;
      int64_t sum = static_cast<int32_t>(in[lane * words + a + b + r]);
      for (uint32_t k = 0; k < s.k; ++k) sum += left[row * s.k + k] * right[k * 8 + column];
      if (saturate) sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
      out[lane * c + r] = static_cast<uint32_t>(sum);
    }
  return out;
}

TEST_CASE("ptx: every integer mma is the plain product of the matrices in its registers") {
  Rng rng(test_seed());
  for (const Shape& s : shapes())
    for (const bool a_signed : {false, true})
      for (const bool b_signed : {false, true})
        for (const bool saturate : {false, true}) {
          const std::string n = std::to_string(s.bits),
                            types = std::string(saturate ? ".satfinite" : "") + ".s32." +
                                    (a_signed ? "s" : "u") + n + (b_signed ? ".s" : ".u") + n +
                                    ".s32";
          const size_t words = s.a13.size() + s.b13.size() + s.c13.size();
          for (uint32_t round = 0; round < 6; ++round) {
            std::vector<uint32_t> in = random_words(32 * words, rng);
            if (round == 1)  // near the ends of int32
              for (size_t i = 0; i < in.size(); ++i)
                if (i % words >= s.a13.size() + s.b13.size())
                  in[i] = rng.chance(2) ? 0x7ffffff0 : 0x80000010;
            if (round == 2)  // one element of each
              for (size_t i = 0; i < in.size(); ++i) in[i] = 0;
            if (round == 2)
              in[rng.below(32) * words] = in[rng.below(32) * words + s.a13.size()] =
                  1U << (s.bits * rng.below(32 / s.bits));
            REQUIRE(run_mma(s, types, in) == plain_product(s, a_signed, b_signed, saturate, in));
          }
        }
}

TEST_CASE("ptx: one element of A and one of B move exactly one sum") {
  Rng rng(test_seed());
  for (const Shape& s : shapes()) {
    const size_t a = s.a13.size(), b = s.b13.size(), c = s.c13.size(), words = a + b + c;
    const uint32_t e = 32 / s.bits;
    for (uint32_t row = 0; row < s.m; ++row)
      for (uint32_t round = 0; round < 4; ++round) {
        const uint32_t k = rng.below(s.k), column = rng.below(8);
        std::vector<uint32_t> in(32 * words, 0);
        for (uint32_t lane = 0; lane < 32; ++lane) {
          for (uint32_t r = 0; r < a; ++r) {
            const Fragment f = a_place(s, lane, r);
            if (f.row == row && k >= f.k && k - f.k < e)
              in[lane * words + r] = 1U << (s.bits * (k - f.k));
          }
          for (uint32_t r = 0; r < b; ++r) {
            const uint32_t at = b_k(s, lane, r);
            if (lane / 4 == column && k >= at && k - at < e)
              in[lane * words + a + r] = 1U << (s.bits * (k - at));
          }
        }
        const std::string n = std::to_string(s.bits);
        const auto out = run_mma(s, ".s32.u" + n + ".u" + n + ".s32", in);
        for (uint32_t lane = 0; lane < 32; ++lane)
          for (uint32_t r = 0; r < c; ++r)
            REQUIRE(out[lane * c + r] == (s.c13[r].first - 3 + lane / 4 == row &&
                                          s.c13[r].second - 2 + lane % 4 * 2 == column));
      }
  }
}

TEST_CASE("ptx: loads and stores of every type, width and space") {
  Rng rng(test_seed());
  const std::vector<uint32_t> in = random_words(32 * 4, rng);
  const struct {
    const char* type;
    uint32_t bytes;
    bool is_signed;
  } types[] = {{"b8", 1, false},  {"u8", 1, false},  {"s8", 1, true},   {"b16", 2, false},
               {"u16", 2, false}, {"s16", 2, true},  {"b32", 4, false}, {"u32", 4, false},
               {"s32", 4, true},  {"f32", 4, false}, {"b64", 8, false}, {"u64", 8, false},
               {"s64", 8, true}};
  const auto byte = [&](size_t at) { return in[at / 4] >> (8 * (at % 4)) & 255; };
  for (const auto& t : types)
    for (const uint32_t count : {1U, 2U, 4U}) {
      if (t.bytes * count > 16) continue;
      const std::string vector = count == 1 ? "" : ".v" + std::to_string(count);
      for (const uint32_t width : {16U, 32U, 64U}) {
        if (width < t.bytes * 8) continue;
        const char letter = width == 16 ? 'h' : width == 32 ? 'r' : 'd';
        std::string list;
        for (uint32_t i = 0; i < count; ++i)
          list += std::string(i != 0 ? ", %" : "%") + letter + std::to_string(10 + i);
        if (count > 1) list = "{" + list + "}";
        // Global to register to shared to local to generic to global, and the register itself.
        const std::string type = vector + "." + t.type;
        std::string body =
            ".local .align 16 .b8 mine[16];\nmov.u32 %r1, dyn;\nshl.b32 %r2, %r63, 4;\nadd.u32 "
            "%r1, %r1, %r2;\nmad.wide.u32 %d1, %r63, 16, %d62;\nld.global" +
            type + " " + list + ", [%d1];\nst.shared" + type + " [%r1], " + list + ";\nld.shared" +
            type + " " + list + ", [%r1];\nmov.u64 %d2, mine;\nst.local" + type + " [%d2], " +
            list + ";\nld.local" + type + " " + list + ", [mine];\ncvta.local.u64 %d3, %d2;\nld" +
            type + " " + list + ", [%d3];\ncvt.u64.u32 %d4, %r1;\ncvta.shared.u64 %d4, %d4;\nst" +
            type + " [%d4], " + list + ";\nld" + type + " " + list +
            ", [%d4];\nmad.wide.u32 %d5, %r63, 48, %d63;\nst.global" + type + " [%d5], " + list +
            ";\n";
        for (uint32_t i = 0; i < count; ++i) {
          const std::string r = std::string("%") + letter + std::to_string(10 + i);
          body += "cvt." + std::string(t.is_signed ? "s64.s" : "u64.u") + std::to_string(width) +
                  " %d40, " + r + ";\nst.global.u64 [%d5+" + std::to_string(16 + 8 * i) +
                  "], %d40;\n";
        }
        const auto out = run_words(body, in, 32 * 12);
        for (uint32_t lane = 0; lane < 32; ++lane)
          for (uint32_t i = 0; i < count; ++i) {
            uint64_t raw = 0;
            for (uint32_t k = 0; k < t.bytes; ++k)
              raw |= uint64_t{byte(lane * 16 + i * t.bytes + k)} << (8 * k);
            const uint64_t sign = t.is_signed && (raw >> (8 * t.bytes - 1) & 1) != 0 && t.bytes < 8
                                      ? ~uint64_t{0} << (8 * t.bytes)
                                      : 0;
            const uint64_t stored =
                uint64_t{out[lane * 12 + 5 + 2 * i]} << 32 | out[lane * 12 + 4 + 2 * i];
            REQUIRE(stored == (raw | sign));
            for (uint32_t k = 0; k < t.bytes; ++k)
              REQUIRE((out[lane * 12 + (i * t.bytes + k) / 4] >> (8 * ((i * t.bytes + k) % 4)) &
                       255) == byte(lane * 16 + i * t.bytes + k));
          }
      }
    }
}

TEST_CASE("ptx: .const, .param and vectors of registers") {
  Memory memory;
  std::vector<uint8_t> out(64);
  const uint64_t y = memory.map(std::span<uint8_t>(out));
  std::string types, expected;
  for (const char* t :
       {"b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64"})
    for (const std::string v : {"", ".v2", ".v4"}) {
      if (v == ".v4" && std::string(t).ends_with("64")) continue;
      const char letter = std::string(t).ends_with("64") ? 'd' : 'r';
      std::string list = std::string("%") + letter + "10";
      for (uint32_t i = 1; i < (v.empty() ? 1U : v == ".v2" ? 2U : 4U); ++i)
        list += std::string(", %") + letter + std::to_string(10 + i);
      types += "ld.const" + v + "." + t + " " + (v.empty() ? list : "{" + list + "}") +
               ", [table];\nld.param" + v + "." + t + " " + (v.empty() ? list : "{" + list + "}") +
               ", [b];\n";
    }
  const std::string text =
      ".version 9.0\n.target sm_80\n.address_size 64\n.const .align 16 .b8 table[16] = {1, 2, 3, "
      "4, 5, 6, 7, 255};\n.global .align 4 .u32 counter[2] = {7, 0xffffffff};\n.visible .entry "
      "k(.param .u64 y, .param .align 16 .b8 b[16])\n{ .reg .b16 %h<8>; .reg .b32 %r<20>; .reg "
      ".b64 %d<20>;\n" +
      types +
      "ld.param.u64 %d1, [y]; ld.const.s8 %r1, [table+7]; st.global.u32 [%d1], %r1;\nld.param.u32 "
      "%r2, [b+4]; st.global.u32 [%d1+4], %r2;\nmov.b32 {%h1, %h2}, %r2; mov.b32 %r3, {%h2, %h1}; "
      "st.global.u32 [%d1+8], %r3;\nmov.b64 %d2, {%r2, %r3}; mov.b64 {%r4, %r5}, %d2; "
      "st.global.u32 [%d1+12], %r5;\nmov.b64 {%h1, %h2, %h3, %h4}, %d2; mov.b64 %d3, {%h4, %h3, "
      "%h2, %h1}; st.global.u64 [%d1+16], %d3;\nmov.u64 %d4, counter; ld.global.u32 %r6, [%d4+4]; "
      "st.global.u32 [%d1+24], %r6;\nmov.u64 %d5, b; cvta.param.u64 %d6, %d5; ld.u32 %r7, [%d6]; "
      "st.global.u32 [%d1+28], %r7;\ncvta.to.global.u64 %d7, %d1; cvta.global.u64 %d7, %d7; "
      "cvta.to.local.u64 %d8, %d7; cvta.to.const.u64 %d8, %d8; cvta.const.u64 %d8, %d8; "
      "cvta.to.param.u64 %d8, %d8; cvta.to.shared.u64 %d9, %d8; cvta.shared.u64 %d9, %d9; "
      "cvta.local.u64 %d9, %d9; st.u32 [%d9+32], %r7; ret; }\n";
  REQUIRE(run_text(text, memory, {}, {1, 1, 1}, {y, 0, 0x1111222233334444, 0x5555666677778888}) ==
          "");
  uint32_t words[9];
  std::memcpy(words, out.data(), sizeof words);
  CHECK(words[0] == 0xffffffff);
  CHECK(words[1] == 0x11112222);
  CHECK(words[2] == 0x22221111);
  CHECK(words[3] == 0x22221111);
  CHECK(words[4] == 0x11112222);  // {1111, 2222, 2222, 1111} from the high end
  CHECK(words[5] == 0x22221111);
  CHECK(words[6] == 0xffffffff);
  CHECK(words[7] == 0x33334444);
  CHECK(words[8] == 0x33334444);
}

TEST_CASE("ptx: atomics return the old value and leave the new one") {
  const struct {
    const char* name;
    uint32_t bytes;
    bool red;
  } ops[] = {
      {"add.u32", 4, true}, {"add.s32", 4, true},   {"add.u64", 8, true},   {"min.u32", 4, true},
      {"min.s32", 4, true}, {"min.u64", 8, true},   {"min.s64", 8, true},   {"max.u32", 4, true},
      {"max.s32", 4, true}, {"max.u64", 8, true},   {"max.s64", 8, true},   {"and.b32", 4, true},
      {"and.b64", 8, true}, {"or.b32", 4, true},    {"or.b64", 8, true},    {"xor.b32", 4, true},
      {"xor.b64", 8, true}, {"exch.b32", 4, false}, {"exch.b64", 8, false}, {"inc.u32", 4, true},
      {"dec.u32", 4, true}, {"cas.b32", 4, false},  {"cas.b64", 8, false}};
  const uint64_t values[] = {
      0, 1, 5, 6, 7, 0x7fffffff, 0x80000000, 0xffffffff, 0x8000000000000000, ~uint64_t{0}};
  for (const auto& op : ops)
    for (const std::string space : {".global", ".shared", ""})
      for (const uint64_t a : values)
        for (const uint64_t b : {values[2], values[6], values[8], a, a + 1}) {
          const uint64_t c = 0x1234567890abcdef;
          const bool wide = op.bytes == 8, cas = std::string(op.name).starts_with("cas");
          const std::string n(op.name), type = wide ? "u64" : "u32", reg = wide ? "%d" : "%r";
          const uint64_t mask = wide ? ~uint64_t{0} : 0xffffffff;
          const std::string at = space == ".shared" ? "[%r9]" : "[%d63]";
          const std::string ld = space == ".shared" ? "ld.shared." : "ld.global.",
                            st = space == ".shared" ? "st.shared." : "st.global.";
          const auto literal = [&](uint64_t v) {
            return "0x" + [](uint64_t x) {
              char t[20];
              std::snprintf(t, sizeof t, "%llx", static_cast<unsigned long long>(x));
              return std::string(t);
            }(v & mask);
          };
          const std::string sources = literal(b) + (cas ? ", " + literal(c) : "");
          std::string body = "mov.u32 %r9, dyn;\nmov." + type + " " + reg + "1, " + literal(a) +
                             ";\n" + st + type + " " + at + ", " + reg + "1;\natom" + space + "." +
                             n + " " + reg + "10, " + at + ", " + sources + ";\n" + ld + type +
                             " " + reg + "11, " + at + ";\n";
          if (op.red)
            body += st + type + " " + at + ", " + reg + "1;\nred" + space + "." + n + " " + at +
                    ", " + sources + ";\n" + ld + type + " " + reg + "12, " + at + ";\n";
          body += "st.global." + type + " [%d63+8], " + reg + "10;\nst.global." + type +
                  " [%d63+16], " + reg + "11;\nst.global." + type + " [%d63+24], " + reg +
                  (op.red ? "12" : "11") + ";\n";
          const auto out = run_words(body, {0}, 8, 1);
          const auto sext = [&](uint64_t v) {
            return wide ? static_cast<int64_t>(v) : static_cast<int64_t>(static_cast<int32_t>(v));
          };
          const uint64_t x = a & mask, y = b & mask;
          const std::string kind = n.substr(0, n.find('.'));
          const bool is_signed = n.find(".s") != std::string::npos;
          const bool less = is_signed ? sext(x) < sext(y) : x < y;
          const uint64_t result = kind == "add"    ? x + y
                                  : kind == "min"  ? (less ? x : y)
                                  : kind == "max"  ? (less ? y : x)
                                  : kind == "and"  ? x & y
                                  : kind == "or"   ? x | y
                                  : kind == "xor"  ? x ^ y
                                  : kind == "exch" ? y
                                  : kind == "inc"  ? (x >= y ? 0 : x + 1)
                                  : kind == "dec"  ? (x == 0 || x > y ? y : x - 1)
                                  : x == y         ? c
                                                   : x;
          const auto word = [&](uint32_t i) {
            return wide ? uint64_t{out[i + 1]} << 32 | out[i] : uint64_t{out[i]};
          };
          REQUIRE(word(2) == x);
          REQUIRE(word(4) == (result & mask));
          REQUIRE(word(6) == (result & mask));
        }
}

// Four lanes' copies of 16 bytes, as a text; the wait is the caller's.
std::string copies(const std::string& opcode, const std::string& size,
                   const std::string& source_size, const std::string& wait) {
  return "mov.u32 %r1, dyn;\nmul.lo.u32 %r2, %r63, 16;\nadd.u32 %r1, %r1, %r2;\nmad.wide.u32 %d1, "
         "%r63, 16, %d62;\nmov.u32 %r5, 0;\nst.shared.v4.u32 [%r1], {%r5, %r5, %r5, %r5};\n" +
         opcode + " [%r1], [%d1], " + size + (source_size.empty() ? "" : ", " + source_size) +
         ";\n" + wait +
         "mad.wide.u32 %d2, %r63, 16, %d63;\nld.shared.v4.u32 {%r6, %r7, %r8, %r9}, "
         "[%r1];\nst.global.v4.u32 [%d2], {%r6, %r7, %r8, %r9};\n";
}

TEST_CASE("ptx: cp.async copies, fills with zeros, and only a wait makes it there") {
  Rng rng(test_seed());
  std::vector<uint32_t> in = random_words(128, rng);
  for (uint32_t& w : in) w |= 0x01010101;
  const std::string done = "cp.async.commit_group;\ncp.async.wait_group 0;\n";
  const struct {
    std::string opcode, size, source, wait;
    uint32_t bytes;
    bool lands;
  } cases[] = {
      {"cp.async.cg.shared.global", "16", "", done, 16, true},
      {"cp.async.cg.shared.global.L2::128B", "16", "16", done, 16, true},
      {"cp.async.cg.shared.global", "16", "0", done, 0, true},
      {"cp.async.ca.shared.global", "16", "5", done, 5, true},
      {"cp.async.ca.shared.global", "16", "", done, 16, true},
      {"cp.async.cg.shared.global", "16", "4", "cp.async.wait_all;\n", 4, true},
      {"cp.async.cg.shared.global", "16", "", "", 16, false},
      {"cp.async.cg.shared.global", "16", "", "cp.async.commit_group;\ncp.async.wait_group 1;\n",
       16, false},
      {"cp.async.cg.shared.global", "16", "", "cp.async.wait_group 0;\n", 16, false},
      {"cp.async.cg.shared.global", "16", "",
       "cp.async.commit_group;\ncp.async.commit_group;\ncp.async.wait_group 1;\n", 16, true}};
  for (const auto& c : cases) {
    const auto out = run_words(copies(c.opcode, c.size, c.source, c.wait), in, 128);
    bool same = true;
    for (size_t i = 0; i < 512; ++i) {
      const uint32_t expected = i % 16 < c.bytes ? in[i / 4] >> (8 * (i % 4)) & 255 : 0;
      same = same && (out[i / 4] >> (8 * (i % 4)) & 255) == expected;
    }
    INFO(c.opcode << " " << c.source << " " << c.wait);
    CHECK(same == c.lands);
  }
  CHECK(has(error_of(copies("cp.async.cg.shared.global", "8", "", done)), "copies of 8 bytes"));
  CHECK(has(error_of(copies("cp.async.cg.shared.global", "16", "17", done)), "source of 17 bytes"));
  CHECK(has(error_of(copies("cp.async.cg.shared.global", "16", "", done)),
            "outside every allocation"));
  CHECK(has(error_of("mov.u32 %r1, dyn;\nadd.u64 %d1, %d62, 4;\ncp.async.cg.shared.global [%r1], "
                     "[%d1], 16;\n"),
            "misaligned source"));
  CHECK(has(error_of("mov.u32 %r1, dyn;\ncp.async.cg.shared.global [%r1+8], [%d62], 16;\n"),
            "misaligned"));
}

TEST_CASE("ptx: copies arrive at once, at the wait or at random, as asked") {
  const auto lands = [](Async async, uint64_t seed) {
    Memory memory;
    std::vector<uint8_t> in(16, 9), out(16);
    const uint64_t x = memory.map(std::span<const uint8_t>(in)),
                   y = memory.map(std::span<uint8_t>(out));
    const std::string body =
        "ld.param.u64 %d62, [x];\nld.param.u64 %d63, [y];\nmov.u32 %r1, "
        "dyn;\ncp.async.cg.shared.global [%r1], [%d62], 16;\nld.shared.u32 %r2, "
        "[%r1];\nst.global.u32 [%d63], %r2;\n";
    REQUIRE(run_text(kernel_text(".param .u64 x, .param .u64 y", body), memory, {}, {}, {x, y},
                     {.seed = seed, .async = async}, 64) == "");
    return out[0] == 9;
  };
  CHECK(lands(Async::kAtOnce, 1));
  CHECK(!lands(Async::kAtWait, 1));
  uint32_t early = 0;
  for (uint64_t seed = 1; seed <= 32; ++seed) early += lands(Async::kRandom, seed) ? 1 : 0;
  CHECK(early > 4);
  CHECK(early < 28);
}

TEST_CASE("ptx: lanes part at a branch and meet again behind it") {
  std::vector<uint32_t> in(64);
  std::iota(in.begin(), in.end(), 0U);
  // Collatz steps: each lane leaves the loop when it is done; then all vote together.
  const auto out = run_words(
      "add.u32 %r1, %r63, 1;\nmov.u32 %r10, 0;\nLOOP:\nsetp.eq.u32 %p1, %r1, 1;\n@%p1 bra "
      "DONE;\nadd.u32 %r10, %r10, 1;\nand.b32 %r2, %r1, 1;\nsetp.eq.u32 %p2, %r2, 0;\n@%p2 bra "
      "EVEN;\nmad.lo.u32 %r1, %r1, 3, 1;\nbra.uni NEXT;\nEVEN:\nshr.u32 %r1, %r1, 1;\nNEXT:\nbra "
      "LOOP;\nDONE:\nactivemask.b32 %r3;\nsetp.ne.u32 %p3, %r3, 0xffffffff;\n@%p3 "
      "trap;\nvote.sync.ballot.b32 %r4, %p1, -1;\n" +
          std::string(kStore),
      in, 64, 64);
  for (uint32_t i = 0; i < 64; ++i) {
    uint32_t steps = 0;
    for (uint32_t x = i + 1; x != 1; x = x % 2 != 0 ? 3 * x + 1 : x / 2) ++steps;
    CHECK(out[i] == steps);
  }
}

TEST_CASE("ptx: barriers order shared memory between warps, whatever runs first") {
  for (const std::string barrier :
       {"bar.sync 0", "bar.sync 3, 128", "barrier.sync 1", "barrier.sync.aligned 2, 128"})
    for (uint64_t seed = 0; seed < 8; ++seed) {
      Memory memory;
      std::vector<uint32_t> out(512);
      const uint64_t y =
          memory.map(std::span<uint8_t>(reinterpret_cast<uint8_t*>(out.data()), 2048));
      const std::string body =
          "ld.param.u64 %d63, [y];\nmov.u32 %r63, %tid.x;\nmov.u32 %r1, dyn;\nmov.u32 %r20, "
          "%ctaid.x;\nshl.b32 %r2, %r63, 2;\nadd.u32 %r2, %r2, %r1;\nst.shared.u32 [%r2], %r63;\n" +
          barrier +
          ";\nxor.b32 %r3, %r63, 127;\nshl.b32 %r3, %r3, 2;\nadd.u32 %r3, %r3, %r1;\nld.shared.u32 "
          "%r10, [%r3];\nmad.lo.u32 %r21, %r20, 128, %r63;\nmad.wide.u32 %d2, %r21, 4, "
          "%d63;\nst.global.u32 [%d2], %r10;\n";
      REQUIRE(run_text(kernel_text(".param .u64 y", body), memory, {4, 1, 1}, {128, 1, 1}, {y},
                       {.seed = seed}, 512) == "");
      for (uint32_t i = 0; i < 512; ++i) REQUIRE(out[i] == 127 - i % 128);
    }
}

TEST_CASE("ptx: special registers say where a thread is") {
  Memory memory;
  std::vector<uint32_t> out(2 * 3 * 2 * 6 * 8);
  const uint64_t y =
      memory.map(std::span<uint8_t>(reinterpret_cast<uint8_t*>(out.data()), out.size() * 4));
  std::string body =
      "ld.param.u64 %d1, [y];\nmov.u32 %r1, %tid.y;\nmad.lo.u32 %r1, %r1, 3, %tid.x;\nmad.lo.u32 "
      "%r2, %ctaid.z, 3, %ctaid.y;\nmad.lo.u32 %r2, %r2, 2, %ctaid.x;\nmad.lo.u32 %r1, %r2, 6, "
      "%r1;\nmad.wide.u32 %d1, %r1, 32, %d1;\n";
  const char* names[] = {"%ntid.x",      "%nctaid.y",    "%laneid",      "%lanemask_lt",
                         "%lanemask_eq", "%lanemask_ge", "%lanemask_le", "%lanemask_gt"};
  for (uint32_t i = 0; i < 8; ++i)
    body += "mov.u32 %r5, " + std::string(names[i]) + ";\nst.global.u32 [%d1+" +
            std::to_string(4 * i) + "], %r5;\n";
  REQUIRE(run_text(kernel_text(".param .u64 y", body), memory, {2, 3, 2}, {3, 2, 1}, {y}) == "");
  for (uint32_t b = 0; b < 12; ++b)
    for (uint32_t l = 0; l < 6; ++l) {
      const uint32_t* w = &out[(b * 6 + l) * 8];
      const uint32_t expected[] = {
          3, 3, l, (1U << l) - 1, 1U << l, ~((1U << l) - 1), (2U << l) - 1, ~((2U << l) - 1)};
      for (uint32_t i = 0; i < 8; ++i) REQUIRE(w[i] == expected[i]);
    }
}

TEST_CASE("ptx: fences, prefetches and hints change nothing") {
  std::string body;
  for (const char* text :
       {"membar.cta", "membar.gl", "fence.acq_rel.gpu", "fence.sc.sys", "prefetch.global.L2 [%d62]",
        "griddepcontrol.wait", "griddepcontrol.launch_dependents", "nanosleep.u32 5",
        "bar.warp.sync -1"})
    body += std::string(text) + ";\n";
  const auto out = run_words(
      body +
          "ld.global.nc.L1::no_allocate.L2::128B.u32 %r10, [%d62];\nld.volatile.global.u32 %r10, "
          "[%d62];\nld.acquire.gpu.global.u32 %r10, [%d62];\nst.release.gpu.global.u32 [%d63], "
          "%r10;\natom.acq_rel.gpu.global.add.u32 %r9, [%d63], 0;\nexit;\n",
      {77}, 1);
  CHECK(out[0] == 77);
}

TEST_CASE("ptx: faults are errors that name the place") {
  CHECK(has(error_of("ld.global.u32 %r1, [%d62+256];"), "4 bytes at"));
  CHECK(has(error_of("ld.global.u64 %d1, [%d62+252];"), "misaligned"));
  CHECK(has(error_of("ld.global.u8 %r1, [%d62+-1];"), "outside every allocation"));
  CHECK(has(error_of("st.global.u8 [%d62], 1;"), "writes read-only memory"));
  CHECK(
      has(error_of("mov.u32 %r1, dyn;\nst.shared.u32 [%r1+4096], 1;"), "outside every allocation"));
  CHECK(has(error_of("mov.u32 %r1, 0;\nld.shared.u32 %r2, [%r1];"), "outside every allocation"));
  CHECK(has(error_of("mov.u64 %d1, 0;\nld.u32 %r2, [%d1];"), "outside every allocation"));
  CHECK(has(error_of("setp.lt.u32 %p1, %r63, 5;\n@%p1 bar.sync 0;"),
            "a barrier reached by a part of the warp"));
  CHECK(has(error_of("setp.lt.u32 %p1, %r63, 5;\n@%p1 bra.uni X;\nX:"), "a uniform branch"));
  CHECK(
      has(error_of(
              "setp.lt.u32 %p1, %r63, 5;\n@%p1 bra X;\nshfl.sync.idx.b32 %r1, %r1, 0, 31, -1;\nX:"),
          "elsewhere"));
  CHECK(has(error_of("setp.lt.u32 %p1, %r63, 5;\n@%p1 shfl.sync.idx.b32 %r1, %r1, 0, 31, 30;"),
            "own membermask"));
  CHECK(has(error_of("setp.lt.u32 %p1, %r63, 5;\n@%p1 shfl.sync.idx.b32 %r1, %r1, 7, 31, 31;"),
            "inactive lane 7"));
  CHECK(
      has(error_of("setp.lt.u32 %p1, %r63, 5;\n@%p1 exit;\nshfl.sync.idx.b32 %r1, %r1, 2, 31, -1;"),
          "inactive lane 2"));
  CHECK(has(
      error_of(
          "setp.lt.u32 %p1, %r63, 5;\n@%p1 ret;\nmma.sync.aligned.m8n8k32.row.col.s32.u4.s4.s32 "
          "{%r1, %r2}, {%r3}, {%r4}, {%r1, %r2};"),
      "an aligned instruction reached by a part of the warp"));
  CHECK(
      has(error_of("mov.u32 %r1, dyn;\nldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];", 16),
          "an aligned instruction"));
  CHECK(has(error_of("setp.lt.u32 %p1, %r63, 32;\n@%p1 bra X;\nbar.sync 1;\nX:\nbar.sync 0;", 64),
            "waits for ever"));
  CHECK(has(error_of("trap;"), "trap"));
  CHECK(has(error_of("bar.sync 16;"), "barrier 16"));
  // On sm_75 the addresses of all lanes count.
  const std::string two =
      "mov.u32 %r1, dyn;\nmad.lo.u32 %r1, %r63, 16, %r1;\nldmatrix.sync.aligned.m8n8.x2.shared.b16 "
      "{%r2, %r3}, [%r1];";
  CHECK(error_of(two, 32, 256, 80) == "");
  CHECK(has(error_of(two, 32, 256, 75), "outside every allocation"));
}

TEST_CASE("ptx: what is not in the table is refused, with the reason") {
  CHECK(has(error_of("add.f32 %f1, %f2, %f3;"), "ptxas may fuse"));
  CHECK(has(error_of("ex2.approx.f32 %f1, %f2;"), "a bound on its error"));
  CHECK(has(error_of("add.rn.ftz.f32 %f1, %f2, %f3;"), "denormals"));
  CHECK(has(error_of("call.uni foo;"), "inlined whole"));
  CHECK(
      has(error_of("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1};"),
          "not implemented"));
  CHECK(has(error_of("ld.global.nc.oddity.u32 %r1, [%d62];"), "not implemented"));
  CHECK(has(error_of("add.u32 %r1, %r2;"), "operands do not fit"));
  CHECK(has(error_of("add.u32 %r1, %r2, %d1;"), "has 64 bits"));
  CHECK(has(error_of("add.u32 %r1, %r2, 0x1ffffffff;"), "more than 32 bits"));
  CHECK(has(error_of("add.u32 %r1, %r2, %q3;"), "unknown register %q3"));
  CHECK(has(error_of("mov.u32 %r1, %clock;"), "unknown register"));
  CHECK(has(error_of("ld.shared.u32 %r1, [nowhere];"), "unknown symbol"));
  CHECK(has(error_of("bra NOWHERE;"), "operands do not fit"));
  CHECK(has(error_of(".pragma \"odd\";"), "unknown pragma"));
  CHECK(has(error_of("mov.u32 %r1, ?;"), "unexpected character"));
  Memory memory;
  CHECK(has(run_text(".version 9.0\n.target sm_80\n.address_size 64\n.func f() { ret; }\n", memory,
                     {}, {}, {}),
            "device function"));
  CHECK(has(run_text(kernel_text(".param .u64 x", ""), memory, {}, {}, {}),
            "0 bytes of parameters, 8 expected"));
  CHECK(has(run_text(kernel_text(".param .u64 x", ""), memory, {}, {1025, 1, 1}, {0}),
            "1025 threads"));
}

TEST_CASE("ptx: a kernel that does not end is stopped") {
  Memory memory;
  CHECK(has(run_text(kernel_text(".param .u64 x", "L: bra L;"), memory, {}, {}, {0},
                     {.max_warp_instructions = 1000}),
            "does not end"));
}

TEST_CASE("ptx: names of inner braces hide outer ones") {
  const auto out = run_words(
      "mov.u32 %r10, 1;\n{ .reg .pred p; .reg .b32 t; mov.u32 t, 5; setp.eq.u32 p, t, 5; @p bra "
      "SKIP; trap; SKIP: add.u32 %r10, %r10, t; }\n{ .reg .pred p; .reg .b32 t; mov.u32 t, 7; "
      "setp.eq.u32 p, t, 7; @p bra SKIP; trap; SKIP: add.u32 %r10, %r10, t; }\n" +
          std::string(kStore),
      {0}, 32);
  CHECK(out[3] == 13);
}

TEST_CASE("ptx: memory that was released is gone") {
  Memory memory;
  const uint64_t a = memory.allocate(64);
  CHECK(memory.at(a, 64, true) != nullptr);
  CHECK(memory.at(a + 1, 64, true) == nullptr);
  CHECK(memory.at(a - 1, 1, false) == nullptr);
  CHECK(!memory.release(a + 1));
  CHECK(memory.release(a));
  CHECK(memory.at(a, 1, false) == nullptr);
}

}  // namespace
}  // namespace mpq::test
