// The harness against kernels that misbehave on purpose: each must be caught, and by the check that
// exists for it.

#include <doctest/doctest.h>
#include <xmmintrin.h>

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "tests/kernels/conv_problem.h"

namespace mpq::test {
namespace {

using kernels::ConvArgs;
using kernels::ConvKernel;
using kernels::ConvPart;
using kernels::ConvShape;
using kernels::Elem;
using kernels::Epilogue;
using kernels::KernelContext;
using kernels::Planes;

enum class Bug {
  kNone,
  kDropTail,           // channels above a multiple of 4 are not written
  kReadPast,           // one byte after the last input pixel
  kReadBefore,         // one byte before the first
  kWritePast,          // one byte after the last output channel
  kWriteInput,         // an input byte that it restores wrongly
  kSaturate,           // pairs of products saturate at 16 bits, as vpmaddubsw does
  kIgnoreRowStride,    // rows taken as contiguous
  kIgnoreStride,       // every pixel taken
  kReadPadding,        // channels above C of the last block added in
  kHalfAway,           // ties away from zero
  kNoFma,              // product rounded before the addition
  kNoActivation,       // activation forgotten
  kIgnoreSecond,       // second output forgotten
  kSecondOfCode,       // second output from the first's code
  kResidualZeroPoint,  // zero point of the residual forgotten
  kTwice,              // a pixel written a second time, from a residual that it wrote over
  kWrongClamp,         // code range taken as 0..255
  kPartition,          // first unit of a part is off by one
  kFlushToZero,        // leaves denormals off
  kScratchOverrun,     // one byte after the scratch
};

uint8_t* code_at(const Planes& p, uint32_t n, uint32_t y, uint32_t x, uint32_t c) {
  return p.data + n * p.image + c / p.cb * p.plane + y * p.row + x * ptrdiff_t{p.cb} + c % p.cb;
}

template <Bug kBug>
int32_t accumulate(const ConvArgs& a, uint32_t n, uint32_t y, uint32_t x, uint32_t o) {
  const ConvShape& s = a.shape;
  Planes planes = a.x;
  if (kBug == Bug::kIgnoreRowStride)
    planes.row = ptrdiff_t{(s.ow - 1) * s.stride_w + (s.s - 1) * s.dilation_w + 1} * planes.cb;
  const uint32_t stride = kBug == Bug::kIgnoreStride ? 1 : s.stride_w;
  const int8_t* w = static_cast<const int8_t*>(a.weights) + size_t{o} * s.c * s.r * s.s;
  int32_t acc = a.epilogue.acc_bias != nullptr ? a.epilogue.acc_bias[o] : 0, held = 0;
  bool holds = false;
  for (uint32_t c = 0; c < s.c; ++c)
    for (uint32_t r = 0; r < s.r; ++r)
      for (uint32_t q = 0; q < s.s; ++q) {
        const int32_t product = *w++ * *code_at(planes, n, y * s.stride_h + r * s.dilation_h,
                                                x * stride + q * s.dilation_w, c);
        if (kBug != Bug::kSaturate) {
          acc += product;
        } else if (holds) {
          const int32_t pair = held + product;
          acc += pair > 32767 ? 32767 : pair < -32768 ? -32768 : pair;
          holds = false;
        } else {
          held = product;
          holds = true;
        }
      }
  if (holds) acc += held;
  if (kBug == Bug::kReadPadding)
    for (uint32_t c = s.c; c % planes.cb != 0; ++c) acc += *code_at(planes, n, 0, 0, c);
  return acc;
}

template <Bug kBug>
int32_t round_to_code(float v, int32_t lo, int32_t hi) {
  if (kBug == Bug::kWrongClamp) lo = 0, hi = 255;
  if (kBug == Bug::kHalfAway) {
    v = v > static_cast<float>(lo) ? v : static_cast<float>(lo);
    v = v < static_cast<float>(hi) ? v : static_cast<float>(hi);
    return static_cast<int32_t>(std::round(v));
  }
  return kernels::round_clamp(v, lo, hi);
}

template <Bug kBug>
void store(const ConvArgs& a, uint32_t n, uint32_t y, uint32_t x, uint32_t o, int32_t acc) {
  const ConvShape& s = a.shape;
  Epilogue e = a.epilogue;
  if (kBug == Bug::kResidualZeroPoint) e.residual_zero_point = 0;
  if (kBug == Bug::kNoActivation) e.activation = kernels::Activation::kNone;
  const size_t dense_at = ((size_t{n} * s.oh + y) * s.ow + x) * s.o + o;
  if (e.out == Elem::s32) {
    static_cast<int32_t*>(a.dense)[dense_at] = acc;
    return;
  }
  const int32_t residual = e.residual.data != nullptr ? *code_at(e.residual, n, y, x, o) : 0;
  float v = kernels::requant_value(acc, e, o, residual);
  if (kBug == Bug::kNoFma && e.residual.data == nullptr &&
      e.activation == kernels::Activation::kNone) {
    const volatile float product = static_cast<float>(acc) * e.multiplier[o];
    v = product + e.bias[o];
  }
  const int32_t code = round_to_code<kBug>(v, e.lo, e.hi);
  if (e.out == Elem::f32)
    static_cast<float*>(a.dense)[dense_at] = v;
  else
    *code_at(a.y, n, y, x, o) = static_cast<uint8_t>(code);
  if (e.second.data != nullptr && kBug != Bug::kIgnoreSecond) {
    if (kBug == Bug::kSecondOfCode) v = static_cast<float>(code);
    *code_at(e.second, n, y, x, o) = static_cast<uint8_t>(
        round_to_code<kBug>(std::fmaf(v, e.second_scale, e.second_bias), e.second_lo, e.second_hi));
  }
}

volatile uint8_t sink;

template <Bug kBug>
void run(const ConvArgs& a, const ConvPart& part, const KernelContext& context) {
  const ConvShape& s = a.shape;
  const uint32_t o_end = part.panel_end * 64 < s.o ? part.panel_end * 64 : s.o;
  const uint32_t last = kBug == Bug::kDropTail ? o_end / 4 * 4 : o_end;
  for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit)
    for (uint32_t x = 0; x < s.ow; ++x)
      for (uint32_t o = part.panel_begin * 64; o < last; ++o) {
        int32_t acc = accumulate<kBug>(a, unit / s.oh, unit % s.oh, x, o);
        if (kBug == Bug::kPartition && unit == part.unit_begin && unit != 0) acc += 1 << 20;
        store<kBug>(a, unit / s.oh, unit % s.oh, x, o, acc);
        if (kBug == Bug::kTwice && x + 1 == s.ow)
          store<kBug>(a, unit / s.oh, unit % s.oh, x, o, acc);
      }
  const uint32_t h = (s.oh - 1) * s.stride_h + (s.r - 1) * s.dilation_h;
  const uint32_t w = (s.ow - 1) * s.stride_w + (s.s - 1) * s.dilation_w;
  const uint32_t last_channel = (s.c - 1) / a.x.cb * a.x.cb + a.x.cb - 1;
  if (kBug == Bug::kReadPast) sink = code_at(a.x, s.n - 1, h, w, last_channel)[1];
  if (kBug == Bug::kReadBefore) sink = a.x.data[-1];
  if (kBug == Bug::kWriteInput) *code_at(a.x, 0, 0, 0, 0) ^= 1;
  if (kBug == Bug::kWritePast && a.y.data != nullptr)
    code_at(a.y, s.n - 1, s.oh - 1, s.ow - 1, (s.o - 1) / a.y.cb * a.y.cb + a.y.cb - 1)[1] ^= 1;
  if (kBug == Bug::kFlushToZero) _mm_setcsr(_mm_getcsr() | 0x8040);
  if (kBug == Bug::kScratchOverrun)
    sink = static_cast<const uint8_t*>(context.scratch)[context.scratch_bytes];
}

size_t some_scratch(const ConvShape&, uint32_t) { return 128; }

template <Bug kBug>
ConvKernel planted(const char* name) {
  ConvKernel row = kernels::conv_kernels().back();
  row.name = name;
  row.run = run<kBug>;
  row.scratch_bytes = some_scratch;
  return row;
}

// What caught a kernel in many random cases: check -> kinds of data it was caught with.
struct Caught {
  std::map<std::string, std::set<ConvData>> by;
  std::set<std::string> operands;  // first words of the details
  int cases = 0, times = 0;
};

Caught hunt(const ConvKernel& row) {
  Rng rng(test_seed());
  Caught caught;
  for (int i = 0; i < 250; ++i) {
    ConvShape s = {.n = 1 + rng.below(2),
                   .c = 1 + rng.below(40),
                   .oh = 1 + rng.below(4),
                   .ow = 1 + rng.below(6),
                   .o = 1 + rng.below(70)};
    s.r = s.s = 1 + 2 * rng.below(2);
    s.stride_h = s.stride_w = 1 + rng.below(2);
    const ConvCase c = random_conv_case(s, rng);
    const Verdict verdict = check_conv(row, c, rng);
    ++caught.cases;
    if (verdict.ok()) continue;
    ++caught.times;
    caught.by[verdict.check].insert(c.data);
    caught.operands.insert(verdict.detail.substr(0, verdict.detail.find(" byte")));
  }
  return caught;
}

// Caught, and by nothing but the given checks, each of which caught it at least once.
void check_caught(const ConvKernel& row, const std::set<std::string>& expected) {
  const Caught caught = hunt(row);
  std::string got, wanted;
  for (const auto& [check, data] : caught.by) got += check + " ";
  for (const std::string& check : expected) wanted += check + " ";
  INFO(std::string(row.name));
  CHECK(got == wanted);
}

TEST_CASE("harness: a kernel without a bug passes") {
  const Caught caught = hunt(planted<Bug::kNone>("no_bug"));
  CHECK(caught.cases == 250);
  CHECK(caught.times == 0);
}

TEST_CASE("harness: an access outside an operand is a fault") {
  check_caught(planted<Bug::kReadPast>("read_past"), {"fault"});
  check_caught(planted<Bug::kReadBefore>("read_before"), {"fault"});
  check_caught(planted<Bug::kScratchOverrun>("scratch_overrun"), {"fault"});
}

TEST_CASE("harness: a write outside the outputs is seen in gaps, halos, inputs and past the end") {
  check_caught(planted<Bug::kWritePast>("write_past"), {"fault", "outside"});
  check_caught(planted<Bug::kWriteInput>("write_input"), {"outside"});
}

TEST_CASE("harness: reading what the contract leaves open is seen") {
  CHECK(hunt(planted<Bug::kReadPadding>("read_padding")).by.contains("unspecified"));
  const Caught stride = hunt(planted<Bug::kIgnoreRowStride>("ignore_row_stride"));
  CHECK(stride.by.contains("unspecified"));
}

TEST_CASE("harness: a wrong result differs in its bytes") {
  check_caught(planted<Bug::kDropTail>("drop_tail"), {"bytes"});
  check_caught(planted<Bug::kWrongClamp>("wrong_clamp"), {"bytes"});
  check_caught(planted<Bug::kNoActivation>("no_activation"), {"bytes"});
  check_caught(planted<Bug::kResidualZeroPoint>("residual_zero_point"), {"bytes"});
  const Caught twice = hunt(planted<Bug::kTwice>("twice"));
  CHECK(twice.operands.contains("y over residual"));
  CHECK(!twice.operands.contains("y"));
  const Caught stride = hunt(planted<Bug::kIgnoreStride>("ignore_stride"));
  CHECK(stride.by.contains("bytes"));
}

TEST_CASE("harness: a forgotten or derived second output is named") {
  for (const ConvKernel& row : {planted<Bug::kIgnoreSecond>("ignore_second"),
                                planted<Bug::kSecondOfCode>("second_of_code")}) {
    const Caught caught = hunt(row);
    CHECK(caught.operands == std::set<std::string>{"second y"});
    CHECK(caught.by.contains("bytes"));
  }
}

TEST_CASE("harness: each kind of data catches what it exists for") {
  CHECK(hunt(planted<Bug::kSaturate>("saturate")).by["bytes"].contains(ConvData::kCorners));
  CHECK(hunt(planted<Bug::kHalfAway>("half_away")).by["bytes"].contains(ConvData::kTies));
  CHECK(hunt(planted<Bug::kNoFma>("no_fma")).by["bytes"].contains(ConvData::kFma));
}

TEST_CASE("harness: a result that depends on the partition is seen") {
  check_caught(planted<Bug::kPartition>("partition"), {"partition"});
}

TEST_CASE("harness: a changed floating-point mode is seen and undone") {
  const unsigned before = _mm_getcsr() & ~0x3fU;
  check_caught(planted<Bug::kFlushToZero>("flush_to_zero"), {"state"});
  CHECK((_mm_getcsr() & ~0x3fU) == before);
}

TEST_CASE("harness: pack() that leaves bytes unwritten, or writes past them, is seen") {
  ConvKernel row = planted<Bug::kNone>("short_pack");
  row.pack = [](const ConvShape& s, uint32_t, const int8_t* from, void* to) {
    std::memcpy(to, from, size_t{s.o} * s.c * s.r * s.s - 1);
  };
  check_caught(row, {"bytes"});
  row.pack = [](const ConvShape& s, uint32_t, const int8_t* from, void* to) {
    std::memcpy(to, from, size_t{s.o} * s.c * s.r * s.s);
    static_cast<uint8_t*>(to)[size_t{s.o} * s.c * s.r * s.s] = 0;
  };
  check_caught(row, {"fault"});
}

TEST_CASE("harness: random cuts cover the work once, in order") {
  Rng rng(test_seed());
  for (uint32_t count = 0; count < 50; ++count) {
    uint32_t next = 0;
    for (const auto& [begin, end] : random_cuts(count, rng)) {
      CHECK(begin == next);
      CHECK(end > begin);
      next = end;
    }
    CHECK(next == count);
  }
}

// doctest runs a test case again for every sub-case that it came past.
struct SkippedOrNot {
  const char* name;
  kernels::IsaMask isa;
};
uint32_t runs_behind_a_skip = 0, runs_of_the_second = 0;

TEST_CASE("harness: a row behind one that cannot run here") {
  constexpr SkippedOrNot kRows[] = {{"no machine's row", 1U << 31}, {"any machine's", 0}};
  ++runs_behind_a_skip;
  for_each_kernel(std::span<const SkippedOrNot>(kRows),
                  [](const SkippedOrNot&, Rng&) { ++runs_of_the_second; });
}

TEST_CASE("harness: is run, too") {
  if (runs_behind_a_skip > 0) CHECK(runs_of_the_second == 1);
}

TEST_CASE("harness: a skip is a failure where the machine was promised") {
  CHECK_FALSE(skip_is_failure(kernels::kIsaAmx, nullptr));
  CHECK_FALSE(skip_is_failure(kernels::kIsaAmx, "avx512vnni"));
  CHECK(skip_is_failure(kernels::kIsaAvx512Vnni, "avx512vnni"));
  CHECK(skip_is_failure(kernels::kIsaAvx2, "avx512vnni"));
  CHECK(skip_is_failure(kernels::kIsaAmx, "no such level"));  // a typo must not pass silently
}

}  // namespace
}  // namespace mpq::test
