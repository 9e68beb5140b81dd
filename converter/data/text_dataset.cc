#include "converter/data/text_dataset.h"

#include <algorithm>

#include "converter/data/text_file.h"
#include "converter/data/text_formats.h"

namespace mpq::data {

namespace {

struct Format {
  std::string_view name;
  Result<TextDataset> (*parse)(std::string_view);
};
constexpr Format kFormats[] = {
    {"stsb", parse_stsb},   {"glue-tsv", parse_glue_tsv}, {"tsv", parse_tsv},
    {"squad", parse_squad}, {"txt", parse_txt},           {"jsonl", parse_jsonl},
};

const Format* format_of(const std::string& spec) {
  const std::string_view name = std::string_view(spec).substr(0, spec.find(':'));
  const Format* const found = std::find_if(std::begin(kFormats), std::end(kFormats),
                                           [name](const Format& f) { return f.name == name; });
  return found == std::end(kFormats) || name.size() == spec.size() ? nullptr : found;
}

}  // namespace

bool is_text_dataset(const std::string& spec) { return format_of(spec) != nullptr; }

Result<TextDataset> open_text_dataset(const std::string& spec) {
  const Format* const format = format_of(spec);
  if (format == nullptr) {
    std::string names;
    for (const Format& known : kFormats) names.append(" ").append(known.name).append(":FILE");
    return Error{Status::kInvalidArgument, spec + ": is none of" + names};
  }
  const std::string place = spec.substr(format->name.size() + 1);
  MPQ_TRY(const std::string text, read_text_file(place));
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  const std::string_view body(text);
  auto set = format->parse(body.substr(body.starts_with(kByteOrderMark) ? 3 : 0));
  if (!set.ok()) return Error{set.error().code, place + ": " + set.error().message};
  if (set->samples.empty()) return Error{Status::kCorrupt, place + ": no texts in it"};
  return set;
}

}  // namespace mpq::data
