// Selection is a pure function of shape, precision and CPU, so any machine can check it for all.

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using namespace kernels;

struct Cpu {
  const char* name;
  IsaMask isa;
};
const Cpu kCpus[] = {{"scalar", kIsaScalar},
                     {"avx2", kIsaAvx2},
                     {"avx512vnni", kIsaAvx2 | kIsaAvx512Vnni},
                     {"amx", kIsaAvx2 | kIsaAvx512Vnni | kIsaAmx}};
const CpuFamily kFamilies[] = {CpuFamily::kIntel, CpuFamily::kZen4};

template <typename Row>
void check_table(std::span<const Row> rows) {
  std::set<std::string> names;
  for (const Row& row : rows) {
    const std::string name = row.name;
    CHECK_MESSAGE(names.insert(name).second, name << " twice");
    const std::string suffix =
        row.isa == kIsaScalar ? "_ref" : std::string("_") + isa_name(row.isa);
    CHECK_MESSAGE(name.ends_with(suffix), name << " needs " << isa_name(row.isa));
  }
  CHECK(rows.back().isa == kIsaScalar);
}

TEST_CASE("select: names are unique, tell the instruction set, and the reference is last") {
  check_table(conv_kernels());
  check_table(add_kernels());
  check_table(pool_kernels());
  check_table(quantize_kernels());
  check_table(image_quantize_kernels());
}

// ResNet-50's layers at 224 x 224.
const ConvShape kLayers[] = {
    {.c = 3, .oh = 112, .ow = 112, .o = 64, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2},
    {.c = 64, .oh = 56, .ow = 56, .o = 64, .r = 3, .s = 3},
    {.c = 256, .oh = 56, .ow = 56, .o = 64},
    {.c = 256, .oh = 28, .ow = 28, .o = 512, .stride_h = 2, .stride_w = 2},
    {.c = 512, .oh = 7, .ow = 7, .o = 2048},
    {.c = 2048, .o = 1000},
};

struct Precision {
  Elem weights;
  int32_t max_activation;
};
const Precision kPrecisions[] = {
    {Elem::s8, 255}, {Elem::s4, 15}, {Elem::s2, 3}, {Elem::s4, 255}, {Elem::s8, 15}};

int bits(Elem weights) { return weights == Elem::s2 ? 2 : weights == Elem::s4 ? 4 : 8; }

bool serves(const ConvKernel& row, const ConvShape& s, uint32_t cb, const Precision& p,
            IsaMask isa) {
  return (row.isa & ~isa) == 0 && bits(row.weights) >= bits(p.weights) &&
         row.max_activation >= p.max_activation && row.fits(s, cb);
}

TEST_CASE("select: a convolution gets the cheapest row that serves it, on every CPU") {
  for (const Cpu& cpu : kCpus)
    for (const CpuFamily family : kFamilies)
      for (const ConvShape& s : kLayers)
        for (const Precision& p : kPrecisions) {
          const uint32_t cb = channel_block(s.c);
          const ConvKernel& chosen =
              select_conv(s, cb, p.weights, p.max_activation, cpu.isa, family);
          INFO(std::string(cpu.name) << ": " << std::string(chosen.name));
          CHECK(serves(chosen, s, cb, p, cpu.isa));
          for (const ConvKernel& row : conv_kernels())
            if (serves(row, s, cb, p, cpu.isa))
              CHECK(chosen.cost(s, cb, family) <= row.cost(s, cb, family));
        }
}

TEST_CASE("select: a family of cores weighs equal rows its own way") {
  const IsaMask isa = kIsaAvx2 | kIsaAvx512Vnni;
  if (select_add(isa).isa != kIsaAvx512Vnni) {
    MESSAGE("SKIPPED: select by family: compiler without AVX-512");
    return;
  }
  const auto name = [&](const ConvShape& s, CpuFamily family) {
    return std::string(select_conv(s, 64, Elem::s4, 15, isa, family).name);
  };
  const ConvShape linear = {.c = 768, .ow = 128, .o = 768};
  CHECK(name(linear, CpuFamily::kZen4) == "conv_u240s4_pairs_avx512vnni");
  CHECK(name(linear, CpuFamily::kIntel) != name(linear, CpuFamily::kZen4));
  const auto name2 = [&](CpuFamily family) {
    return std::string(select_conv(linear, 64, Elem::s2, 3, isa, family).name);
  };
  CHECK(name2(CpuFamily::kZen4) == "conv_u2s2_lookup_avx512vnni");
  CHECK(name2(CpuFamily::kIntel) == "conv_u2s2_crt_avx512vnni");
  for (const ConvShape& s : kLayers) {
    if (s.r != 3 || s.stride_h != 1) continue;
    CHECK(name(s, CpuFamily::kZen4) == "conv_u20s4_winograd2_pairs_avx512vnni");
    CHECK(name(s, CpuFamily::kIntel) != "conv_u20s4_winograd2_pairs_avx512vnni");
  }
}

TEST_CASE("select: AVX2 has a row for each width of ResNet-50's layers") {
  if (select_add(kIsaAvx2).isa != kIsaAvx2) {
    MESSAGE("SKIPPED: select on AVX2: compiler without AVX2");
    return;
  }
  const auto name = [&](const ConvShape& s, const Precision& p) {
    return std::string(
        select_conv(s, channel_block(s.c), p.weights, p.max_activation, kIsaAvx2, CpuFamily::kZen4)
            .name);
  };
  const Precision w8a8 = {Elem::s8, 255}, w4a4 = {Elem::s4, 15}, w2a2 = {Elem::s2, 3};
  CHECK(name(kLayers[0], w8a8) == "conv_u8s8_thin_avx2");
  CHECK(name(kLayers[1], w4a4) == "conv_u4s4_winograd2_avx2");
  CHECK(name(kLayers[1], w2a2) == "conv_u4s4_winograd2_avx2");
  CHECK(name(kLayers[2], w4a4) == "conv_u4s4_6x16_avx2");
  CHECK(name(kLayers[2], w2a2) == "conv_u2s2_base64_avx2");
  CHECK(name(kLayers[5], w8a8) == "conv_u8s8_4x16_avx2");
}

TEST_CASE("select: every layer of ResNet-50 gets a kernel of the CPU's best level") {
  std::set<IsaMask> levels;  // that have any row at all in this build
  for (const ConvKernel& row : conv_kernels()) levels.insert(row.isa);
  for (const Cpu& cpu : kCpus) {
    IsaMask best = kIsaScalar;
    for (const IsaMask level : levels)
      if ((level & ~cpu.isa) == 0 && level > best) best = level;
    for (const CpuFamily family : kFamilies)
      for (const ConvShape& s : kLayers)
        for (const Precision& p : kPrecisions) {
          const ConvKernel& chosen =
              select_conv(s, channel_block(s.c), p.weights, p.max_activation, cpu.isa, family);
          CHECK_MESSAGE(chosen.isa == best,
                        cpu.name << ": c " << s.c << " o " << s.o << ": " << chosen.name);
        }
  }
}

TEST_CASE("select: convolutions that only the reference knows get the reference") {
  const ConvShape grouped = {.c = 64, .oh = 7, .ow = 7, .o = 64, .r = 3, .s = 3, .groups = 32};
  for (const Cpu& cpu : kCpus) {
    const ConvKernel& chosen = select_conv(grouped, 64, Elem::s8, 255, cpu.isa, CpuFamily::kIntel);
    CHECK(chosen.fits(grouped, 64));
  }
}

TEST_CASE("select: rows of one packed layout pack the same bytes") {
  const ConvShape s = {.c = 40, .oh = 3, .ow = 3, .o = 70, .r = 3, .s = 3};
  Rng rng(test_seed());
  std::vector<int8_t> weights(size_t{s.o} * s.c * s.r * s.s);
  for (int8_t& w : weights) w = static_cast<int8_t>(rng.between(-2, 1));
  std::map<std::string, std::vector<uint8_t>> packed;
  for (const ConvKernel& row : conv_kernels()) {
    if (!row.fits(s, 64)) continue;
    std::vector<uint8_t> bytes(row.packed_bytes(s, 64));
    row.pack(s, 64, weights.data(), bytes.data());
    const auto [found, is_new] = packed.emplace(row.layout, bytes);
    CHECK_MESSAGE((is_new || found->second == bytes), row.name << ": " << row.layout);
  }
}

// Names of the rows that the other families choose on each CPU, in the order of kCpus.
TEST_CASE("select: the other families choose by name") {
  const bool avx2 = select_add(kIsaAvx2).isa == kIsaAvx2;
  const bool avx512 = select_add(~IsaMask{0}).isa == kIsaAvx512Vnni;
  if (!avx2 || !avx512) {
    MESSAGE("SKIPPED: select by name: compiler without AVX2 or AVX-512");
    return;
  }
  const PoolShape pool = {
      .c = 64, .h = 112, .w = 112, .oh = 56, .ow = 56, .kernel_h = 3, .kernel_w = 3};
  QuantizeArgs floats = {.shape = {1, 3, 224, 224}, .strides = nchw(3, 224, 224)};
  floats.y.cb = 4;
  QuantizeArgs odd = {.shape = {1, 64, 8, 8}, .strides = nchw(64, 8, 8)};  // strided both ways
  ImageQuantizeArgs rgb = {.shape = {1, 3, 224, 224}};
  rgb.y.cb = 4;
  ImageQuantizeArgs grey = {.shape = {1, 1, 28, 28}};
  grey.y.cb = 4;
  const char* const kLevel[] = {"ref", "avx2", "avx512vnni", "avx512vnni"};
  for (size_t i = 0; i < std::size(kCpus); ++i) {
    const IsaMask isa = kCpus[i].isa;
    const std::string level = kLevel[i];
    CHECK(select_add(isa).name == "add_u8_" + level);
    CHECK(select_pool(PoolKind::kMax, pool, 64, isa).name == "max_pool_u8_" + level);
    CHECK(select_pool(PoolKind::kAverage, pool, 64, isa).name == "avg_pool_u8_" + level);
    CHECK(select_pool(PoolKind::kMax, pool, 4, isa).name ==
          "max_pool_u8_" + (level == "avx2" ? "ref" : level));
    CHECK(select_quantize(floats, isa).name == "quantize_f32_" + level);
    CHECK(select_quantize(odd, isa).name == std::string("quantize_f32_ref"));
    CHECK(select_image_quantize(rgb, isa).name ==
          std::string(i >= 2 ? "image_quantize_c3_avx512vnni" : "image_quantize_ref"));
    CHECK(select_image_quantize(grey, isa).name == std::string("image_quantize_ref"));
  }
}

TEST_CASE("select: the words for instruction sets are read and written alike") {
  for (const Cpu& cpu : kCpus) {
    IsaMask isa = ~IsaMask{0};
    REQUIRE(parse_isa(cpu.name, &isa));
    CHECK(isa == cpu.isa);
    CHECK(isa_name(isa) == std::string(cpu.name));
  }
  IsaMask untouched = 77;
  CHECK_FALSE(parse_isa("avx", &untouched));
  CHECK_FALSE(parse_isa("", &untouched));
}

}  // namespace
}  // namespace mpq::test
