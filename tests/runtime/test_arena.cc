#include <doctest/doctest.h>

#include <random>

#include "runtime/arena.h"

namespace mpq::runtime {
namespace {

// Pairs that live at the same time and share a byte.
int clashes(const std::vector<Lifetime>& buffers, const ArenaLayout& layout) {
  int count = 0;
  for (size_t i = 0; i < buffers.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const bool together =
          buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
      const bool share = layout.offsets[i] < layout.offsets[j] + buffers[j].bytes &&
                         layout.offsets[j] < layout.offsets[i] + buffers[i].bytes;
      count += together && share;
    }
  return count;
}

}  // namespace

TEST_CASE("arena: buffers that live together never overlap, whatever the lifetimes") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<Lifetime> buffers(random() % 60);
    size_t sum = 0;
    for (Lifetime& b : buffers) {
      const uint32_t first = random() % 40, length = random() % 12;
      b = {random() % 5000, first, first + length};
      sum += b.bytes + 63;
    }
    const ArenaLayout layout = assign_offsets(buffers);
    REQUIRE(layout.offsets.size() == buffers.size());
    CHECK(clashes(buffers, layout) == 0);
    CHECK(layout.bytes <= sum);
    for (size_t i = 0; i < buffers.size(); ++i) {
      CHECK(layout.offsets[i] % 64 == 0);
      CHECK(layout.offsets[i] + buffers[i].bytes <= layout.bytes);
    }
  }
}

TEST_CASE("arena: the overlap check itself sees an overlap") {
  const std::vector<Lifetime> buffers = {{100, 0, 2}, {100, 2, 3}};
  CHECK(clashes(buffers, {{0, 64}, 256}) == 1);
  CHECK(clashes(buffers, {{0, 128}, 256}) == 0);
}

TEST_CASE("arena: a chain of layers needs the two largest neighbours") {
  // Each buffer is written at step i and read at step i + 1.
  const std::vector<Lifetime> chain = {{640, 0, 1}, {6400, 1, 2}, {1280, 2, 3}, {64, 3, 4}};
  CHECK(assign_offsets(chain).bytes == 6400 + 1280);
}

TEST_CASE("arena: a gap is filled by the buffer that fits it best") {
  // Two long-lived buffers leave holes of 256 and 128 bytes at step 5; 128 bytes go into the
  // second.
  const std::vector<Lifetime> buffers = {{1024, 0, 9}, {256, 0, 4}, {512, 0, 9},
                                         {128, 0, 4},  {64, 5, 9},  {128, 5, 9}};
  const ArenaLayout layout = assign_offsets(buffers);
  CHECK(clashes(buffers, layout) == 0);
  CHECK(layout.bytes == 1024 + 512 + 256 + 128);
}

TEST_CASE("arena: no buffers need no memory") { CHECK(assign_offsets({}).bytes == 0); }

}  // namespace mpq::runtime
