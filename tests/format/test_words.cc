// Status, types, shapes, packing, text: the words that everything else shares.
#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <set>

#include "format/bits.h"
#include "format/constants.h"
#include "format/status.h"
#include "format/text.h"
#include "format/types.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;

TEST_CASE("status: every code has its own text and its pinned number") {
  const std::map<Status, int> pinned = {
      {Status::kOk, 0},           {Status::kInvalidArgument, 1}, {Status::kNotFound, 2},
      {Status::kBusy, 3},         {Status::kBadHandle, 4},       {Status::kIo, 10},
      {Status::kCorrupt, 11},     {Status::kChecksum, 12},       {Status::kUnsupported, 13},
      {Status::kOutOfMemory, 20}, {Status::kLimit, 21},          {Status::kUnsupportedCpu, 22},
      {Status::kDevice, 23},      {Status::kInternal, 30}};
  std::set<std::string> texts;
  for (const auto& [status, number] : pinned) {
    CHECK(static_cast<int>(status) == number);
    texts.insert(to_string(status));
  }
  CHECK(texts.size() == pinned.size());
  CHECK(std::string(to_string(static_cast<Status>(99))) == "unknown status");
}

TEST_CASE("types: names go there and back, ranges are those of two's complement") {
  const char* names[] = {"f32", "s32", "u8", "s8", "u4", "s4", "u2", "s2"};
  for (int i = 0; i < kDTypeCount; ++i) {
    DType type{};
    CHECK(std::string(to_string(static_cast<DType>(i))) == names[i]);
    CHECK(parse_dtype(names[i], &type));
    CHECK(type == static_cast<DType>(i));
  }
  DType type{};
  CHECK_FALSE(parse_dtype("u3", &type));
  CHECK(min_code(DType::kS4) == -8);
  CHECK(max_code(DType::kS4) == 7);
  CHECK(max_code(DType::kU2) == 3);
  CHECK(min_code(DType::kU8) == 0);
}

TEST_CASE("shapes: products are exact up to 2^62 and refused above, zeros hide nothing") {
  uint64_t n = 0;
  CHECK((checked_elements({3, 5, 7}, &n) && n == 105));
  CHECK((checked_elements({}, &n) && n == 1));
  CHECK((checked_elements({int64_t{1} << 31, int64_t{1} << 31}, &n) && n == uint64_t{1} << 62));
  CHECK_FALSE(checked_elements({int64_t{1} << 31, int64_t{1} << 31, 2}, &n));
  CHECK_FALSE(checked_elements({3, -1}, &n));
  CHECK((checked_elements({0, 5}, &n) && n == 0));
  CHECK_FALSE(checked_elements({0, int64_t{1} << 40, int64_t{1} << 40}, &n));
  CHECK_FALSE(checked_elements({0, -1}, &n));
  CHECK(to_string(Shape{1, 64, 56, 56}) == "1x64x56x56");
}

TEST_CASE("bits: packing is low bits first") {
  std::vector<std::byte> b(2);
  for (int i = 0; i < 4; ++i) set_code(b, static_cast<uint64_t>(i), 4, i - 2);  // -2 -1 0 1
  CHECK(b == std::vector<std::byte>{std::byte{0xFE}, std::byte{0x10}});
  for (int i = 0; i < 4; ++i) set_code(b, static_cast<uint64_t>(i), 2, i - 2);
  CHECK(b[0] == std::byte{0x4E});  // 10 11 00 01 from the low end: 01 00 11 10
  for (const int bits : {2, 4, 8})
    for (const bool is_signed : {false, true}) {
      std::vector<std::byte> all(static_cast<size_t>(1 << bits) * static_cast<size_t>(bits) / 8,
                                 std::byte{0xA5});
      const int lo = is_signed ? -(1 << (bits - 1)) : 0;
      for (int i = 0; i < 1 << bits; ++i) set_code(all, static_cast<uint64_t>(i), bits, lo + i);
      for (int i = 0; i < 1 << bits; ++i)
        CHECK(get_code(all, static_cast<uint64_t>(i), bits, is_signed) == lo + i);
    }
}

TEST_CASE(
    "constants: sums of absolute codes equal the plain sum for every width, start and length") {
  for (const DType type : {DType::kS8, DType::kS4, DType::kS2}) {
    TinyModel t;
    const Tensor& w = t.model.tensors[t.random_weights("w", type, {200})];
    for (uint64_t first = 0; first < 40; ++first)
      for (uint64_t count = 0; first + count <= 200; ++count) {
        int64_t sum = 0;
        for (uint64_t i = first; i < first + count; ++i)
          sum += std::abs(get_code(w.data, i, bits_of(type), true));
        REQUIRE(sum_abs(w, first, count) == sum);
      }
  }
  TinyModel t;
  const auto lowest = [&](const char* name, DType type) -> const Tensor& {
    return t.model.tensors[t.codes(name, type, {64}, std::vector<int32_t>(64, min_code(type)))];
  };
  CHECK(sum_abs(lowest("a", DType::kS8), 0, 64) == 64 * 128);
  CHECK(sum_abs(lowest("b", DType::kS4), 0, 64) == 64 * 8);
  CHECK(sum_abs(lowest("c", DType::kS2), 0, 64) == 64 * 2);
}

TEST_CASE("text: well-formed UTF-8 without controls is clean") {
  for (const char* good : {"", "conv1", "caf\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                           "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    CHECK(is_clean_text(good));
  for (const char* bad :
       {"\x01", "\x7F", "\xC2\x80", "\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
        "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "a\n"})
    CHECK_FALSE(is_clean_text(bad));
  CHECK(is_clean_text("a\n\tb", true));
  CHECK_FALSE(is_clean_text("a\rb", true));
}

}  // namespace
}  // namespace mpq::test
