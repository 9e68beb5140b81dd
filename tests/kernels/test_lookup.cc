// The packed form of the rows that look products up (kernels/conv/lookup.h), read back byte by
// byte, on every CPU.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/conv/lookup.h"
#include "kernels/conv/packed.h"
#include "tests/kernels/harness.h"

namespace mpq::test {
namespace {

using namespace kernels;

std::vector<int8_t> weights_of(const ConvShape& s, int zeros_of_8, uint32_t seed) {
  Rng rng(seed);
  std::vector<int8_t> w(size_t{s.o} * s.c * s.r * s.s);
  for (int8_t& x : w)
    x = static_cast<int8_t>(rng.between(0, 7) < zeros_of_8 ? 0 : rng.between(-2, 1));
  return w;
}

std::vector<uint8_t> packed_of(const ConvShape& s, const std::vector<int8_t>& w) {
  std::vector<uint8_t> packed(lookup_bytes(s, 64));
  pack_lookup(s, 64, w.data(), packed.data());
  return packed;
}

// Reads a packed layer back: what is wrong first, or nothing.
std::string check_packed(const ConvShape& s, const std::vector<int8_t>& w,
                         const std::vector<uint8_t>& packed) {
  const size_t taps = size_t{s.r} * s.s;
  const LookupCut cut(s);
  const auto weight = [&](uint32_t o, size_t k) -> int32_t {
    const size_t block = k / kLookupBlock, c = block / taps * kLookupBlock + k % kLookupBlock;
    return o < s.o && k < cut.codes ? w[(o * s.c + c) * taps + block % taps] : 0;
  };
  const auto channel_of = [](uint32_t byte) {
    const uint32_t word = byte / 2, in_turn = word % 8;
    return byte % 2 * 32 + in_turn / 4 * 16 + word / 8 * 4 + in_turn % 4;
  };
  const uint8_t* panels = packed.data();
  for (uint32_t p = 0; p < panel_count(s); p += kLookupPanels) {
    const uint32_t width = lookup_width(s, p);
    LookupHeader header;
    std::memcpy(&header, panels, sizeof header);
    std::vector<int32_t> off(size_t{width} * kPanelChannels);
    const uint8_t* at = panels + cut.head();
    size_t triple = 0;
    for (uint32_t i = 0; i < header.stretches; ++i) {
      size_t end = triple + size_t{kPieceTriples} * panels[sizeof header + i];
      if (i + 1 == header.stretches) end += cut.rest;
      const uint8_t* const start = at;
      at += width * kLookupLine;
      std::vector<int32_t> magnitude(off.size()), least(off.size());
      for (; triple < end; ++triple)
        for (uint32_t q = 0; q < width; ++q, at += kLookupLine)
          for (uint32_t byte = 0; byte < kLookupLine; ++byte) {
            const uint32_t channel = q * kPanelChannels + channel_of(byte);
            for (uint32_t k = 0; k < 3; ++k) {
              const int32_t found = ((at[byte] >> 2 * k & 3) ^ 2) - 2;
              if (found != weight(p * kPanelChannels + channel, 3 * triple + k)) return "weight";
              magnitude[channel] += 3 * std::abs(found);
              least[channel] += 3 * std::min(found, 0);
            }
          }
      if (*std::ranges::max_element(magnitude) > 255) return "stretch too long";
      for (uint32_t byte = 0; byte < width * kLookupLine; ++byte) {
        const uint32_t channel =
            byte / kLookupLine * kPanelChannels + channel_of(byte % kLookupLine);
        if (start[byte] != static_cast<uint8_t>(-least[channel])) return "start of a stretch";
        off[channel] += least[channel];
      }
    }
    if (triple != cut.triples) return "k";
    if (!std::equal(off.begin(), off.end(), header.start)) return "start of a channel";
    panels += cut.panels_bytes(width);
  }
  return panels == packed.data() + packed.size() ? "" : "size";
}

const ConvShape kShapes[] = {{.c = 64, .o = 64},
                             {.c = 128, .oh = 3, .ow = 3, .o = 200, .r = 3, .s = 3},
                             {.c = 448, .o = 130},
                             {.c = 9152, .o = 70}};

TEST_CASE("lookup: packed weights say what they should, in stretches that leave bytes exact") {
  for (const ConvShape& s : kShapes)
    for (const int zeros : {0, 4, 7, 8}) {
      CAPTURE(s.c);
      CAPTURE(zeros);
      const std::vector<int8_t> w = weights_of(s, zeros, s.c);
      const std::vector<uint8_t> packed = packed_of(s, w);
      CHECK(check_packed(s, w, packed) == "");
      CHECK(packed_is_safe(kLookupLayout, s, 64, packed.data()));
    }
  std::vector<int8_t> extreme(size_t{64} * 64, -2);
  CHECK(check_packed(kShapes[0], extreme, packed_of(kShapes[0], extreme)) == "");
}

TEST_CASE("lookup: fewer and smaller weights make longer stretches") {
  const ConvShape s = {.c = 448, .o = 130};
  uint32_t before = 0;
  for (const int zeros : {8, 6, 3, 0}) {
    LookupHeader header;
    std::memcpy(&header, packed_of(s, weights_of(s, zeros, 1)).data(), sizeof header);
    CHECK(header.stretches > before);
    before = header.stretches;
  }
  CHECK(before <= LookupCut(s).max_stretches);
}

TEST_CASE("lookup: the check finds each thing that is wrong") {
  const ConvShape s = {.c = 128, .o = 200};
  const std::vector<int8_t> w = weights_of(s, 2, 5);
  const std::vector<uint8_t> right = packed_of(s, w);
  const size_t head = LookupCut(s).head(), start = 0, lengths = sizeof(LookupHeader);
  const std::pair<size_t, std::string> plants[] = {{start + 4, "start of a channel"},
                                                   {lengths, "k"},
                                                   {head, "start of a stretch"},
                                                   {head + 128, "weight"},
                                                   {head + 129, "weight"}};
  for (const auto& plant : plants) {
    const std::string& what = plant.second;
    std::vector<uint8_t> wrong = right;
    wrong[plant.first] ^= 1;
    CAPTURE(what);
    CHECK(check_packed(s, w, wrong) != "");
    if (what != "k") CHECK(check_packed(s, w, wrong) == what);
  }
}

TEST_CASE("lookup: bytes that would lead the kernel astray are not safe") {
  const ConvShape s = {.c = 128, .o = 200};
  const std::vector<uint8_t> right = packed_of(s, weights_of(s, 2, 5));
  const size_t number = offsetof(LookupHeader, stretches), lengths = sizeof(LookupHeader),
               second = LookupCut(s).panels_bytes(kLookupPanels);
  for (const size_t panels : {size_t{0}, second}) {
    for (const uint32_t stretches : {0U, 1U, 0x10000000U, 0xffffffffU}) {
      std::vector<uint8_t> wrong = right;
      std::memcpy(&wrong[panels + number], &stretches, sizeof stretches);
      CAPTURE(stretches);
      CHECK_FALSE(packed_is_safe(kLookupLayout, s, 64, wrong.data()));
    }
    for (const int length : {0, 200, 255}) {
      std::vector<uint8_t> wrong = right;
      wrong[panels + lengths] = static_cast<uint8_t>(length);
      CAPTURE(length);
      CHECK_FALSE(packed_is_safe(kLookupLayout, s, 64, wrong.data()));
    }
  }
}

TEST_CASE(
    "lookup: shapes whose sums might not fit words, or with codes of less than a block, have no "
    "such row") {
  CHECK(lookup_fits({.c = 9152, .o = 64}, 64));
  CHECK_FALSE(lookup_fits({.c = 9344, .o = 64}, 64));
  CHECK_FALSE(lookup_fits({.c = 1088, .o = 64, .r = 3, .s = 3}, 64));
  CHECK_FALSE(lookup_fits({.c = 96, .o = 64}, 64));
  CHECK_FALSE(lookup_fits({.c = 32, .o = 64}, 32));
  CHECK_FALSE(lookup_fits({.c = 128, .o = 64, .groups = 2}, 64));
}

}  // namespace
}  // namespace mpq::test
