// The parts of mpqrun that can be wrong in numbers: arguments, statistics, tables, arrays.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <linux/perf_event.h>
#include <sys/mman.h>

#include "runtime/cli/args.h"
#include "runtime/cli/baseline.h"
#include "runtime/cli/classes.h"
#include "runtime/cli/counters.h"
#include "runtime/cli/layers.h"
#include "runtime/cli/options.h"
#include "runtime/cli/stats.h"
#include "runtime/cli/table.h"
#include "runtime/cli/text.h"

using namespace mpq::cli;

namespace {

std::vector<uint32_t> batches(const std::string& text) {
  const auto args = Args::parse({"bench", "model.fb", "-b", text});
  REQUIRE(args.ok());
  const auto list = args->list("batch");
  return list.ok() ? *list : std::vector<uint32_t>{};
}

}  // namespace

TEST_CASE("args: lists and ranges") {
  using List = std::vector<uint32_t>;
  CHECK(batches("4") == List{4});
  CHECK(batches("1,2,4") == List{1, 2, 4});
  CHECK(batches("1-4") == List{1, 2, 3, 4});
  CHECK(batches("1-8*2") == List{1, 2, 4, 8});
  CHECK(batches("0-16+4") == List{0, 4, 8, 12, 16});
  CHECK(batches("1,2-6+2,9") == List{1, 2, 4, 6, 9});
  CHECK(batches("1-9*3") == List{1, 3, 9});
  CHECK(batches("3-4294967295*2147483647").size() == 1);  // the next value exceeds 32 bits
  for (const char* bad : {"", "x", "1,", "1-", "2-1", "1-4*", "1-4*0", "0-4*2", "1-4+0", "-1", "1 ",
                          "4294967296", "1-9999"}) {
    CAPTURE(bad);
    CHECK(batches(bad).empty());
  }
}

TEST_CASE("args: verbs, spellings of values, files that look like options") {
  CHECK(Args::parse({"bench", "m.fb"})->mode() == Mode::kBench);
  CHECK(Args::parse({"m.fb", "--bench"})->mode() == Mode::kBench);
  CHECK(Args::parse({"m.fb"})->mode() == Mode::kRun);
  CHECK(Args::parse({"m.fb", "bench"})->files().size() == 2);  // a verb comes first or with dashes
  CHECK(Args::parse({"m.fb", "-t4"})->text("threads") == "4");
  CHECK(Args::parse({"m.fb", "-t=4"})->text("threads") == "4");
  CHECK(Args::parse({"m.fb", "--threads=4"})->text("threads") == "4");
  CHECK(Args::parse({"m.fb", "-t", "3", "-t", "4"})->text("threads") == "4");
  CHECK(Args::parse({"m.fb", "-i", "a", "-i", "b"})->all("input").size() == 2);
  CHECK(Args::parse({"--", "-m.fb"})->files()[0] == "-m.fb");
  CHECK(*Args::parse({"m.fb", "--eval", "--min-acc", "76.5%"})->percent("min-acc") ==
        doctest::Approx(0.765));
  CHECK(*Args::parse({"m.fb", "--eval", "--min-acc", "76.5"})->percent("min-acc") ==
        doctest::Approx(0.765));
  CHECK(!Args::parse({"m.fb", "--eval", "--min-acc", "nan"})->percent("min-acc").ok());
}

TEST_CASE("options: names are unique, defaults parse, aliases are not our own options") {
  for (const Option& a : options()) {
    for (const Option& b : options()) {
      if (&a == &b) continue;
      CHECK(std::string(a.name) != b.name);
      CHECK((a.letter == 0 || a.letter != b.letter));
    }
    for (const Alias& alias : aliases()) CHECK(std::string("--") + a.name != alias.spelling);
  }
  for (size_t i = 0; i < verbs().size(); ++i) CHECK(static_cast<size_t>(verbs()[i].mode) == i);
  CHECK(verbs().size() == kModeCount);
}

TEST_CASE("statistics: nearest rank, sample deviation") {
  // 2 4 4 4 5 5 7 9: mean 5, squares 32, so the sample deviation is sqrt(32 / 7).
  const Stats s = summarise({9, 4, 5, 2, 4, 7, 5, 4});
  CHECK(s.n == 8);
  CHECK(s.min == 2);
  CHECK(s.max == 9);
  CHECK(s.mean == 5);
  CHECK(s.sd == doctest::Approx(2.13809));
  CHECK(s.median == 4);          // rank ceil(0.5 * 8) = 4
  CHECK(s.percentile(51) == 5);  // rank ceil(4.08) = 5
  CHECK(s.percentile(0) == 2);
  CHECK(s.percentile(87.5) == 7);
  CHECK(s.percentile(88) == 9);
  CHECK(s.percentile(100) == 9);
  CHECK(!s.supports(90));
  CHECK(summarise(std::vector<double>(10, 1.0)).supports(90));
  CHECK(!summarise(std::vector<double>(999, 1.0)).supports(99.9));
  CHECK(summarise(std::vector<double>(1000, 1.0)).supports(99.9));
  CHECK(summarise({}).median == 0);
  CHECK(summarise({3}).sd == 0);
}

TEST_CASE("tables: text, Markdown and CSV") {
  const Table table{{{"name", false}, {"ms"}}, {{"a, \"b\"", "1.5"}, {"c", "10.25"}}};
  CHECK(table.render(Output::kText) == "name       ms\na, \"b\"    1.5\nc       10.25\n");
  CHECK(table.render(Output::kCsv) == "name,ms\n\"a, \"\"b\"\"\",1.5\nc,10.25\n");
  CHECK(table.render(Output::kMarkdown) ==
        "| name   |    ms |\n| ------ | ----: |\n| a, \"b\" |   1.5 |\n| c      | 10.25 |\n");
  // A bar in a cell and a column one character wide, as GitHub's Markdown wants them.
  const Table bars{{{"#"}, {"|d|"}}, {{"0", "a|b\nc"}}};
  CHECK(bars.render(Output::kMarkdown) == "|  # |  \\|d\\| |\n| -: | -----: |\n|  0 | a\\|b c |\n");
}

TEST_CASE("classes: order, ties to the lower index, softmax") {
  const float logits[] = {0.0F, 2.0F, 1.0F, 2.0F};
  const auto best = best_classes(reinterpret_cast<const std::byte*>(logits), MPQ_F32, 4, 3);
  REQUIRE(best.size() == 3);
  CHECK(best[0].index == 1);
  CHECK(best[1].index == 3);
  CHECK(best[2].index == 2);
  // e^2 / (1 + e + 2 e^2) by hand.
  CHECK(best[0].probability == doctest::Approx(7.389056 / (1 + 2.718282 + 2 * 7.389056)));
  const int32_t sums[] = {-5, -7};
  const auto integers = best_classes(reinterpret_cast<const std::byte*>(sums), MPQ_S32, 2, 5);
  REQUIRE(integers.size() == 2);
  CHECK(integers[0].value == -5);
  CHECK(integers[0].probability < 0);
}

TEST_CASE("text: distances and sizes") {
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("same", "same") == 0);
  CHECK(bytes_text(999) == "999 bytes");
  CHECK(bytes_text(14207776) == "14.2 MB");
  CHECK(split("a,,b", ',') == std::vector<std::string>{"a", "", "b"});
}

TEST_CASE("baseline: a change counts above the limit and above the noise of both sides") {
  const auto timing = [](double least, double step, size_t n) {
    std::vector<double> samples;
    for (size_t i = 0; i < n; ++i) samples.push_back(least + step * static_cast<double>(i));
    return timing_of(summarise(samples));
  };
  const Timing quiet = timing(1.0, 0.0001, 100), noisy = timing(1.0, 0.02, 100);
  CHECK(quiet.noise == doctest::Approx(0.02));               // never trusted further
  CHECK(noisy.noise == doctest::Approx(0.18));               // of the 10th of 100
  CHECK(timing(1.0, 0.1, 5).noise == doctest::Approx(0.2));  // few: of the median
  const Timing slow = timing(1.1, 0.0001, 100);
  CHECK(change_between(quiet, slow).change == doctest::Approx(0.1));
  CHECK(change_between(quiet, slow).slower(0.05));
  CHECK(!change_between(quiet, slow).slower(0.15));
  CHECK(!change_between(noisy, slow).slower(0.05));
  CHECK(!change_between(quiet, quiet).slower(0.0));
  CHECK(!change_between(Timing(), slow).slower(0.0));
  CHECK(change_between(Timing(), slow).text() == "-");
  const Stats stats = summarise({1.0, 1.3, 1.1, 1.2, 1.5});
  CHECK(timing_of(json_of(stats, false)).noise == doctest::Approx(timing_of(stats).noise));
  CHECK(timing_of(json_of(stats, false)).least == doctest::Approx(timing_of(stats).least));
  CHECK(!(timing_of(Json("text")).least > 0.0));
}

TEST_CASE("counters: what is granted counts, what is not is named") {
  constexpr uint32_t kNoSuchType = 0xFFFF;
  constexpr size_t kPages = 200, kPage = 4096;
  const CounterEvent wanted[] = {{"faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
                                 {"nothing", kNoSuchType, 0}};
  Counters counters(wanted);
  CHECK(counters.why().find("nothing: ") != std::string::npos);
  if (counters.events().empty()) {
    CHECK(counters.why().find("faults: ") != std::string::npos);
    MESSAGE("SKIPPED: counting: " << counters.why());
    return;
  }
  REQUIRE(counters.events().size() == 1);
  const uint64_t before = counters.read()[0];
  auto* const memory = static_cast<char*>(
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  madvise(memory, kPages * kPage, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < kPages; ++i) memory[i * kPage] = 1;
  munmap(memory, kPages * kPage);
  CHECK(counters.read()[0] - before >= kPages);
  for (const CounterEvent& event : hardware_events())  // each is counted, or named
    CHECK((Counters({&event, 1}).events().size() == 1 ||
           Counters({&event, 1}).why().find(event.name) == 0));
}

TEST_CASE("roof: a layer's floor is the larger of its operations and its bytes") {
  Line line;
  line.macs = 1000;
  line.weight_bytes = 400;
  line.activation_bytes = 100;
  Roof roof{2000.0, 400.0, 1000.0};
  CHECK(roof.compute_seconds(line) == doctest::Approx(1.0));
  CHECK(roof.memory_seconds(line) == doctest::Approx(1.1));
  CHECK(roof.floor_seconds(line) == doctest::Approx(1.1));
  roof.ops_per_second = 1000.0;
  CHECK(roof.floor_seconds(line) == doctest::Approx(2.0));
}
