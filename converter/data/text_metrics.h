// How well a network does on a set of texts.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mpq::data {

// Correlation of two equally long series; NaN where it is undefined: fewer than two values, a
// series that never changes, or a value that is no number.
double pearson(std::span<const double> x, std::span<const double> y);
// Of their ranks, ties sharing the mean of theirs.
double spearman(std::span<const double> x, std::span<const double> y);

// The share of equal classes among those known (not negative) in `expected`; NaN without any.
double accuracy(std::span<const int32_t> predicted, std::span<const int32_t> expected);

// SQuAD's script: lower case, no ASCII punctuation, no articles, single spaces. Letters of the
// Latin, Greek and Cyrillic alphabets have a lower case here; the script knows all of Unicode's.
std::string normalise_answer(std::string_view text);

struct AnswerScore {
  double exact = 0;  // 0 or 1
  double f1 = 0;     // over the words in common, 0 to 1
};
// The best over the right answers, each measure by itself, as SQuAD 2.0 counts: without answers the
// empty prediction is right, and an empty side has an F1 of 1 or 0.
AnswerScore score_answer(std::string_view prediction, std::span<const std::string> answers);

}  // namespace mpq::data
