#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/isa_config.h"
#include "tests/kernels/amx_on_model.h"
#include "tests/kernels/conv_problem.h"

namespace mpq::test {
namespace {

using kernels::conv_kernels;
using kernels::ConvKernel;
using kernels::ConvShape;
using kernels::Elem;

// The table's rows and, as far as this build has them, the AMX rows on a model of tiles.
std::span<const ConvKernel> conv_rows() {
  static const std::vector<ConvKernel> kRows = [] {
    std::vector<ConvKernel> rows(conv_kernels().begin(), conv_kernels().end());
#if MPQ_HAVE_AMX
    for (const ConvKernel& row : amx_rows_on_model()) rows.push_back(row);
#endif
    return rows;
  }();
  return kRows;
}

// The block of a row, found where its work counts step: pixels of a unit, channels of a panel.
struct Block {
  uint32_t pixels = 4, channels = 64;
};
Block block_of(const ConvKernel& row) {
  Block block;
  const uint32_t side = kernel_side(row);
  uint32_t units = 0, panels = 0;
  for (uint32_t i = 1; i <= 256; ++i) {
    row.units({.c = 64, .ow = i, .o = 64, .r = side, .s = side}, &units, &panels);
    if (units > 1) {
      block.pixels = i - 1;
      break;
    }
  }
  for (uint32_t i = 1; i <= 256; ++i) {
    row.units({.c = 64, .o = i, .r = side, .s = side}, &units, &panels);
    if (panels > 1) {
      block.channels = i - 1;
      break;
    }
  }
  return block;
}

bool accepts(const ConvKernel& row, const ConvCase& c) { return row.fits(c.shape, c.x_cb); }

// A whole block of input channels, two of them, or an image's, for a row that takes no other.
ConvCase widened(const ConvKernel& row, ConvCase c) {
  constexpr std::pair<uint32_t, uint32_t> kOthers[] = {{64, 64}, {128, 64}, {1, 4}};
  for (const auto& [channels, block] : kOthers) {
    if (accepts(row, c)) break;
    c.shape.c = channels;
    c.x_cb = block;
  }
  return c;
}

uint32_t require_if_accepted(const ConvKernel& row, const ConvCase& c, Rng& rng) {
  if (!accepts(row, c)) return 0;
  require_conv(row, c, rng);
  return 1;
}

TEST_CASE("conv: every kernel equals the reference at the edges of its block") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    const Block b = block_of(row);
    const uint32_t side = kernel_side(row);
    uint32_t run = 0;
    for (const uint32_t ow : {1U, b.pixels - 1, b.pixels, b.pixels + 1, 2 * b.pixels + 1})
      for (const uint32_t o :
           {1U, b.channels - 1, b.channels, b.channels + 1, 2 * b.channels + 1}) {
        const ConvCase c =
            random_conv_case({.c = 33, .oh = 2, .ow = ow, .o = o, .r = side, .s = side}, rng);
        if (ow > 0 && o > 0) run += require_if_accepted(row, widened(row, c), rng);
      }
    CHECK(run > 0);
  });
}

TEST_CASE("conv: every kernel equals the reference for every number of channels") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    const uint32_t side = kernel_side(row);
    uint32_t run = 0;
    for (uint32_t channels = 1; channels <= 130; ++channels) {
      ConvCase c = random_conv_case({.c = channels, .ow = 3, .o = 5, .r = side, .s = side}, rng);
      run += require_if_accepted(row, c, rng);
      c = random_conv_case({.c = 7, .ow = 2, .o = channels, .r = side, .s = side}, rng);
      run += require_if_accepted(row, widened(row, c), rng);
    }
    CHECK(run > 0);
  });
}

ConvShape random_shape(Rng& rng, const Block& b) {
  ConvShape s;
  s.n = 1 + rng.below(3);
  s.c = rng.pick({1U, 3U, 4U, 16U, 31U, 64U, 65U, 128U});
  s.o = 1 + rng.below(b.channels + 3);
  s.r = rng.pick({1U, 1U, 2U, 3U, 3U, 5U, 7U});
  s.s = rng.chance(4) ? rng.pick({1U, 2U, 3U, 7U}) : s.r;
  s.oh = 1 + rng.below(5);
  s.ow = 1 + rng.below(2 * b.pixels + 2);
  s.stride_h = 1 + rng.below(2);
  s.stride_w = rng.chance(4) ? 1 + rng.below(3) : s.stride_h;
  if (rng.chance(3)) {
    s.dilation_h = 1 + rng.below(3);
    s.dilation_w = 1 + rng.below(3);
  }
  if (rng.chance(6)) {
    s.groups = 2;
    s.c = (s.c + 1) / 2 * 2;
    s.o = (s.o + 1) / 2 * 2;
  }
  return s;
}

TEST_CASE("conv: every kernel equals the reference on random geometry") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    const Block b = block_of(row);
    const uint32_t wanted = test_cases(120);
    uint32_t run = 0;
    for (uint32_t tries = 0; run < wanted && tries < 200 * wanted; ++tries) {
      const ConvCase c = random_conv_case(random_shape(rng, b), rng);
      run += require_if_accepted(row, c, rng);
    }
    CHECK(run == wanted);
  });
}

// As long a sum as the row takes, and the block of its channels.
std::pair<ConvShape, uint32_t> longest_sum(const ConvKernel& row) {
  ConvShape s = {.c = 2048, .oh = 1, .ow = 2, .o = 17, .r = 3, .s = 3};
  if (!row.fits({.c = 128, .o = 17, .r = 3, .s = 3}, 64)) s.r = s.s = 1;
  for (; s.c > 0; s.c /= 2)
    if (row.fits(s, 64)) return {s, 64};
  s.c = 3;  // of an image
  s.r = s.s = 7;
  return {s, 4};
}

TEST_CASE("conv: every kernel is exact at the extremes of a long sum") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    const auto [shape, block] = longest_sum(row);
    REQUIRE(row.fits(shape, block));
    for (int corner = 0; corner < 10; ++corner) {
      ConvCase c = random_conv_case(shape, rng);
      c.x_cb = block;
      c.out = corner % 2 == 0 ? Elem::s32 : Elem::u8;
      c.residual = ConvResidual::kNone;
      c.second = false;
      c.data = corner < 8 ? ConvData::kCorners : ConvData::kExtremes;
      require_conv(row, c, rng);
    }
  });
}

TEST_CASE("conv: every kernel equals the reference on ResNet-50's first layer and its last") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    ConvCase c = random_conv_case(
        {.c = 3, .oh = 4, .ow = 112, .o = 64, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2}, rng);
    c.x_cb = 4;
    require_if_accepted(row, c, rng);
    c = random_conv_case({.c = 2048, .ow = 3, .o = 1000}, rng);
    c.out = Elem::f32;
    require_if_accepted(row, c, rng);
  });
}

TEST_CASE("conv: Strassen's rows are exact where sums of blocks are at the ends of their range") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    if (std::string(row.name).find("strassen") == std::string::npos) return;
    // Bit 2 i + j: block (i, j) of the codes is all maximal instead of 0, of the weights all
    // highest instead of lowest.
    for (uint32_t blocks = 0; blocks < 256; ++blocks) {
      ConvCase c = random_conv_case({.c = 128, .ow = 2, .o = 64}, rng);
      c.x_cb = 64;
      c.out = Elem::s32;
      c.residual = ConvResidual::kNone;
      c.second = false;
      for (uint32_t k = 0; k < 128; ++k)
        for (uint32_t pixel = 0; pixel < 2; ++pixel)
          c.codes.push_back((blocks >> (2 * pixel + k / 64)) % 2 != 0 ? row.max_activation : 0);
      for (uint32_t o = 0; o < 64; ++o)
        for (uint32_t k = 0; k < 128; ++k)
          c.weights.push_back(static_cast<int8_t>((blocks >> (4 + k / 64 * 2 + o / 32)) % 2 != 0
                                                      ? highest(row.weights)
                                                      : lowest(row.weights)));
      require_conv(row, c, rng);
    }
  });
}

TEST_CASE("conv: rows by pairs are exact where the sums of each place are at the ends of a byte") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    if (!std::string(row.layout).starts_with("pairs64")) return;
    CHECK(row.max_activation + highest(row.weights) - lowest(row.weights) == 255);
    // The k-groups of one to three blocks leave one, two and none of a pair and a direct group.
    for (const uint32_t channels : {64U, 128U, 192U})
      for (uint32_t ends = 0; ends < 64; ++ends) {
        // Bit 2 i: codes of groups 3 j + i are all highest instead of lowest; bit 2 i + 1: weights.
        ConvCase c = random_conv_case({.c = channels, .ow = 2, .o = 2}, rng);
        c.x_cb = 64;
        c.out = Elem::s32;
        c.residual = ConvResidual::kNone;
        c.second = false;
        for (uint32_t k = 0; k < channels; ++k)
          for (uint32_t pixel = 0; pixel < 2; ++pixel)
            c.codes.push_back((ends >> k / 4 % 3 * 2) % 2 != pixel ? row.max_activation : 0);
        for (uint32_t o = 0; o < 2; ++o)
          for (uint32_t k = 0; k < channels; ++k)
            c.weights.push_back(static_cast<int8_t>((ends >> (k / 4 % 3 * 2 + 1)) % 2 != o
                                                        ? highest(row.weights)
                                                        : lowest(row.weights)));
        require_conv(row, c, rng);
      }
  });
}

// The matrices of Winograd's algorithm, written down once more.
struct WinogradMatrices {
  int32_t m, offset;
  std::vector<std::vector<int32_t>> input, weights;  // B^T, G
};
const WinogradMatrices kWinogradMatrices[] = {
    {2,
     84,
     {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}},
     {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}}},
    {3,
     54,
     {{2, -1, -2, 1, 0}, {0, -2, -1, 1, 0}, {0, 2, -3, 1, 0}, {0, -1, 0, 1, 0}, {0, 2, -1, -2, 1}},
     {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {0, 0, 1}}}};

// The operands, lowest or highest, that take position (i, j) of M x M^T to an end of its range.
template <typename T>
std::pair<std::vector<T>, int32_t> towards(const std::vector<std::vector<int32_t>>& matrix,
                                           size_t i, size_t j, int32_t lo, int32_t hi, bool up) {
  std::vector<T> operands;
  int32_t end = 0;
  for (const int32_t row : matrix[i])
    for (const int32_t column : matrix[j]) {
      const int32_t operand = (row * column > 0) == up ? hi : lo;
      operands.push_back(static_cast<T>(operand));
      end += row * column * operand;
    }
  return {operands, end};
}

template <typename T>
std::vector<T> repeated(const std::vector<T>& values, size_t times) {
  std::vector<T> all;
  for (size_t i = 0; i < times; ++i) all.insert(all.end(), values.begin(), values.end());
  return all;
}

TEST_CASE("conv: Winograd's rows are exact where each transformed operand is at its ends") {
  for_each_kernel(conv_rows(), [](const ConvKernel& row, Rng& rng) {
    for (const WinogradMatrices& w : kWinogradMatrices) {
      if (std::string(row.name).find("winograd" + std::to_string(w.m)) == std::string::npos)
        continue;
      const auto m = static_cast<uint32_t>(w.m), side = m + 2;
      ConvCase c =
          widened(row, random_conv_case({.c = 1, .oh = m, .ow = m, .o = 1, .r = 3, .s = 3}, rng));
      c.out = Elem::s32;
      c.residual = ConvResidual::kNone;
      c.second = false;
      for (uint32_t position = 0; position < side * side; ++position)
        for (const bool code_up : {false, true})
          for (const bool weight_up : {false, true}) {
            const uint32_t i = position / side, j = position % side;
            int32_t code_end = 0, weight_end = 0;
            std::tie(c.codes, code_end) =
                towards<int32_t>(w.input, i, j, 0, row.max_activation, code_up);
            std::tie(c.weights, weight_end) = towards<int8_t>(w.weights, i, j, lowest(row.weights),
                                                              highest(row.weights), weight_up);
            // All channels alike, so that the sums of a pair are at their ends, too.
            c.codes = repeated(c.codes, c.shape.c);
            c.weights = repeated(c.weights, c.shape.c);
            REQUIRE(code_end + w.offset >= 0);
            REQUIRE(code_end + w.offset <= 255);
            REQUIRE(weight_end >= -128);
            REQUIRE(weight_end <= 127);
            require_conv(row, c, rng);
          }
    }
  });
}

TEST_CASE("conv: the reference's sums are the definition's") {
  Rng rng(test_seed());
  const ConvKernel& row = conv_kernels().back();
  for (int i = 0; i < 60; ++i) {
    ConvCase c = random_conv_case(random_shape(rng, {}), rng);
    c.out = Elem::s32;
    c.residual = ConvResidual::kNone;
    c.second = false;
    const ConvProblem p = conv_problem(row, c, rng);
    std::vector<std::vector<uint8_t>> memory;
    std::vector<uint8_t*> at;
    for (const Operand& o : p.problem.operands) memory.push_back(o.bytes);
    for (std::vector<uint8_t>& bytes : memory) at.push_back(bytes.data());
    p.problem.reference(at);
    const ConvShape& s = c.shape;
    size_t element = 0;
    for (uint32_t n = 0; n < s.n; ++n)
      for (uint32_t y = 0; y < s.oh; ++y)
        for (uint32_t x = 0; x < s.ow; ++x)
          for (uint32_t o = 0; o < s.o; ++o, ++element) {
            int32_t got;
            std::memcpy(&got, at[p.dense] + element * 4, 4);
            REQUIRE(got == p.sums.at(n, o, y, x) + (p.acc_bias.empty() ? 0 : p.acc_bias[o]));
          }
  }
}

}  // namespace
}  // namespace mpq::test
