// Text sets with a sample a line.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>

#include "converter/data/json.h"
#include "converter/data/text_formats.h"

namespace mpq::data {

namespace {

using Names = std::span<const std::string_view>;

// What GLUE calls its columns. Of the texts that a file has, the first in this order is the text
// and the second the pair: QNLI has "question" and "sentence".
constexpr std::string_view kTextNames[] = {"premise",   "sentence1", "question1", "#1 String",
                                           "question",  "text",      "sentence",  "sentence2",
                                           "question2", "#2 String", "hypothesis"};
constexpr std::string_view kLabelNames[] = {"label", "gold_label", "Quality", "is_duplicate"};
constexpr std::string_view kScoreNames[] = {"score", "similarity"};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

struct Line {
  size_t number;  // from 1
  std::string_view text;
};

// Lines that are not blank, without their ends.
std::vector<Line> lines_of(std::string_view text) {
  std::vector<Line> lines;
  size_t number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) lines.push_back({number, line});
  }
  return lines;
}

Error at_line(const Line& line, const std::string& what) {
  return {Status::kCorrupt, "line " + std::to_string(line.number) + ": " + what};
}

bool parse_number(std::string_view text, double* value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return failure == std::errc() && end == text.data() + text.size() && std::isfinite(*value);
}

// A class as a number, or -1 for an unknown one as GLUE writes it.
bool parse_label(const std::string& text, int32_t* value) {
  if (text.empty() || text == "-") return *value = -1, true;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return failure == std::errc() && end == text.data() + text.size() && *value >= -1;
}

// Classes as numbers when all are; as scores when all are decimal numbers, which GLUE calls labels
// too; otherwise each is a name and counts by its place among the sorted ones.
TextDataset with_labels(std::vector<TextSample> samples, const std::vector<std::string>& labels) {
  TextDataset set{.samples = std::move(samples)};
  bool classes = true, scores = true;
  for (size_t i = 0; i < labels.size(); ++i) {
    double score = 0;
    classes = parse_label(labels[i], &set.samples[i].label) && classes;
    scores = parse_number(labels[i], &score) && scores;
  }
  if (classes) return set;
  std::vector<std::string>& names = set.class_names;
  if (!scores) names = labels;
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::erase_if(names, [](const std::string& name) { return name.empty() || name == "-"; });
  for (size_t i = 0; i < labels.size(); ++i) {
    if (scores) parse_number(labels[i], &set.samples[i].score);
    const auto found = std::lower_bound(names.begin(), names.end(), labels[i]);
    const bool known = found != names.end() && *found == labels[i];
    set.samples[i].label = known ? static_cast<int32_t>(found - names.begin()) : -1;
  }
  return set;
}

constexpr size_t kNone = static_cast<size_t>(-1);

// The first of `names` from `from` on that `has`, as an index into `names`; kNone without one.
template <typename Has>
size_t first_name(Names names, const Has& has, size_t from = 0) {
  for (size_t i = from; i < names.size(); ++i)
    if (has(names[i])) return i;
  return kNone;
}

// Which columns of a table hold what; kNone for those it lacks.
struct Columns {
  size_t text = kNone, pair = kNone, label = kNone, score = kNone;
};

Result<Columns> columns_of(const Line& header) {
  const std::vector<std::string_view> titles = split(header.text, '\t');
  const auto index = [&titles](std::string_view name) {
    return static_cast<size_t>(std::find(titles.begin(), titles.end(), name) - titles.begin());
  };
  const auto has = [&](std::string_view name) { return index(name) < titles.size(); };
  const auto column = [&](Names names, size_t from) {
    const size_t i = from == kNone ? kNone : first_name(names, has, from);
    return i == kNone ? kNone : index(names[i]);
  };
  const size_t text = first_name(kTextNames, has);
  if (text == kNone) return at_line(header, "no column of text, like 'sentence' or 'sentence1'");
  return Columns{.text = column(kTextNames, text),
                 .pair = column(kTextNames, text + 1),
                 .label = column(kLabelNames, 0),
                 .score = column(kScoreNames, 0)};
}

Result<TextDataset> parse_table(std::span<const Line> lines, const Columns& columns,
                                size_t min_fields, size_t max_fields) {
  std::vector<TextSample> samples;
  std::vector<std::string> labels;
  for (const Line& line : lines) {
    const std::vector<std::string_view> fields = split(line.text, '\t');
    if (fields.size() < min_fields || fields.size() > max_fields)
      return at_line(line, std::to_string(fields.size()) + " fields, expected " +
                               std::to_string(min_fields) +
                               (min_fields == max_fields ? "" : " or more"));
    const auto field = [&fields](size_t column) {
      return column == kNone ? std::string_view() : fields[column];
    };
    TextSample sample{.text = std::string(field(columns.text)),
                      .pair = std::string(field(columns.pair))};
    if (columns.score != kNone && !parse_number(field(columns.score), &sample.score))
      return at_line(line, "score '" + std::string(field(columns.score)) + "' is no number");
    samples.push_back(std::move(sample));
    labels.emplace_back(field(columns.label));
  }
  return with_labels(std::move(samples), labels);
}

// A text member of a JSON object; numbers as they are printed.
Result<std::string> text_of(const Json& object, std::string_view name) {
  const Json& value = member(object, name);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  if (value.is_null()) return std::string();
  return Error{Status::kCorrupt, std::string(name).append(" is neither text nor number")};
}

}  // namespace

Result<TextDataset> parse_stsb(std::string_view text) {
  constexpr Columns kColumns{.text = 5, .pair = 6, .score = 4};
  constexpr size_t kFields = 7, kAnyMore = static_cast<size_t>(-1);  // some lines name sources
  constexpr double kMaxScore = 5;
  const std::vector<Line> lines = lines_of(text);
  MPQ_TRY(TextDataset set, parse_table(lines, kColumns, kFields, kAnyMore));
  for (size_t i = 0; i < lines.size(); ++i)
    if (set.samples[i].score < 0 || set.samples[i].score > kMaxScore)
      return at_line(lines[i],
                     "score " + std::to_string(set.samples[i].score) + " is not from 0 to 5");
  return set;
}

Result<TextDataset> parse_glue_tsv(std::string_view text) {
  const std::vector<Line> lines = lines_of(text);
  if (lines.empty()) return TextDataset{};
  MPQ_TRY(const Columns columns, columns_of(lines.front()));
  const size_t fields = split(lines.front().text, '\t').size();
  return parse_table(std::span(lines).subspan(1), columns, fields, fields);
}

Result<TextDataset> parse_tsv(std::string_view text) {
  constexpr Columns kColumns{.text = 0, .label = 1};
  return parse_table(lines_of(text), kColumns, 2, 2);
}

Result<TextDataset> parse_txt(std::string_view text) {
  TextDataset set;
  for (const Line& line : lines_of(text)) set.samples.push_back({.text = std::string(line.text)});
  return set;
}

Result<TextDataset> parse_jsonl(std::string_view text) {
  std::vector<TextSample> samples;
  std::vector<std::string> labels;
  for (const Line& line : lines_of(text)) {
    const auto json = parse_json(line.text);
    if (!json.ok() || !json->is_object()) return at_line(line, "is no JSON object");
    const auto has = [&json](std::string_view name) { return json->contains(name); };
    const auto read = [&](Names names, size_t from, std::string* value) -> Result<size_t> {
      const size_t i = first_name(names, has, from);
      if (i == kNone) return kNone;
      auto found = text_of(*json, names[i]);
      if (!found.ok()) return at_line(line, found.error().message);
      *value = *std::move(found);
      return i;
    };
    TextSample sample;
    std::string score;
    MPQ_TRY(const size_t at, read(kTextNames, 0, &sample.text));
    if (at == kNone) return at_line(line, "no text, like 'text' or 'sentence1'");
    MPQ_CHECK(read(kTextNames, at + 1, &sample.pair));
    MPQ_CHECK(read(kLabelNames, 0, &labels.emplace_back()));
    MPQ_CHECK(read(kScoreNames, 0, &score));
    if (!score.empty() && !parse_number(score, &sample.score))
      return at_line(line, "score '" + score + "' is no number");
    samples.push_back(std::move(sample));
  }
  return with_labels(std::move(samples), labels);
}

}  // namespace mpq::data
