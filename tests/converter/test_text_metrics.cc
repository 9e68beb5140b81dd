// Measures of text sets. Correlations: expected values of SciPy 1.17.1 (pearsonr, spearmanr).
// Answers: expected values of SQuAD's evaluate-v2.0.py.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <vector>

#include "converter/data/text_dataset.h"
#include "converter/data/text_metrics.h"

namespace mpq::data {
namespace {

using Series = std::vector<double>;

// Small integers with many ties, the same in Python.
Series many(size_t count, uint32_t seed) {
  Series values;
  for (size_t i = 0; i < count; ++i) {
    seed = (seed * 1103515245U + 12345U) & 0x7FFFFFFFU;
    values.push_back((seed >> 16) % 50);
  }
  return values;
}

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-12); }

}  // namespace

TEST_CASE("correlation: SciPy's values, with ties and with large means") {
  const struct {
    Series x, y;
    double pearson, spearman;
  } kCases[] = {
      {{1, 2, 3, 4, 5}, {5, 6, 7, 8, 7}, 0.8320502943378436, 0.8207826816681233},
      {{0.1, 0.4, 0.4, 0.4, -3, 7, 7, 2.5},
       {3, 3, 1, 2, 2, 9, 0.5, 0.5},
       0.3770636823450369,
       -0.20626611516977109},
      {{1e9, 1e9 + 1, 1e9 + 2, 1e9 + 4}, {1, -1, 0.5, 0.25}, -0.07168504827326536, -0.4},
      {{1, 1, 1, 2}, {2, 2, 3, 1}, -0.816496580927726, -0.8164965809277261},
  };
  for (const auto& c : kCases) {
    CHECK(pearson(c.x, c.y) == near(c.pearson));
    CHECK(pearson(c.y, c.x) == near(c.pearson));
    CHECK(spearman(c.x, c.y) == near(c.spearman));
  }
  const Series x = many(1000, 1), noise = many(1000, 7);
  Series y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] + noise[i]);
  CHECK(pearson(x, y) == near(0.7085153996052123));
  CHECK(spearman(x, y) == near(0.703112075818555));
}

TEST_CASE("correlation: reaches its ends, not a number where undefined") {
  CHECK(pearson(Series{1, 2, 3}, Series{2, 4, 6}) == near(1));
  CHECK(spearman(Series{1, 2, 3}, Series{9, 5, -1e300}) == near(-1));
  CHECK(std::isnan(pearson(Series{}, Series{})));
  CHECK(std::isnan(pearson(Series{1}, Series{2})));
  CHECK(std::isnan(pearson(Series{0.1, 0.1, 0.1}, Series{1, 2, 3})));
  CHECK(std::isnan(spearman(Series{1, 2, 3}, Series{4, 4, 4})));
  CHECK(std::isnan(spearman(Series{1, NAN, 3}, Series{1, 2, 3})));
  CHECK(std::isnan(pearson(Series{1, 2}, Series{1, INFINITY})));
}

TEST_CASE("accuracy: over what is known") {
  CHECK(accuracy(std::vector<int32_t>{0, 1, 2, 1}, std::vector<int32_t>{0, 1, 1, -1}) ==
        near(2.0 / 3));
  CHECK(std::isnan(accuracy(std::vector<int32_t>{-1}, std::vector<int32_t>{-1})));
}

TEST_CASE("answers: normalised as SQuAD's script does") {
  const struct {
    const char* text;
    const char* normal;
  } kCases[] = {
      {"The Cat's pyjamas", "cats pyjamas"},
      {"  A an THE ", ""},
      {"the–end", "–end"},
      {"1990–the end", "1990– end"},
      {"“The” Beatles…", "“ ” beatles…"},
      {"naïve É THE café", "naïve é café"},
      {"АНГЛИЯ the ΑΘΗΝΑ", "англия αθηνα"},
      {"O'Brien-Smith, Jr.", "obriensmith jr"},
      {"$4.5 million", "45 million"},
      {"a.b.c an", "abc"},
      {"theatre, another, a_the", "theatre another athe"},
      {"x\xC2\xA0the\xC2\xA0y", "x y"},
      {"™the a²a", "™ a²a"},
      {"\x1Cthe\x1F\x62", "b"},
  };
  for (const auto& c : kCases) {
    CAPTURE(c.text);
    CHECK(normalise_answer(c.text) == c.normal);
    CHECK(normalise_answer(c.normal) == c.normal);
  }
}

TEST_CASE("answers: exact match and F1, the best over all that are right") {
  const struct {
    const char* prediction;
    std::vector<std::string> answers;
    double exact, f1;
  } kCases[] = {
      {"the cat sat on the mat", {"A cat sat", "cat on mat"}, 0, 0.8571428571428571},
      {"", {}, 1, 1},
      {"x", {}, 0, 0},
      {"", {"x"}, 0, 0},
      {"the", {"a"}, 1, 1},
      {"the", {"a", "b"}, 0, 0},  // an answer of articles alone does not count beside others
      {"to be or not to be", {"be or be to"}, 0, 0.8},
      {"Denver Broncos", {"Denver Broncos", "the Broncos", "Broncos!"}, 1, 1},
      {"Broncos of Denver", {"Denver Broncos", "Carolina"}, 0, 0.8},
      {"dog", {"cat"}, 0, 0},
  };
  for (const auto& c : kCases) {
    CAPTURE(c.prediction);
    const AnswerScore score = score_answer(c.prediction, c.answers);
    CHECK(score.exact == c.exact);
    CHECK(score.f1 == near(c.f1));
  }
}

TEST_CASE("answers: any bytes are taken, and bytes that are no UTF-8 come back") {
  CHECK(normalise_answer("a\xFF\x80 \xE2\x82") == "a\xFF\x80 \xE2\x82");
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int k = 0; k < 12; ++k) text += static_cast<char>(random() % 3 == 0 ? 'a' : random());
    const std::string once = normalise_answer(text);
    CHECK(once.size() <= text.size() + 1);
  }
}

// Against SciPy over the same file: scores beside minus the difference of the sentences' lengths.
TEST_CASE("correlation: over the STS benchmark") {
  const char* variable = std::getenv("MPQ_DATA");
  const std::filesystem::path data = variable == nullptr ? "../shared/data" : variable;
  if (!std::filesystem::exists(data / "stsb.tar.gz")) {
    std::printf("SKIPPED: correlation: no %s\n", (data / "stsb.tar.gz").c_str());
    return;
  }
  const auto set = open_text_dataset("stsb:" + (data / "stsb.tar.gz").string());
  REQUIRE(set.ok());
  Series scores, differences;
  for (const TextSample& sample : set->samples) {
    scores.push_back(sample.score);
    const auto difference =
        static_cast<double>(sample.text.size()) - static_cast<double>(sample.pair.size());
    differences.push_back(-std::fabs(difference));
  }
  CHECK(pearson(scores, differences) == near(-0.026446169562689553));
  CHECK(spearman(scores, differences) == near(-0.010765848440086257));
}

}  // namespace mpq::data
