#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "runtime/split.h"

namespace mpq::runtime {

TEST_CASE("split: rectangles cover all work exactly once, for any sizes") {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const Work work = {.units = 1 + static_cast<uint32_t>(random() % 40),
                       .panels = 1 + static_cast<uint32_t>(random() % 20),
                       .macs = random(),
                       .unit_bytes = random() % 1000000,
                       .panel_bytes = random() % 1000000};
    const uint32_t threads = 1 + static_cast<uint32_t>(random() % 17);
    const auto parts = split_work(work, threads);
    REQUIRE(!parts.empty());
    CHECK(parts.size() <= threads);
    std::vector<int> covered(size_t{work.units} * work.panels);
    for (const kernels::ConvPart& p : parts) {
      CHECK(p.unit_begin < p.unit_end);
      CHECK(p.panel_begin < p.panel_end);
      REQUIRE(p.unit_end <= work.units);
      REQUIRE(p.panel_end <= work.panels);
      for (uint32_t u = p.unit_begin; u < p.unit_end; ++u)
        for (uint32_t q = p.panel_begin; q < p.panel_end; ++q)
          ++covered[size_t{u} * work.panels + q];
    }
    for (const int times : covered) CHECK(times == 1);
  }
}

TEST_CASE("split: little work stays on one thread") {
  CHECK(split_work({.units = 100, .panels = 8, .macs = 10000, .unit_bytes = 1000}, 8).size() == 1);
}

TEST_CASE(
    "split: many pixels and few weights are cut across pixels, a classifier across channels") {
  const auto pixels = split_work(
      {.units = 3136, .panels = 1, .macs = 100'000'000, .unit_bytes = 400'000, .panel_bytes = 4096},
      2);
  REQUIRE(pixels.size() == 2);
  CHECK(pixels[0].unit_end == 1568);
  const auto classifier = split_work(
      {.units = 1, .panels = 16, .macs = 2'000'000, .unit_bytes = 2048, .panel_bytes = 2'000'000},
      2);
  REQUIRE(classifier.size() == 2);
  CHECK(classifier[0].panel_end == 8);
}

}  // namespace mpq::runtime
