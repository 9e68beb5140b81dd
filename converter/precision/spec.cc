#include "converter/precision/spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "converter/precision/names.h"
#include "converter/precision/selector.h"

namespace mpq::convert::precision {
namespace {

constexpr char kUniform[] = "uniform";

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
    parts.push_back(text.substr(begin, end - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

bool parse_number(const std::string& text, double* value) {
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return !text.empty() && end == text.c_str() + text.size() && std::isfinite(*value) &&
         *value >= 0.0;
}

bool parse_natural(const std::string& text, uint64_t* value) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && rest == text.data() + text.size();
}

bool parse_count(const std::string& text, size_t* value) {
  uint64_t number = 0;
  const bool ok = parse_natural(text, &number) && number > 0;
  if (ok) *value = static_cast<size_t>(number);
  return ok;
}

bool parse_width(const std::string& text, int* bits) {
  uint64_t value = 0;
  if (!parse_natural(text, &value) || (value != 2 && value != 4 && value != 8)) return false;
  *bits = static_cast<int>(value);
  return true;
}

template <typename Enum>
struct Word {
  const char* word;
  Enum value;
};
template <typename Enum, size_t n>
bool parse_word(const std::string& text, const Word<Enum> (&words)[n], Enum* value) {
  for (const auto& row : words)
    if (text == row.word) {
      *value = row.value;
      return true;
    }
  return false;
}

bool set_budget(SearchOptions* options, const std::string& text, BudgetForm form) {
  options->form = form;
  return parse_number(text, &options->budget);
}

bool set_bits_list(SearchOptions* options, const std::string& text) {
  options->bits.clear();
  for (const std::string& word : split(text, '/')) {
    int bits = 0;
    if (!parse_width(word, &bits) || (!options->bits.empty() && bits >= options->bits.back()))
      return false;
    options->bits.push_back(bits);
  }
  return true;
}

bool set_pin(SearchOptions* options, const std::string& text) {
  const size_t colon = text.rfind(':');
  int bits = 0;
  if (colon == std::string::npos || colon == 0 || !parse_width(text.substr(colon + 1), &bits))
    return false;
  options->pins.emplace_back(text.substr(0, colon), bits);
  return true;
}

constexpr Word<EntropyGain> kGains[] = {{"entropy", EntropyGain::kEntropy},
                                        {"difference", EntropyGain::kDifference},
                                        {"excess", EntropyGain::kExcess},
                                        {"weighted", EntropyGain::kWeighted}};
constexpr Word<Pooling> kPoolings[] = {{"layer", Pooling::kLayer},
                                       {"channel", Pooling::kChannelMean}};
constexpr Word<GroupGain> kGroups[] = {{"sum", GroupGain::kSum},
                                       {"mean", GroupGain::kMean},
                                       {"max", GroupGain::kMax},
                                       {"pooled", GroupGain::kPooled}};
constexpr Word<StepRule> kSteps[] = {{"mse", StepRule::kMse}, {"lsq", StepRule::kLsq}};

struct Key {
  const char* name;
  const char* takes;
  bool (*set)(SearchOptions*, const std::string&);
};
constexpr Key kKeys[] = {
    {"budget", "a fraction of the cost with every selectable layer at the highest precision",
     [](SearchOptions* o, const std::string& v) {
       return set_budget(o, v, BudgetForm::kFraction);
     }},
    {"budget-r", "0 (all at the lowest precision) to 1 (all at the highest)",
     [](SearchOptions* o, const std::string& v) {
       return set_budget(o, v, BudgetForm::kInterpolate);
     }},
    {"budget-abs", "a number in units of the cost model",
     [](SearchOptions* o, const std::string& v) {
       return set_budget(o, v, BudgetForm::kAbsolute);
     }},
    {"bits", "the choices, descending, such as 4/2 or 8/4/2", set_bits_list},
    {"activations", "8, 4 or 2: bits of the inputs of selectable layers, or same: as their weights",
     [](SearchOptions* o, const std::string& v) {
       if (v == "same") o->activation_bits = 0;
       return v == "same" || parse_width(v, &o->activation_bits);
     }},
    {"fixed", "8, 4 or 2: bits of the first and the last layer",
     [](SearchOptions* o, const std::string& v) { return parse_width(v, &o->fixed_bits); }},
    {"count-fixed", "yes or no: the first and the last layer are part of the budget",
     [](SearchOptions* o, const std::string& v) {
       o->count_fixed = v == "yes";
       return v == "yes" || v == "no";
     }},
    {"cost", "bmac, bops, bytes, latency or energy",
     [](SearchOptions* o, const std::string& v) { return parse_cost_model(v, &o->cost); }},
    {"gain", "entropy, difference, excess or weighted",
     [](SearchOptions* o, const std::string& v) { return parse_word(v, kGains, &o->eagl.gain); }},
    {"pooling", "layer or channel",
     [](SearchOptions* o, const std::string& v) {
       return parse_word(v, kPoolings, &o->eagl.pooling);
     }},
    {"group", "sum, mean, max or pooled",
     [](SearchOptions* o, const std::string& v) { return parse_word(v, kGroups, &o->eagl.group); }},
    {"step", "mse or lsq: how float weights get codes",
     [](SearchOptions* o, const std::string& v) { return parse_word(v, kSteps, &o->eagl.step); }},
    {"seed", "an integer: of random, and of the choice of images",
     [](SearchOptions* o, const std::string& v) { return parse_natural(v, &o->seed); }},
    {"samples", "how many images a selector looks at",
     [](SearchOptions* o, const std::string& v) { return parse_count(v, &o->samples); }},
    {"probes", "random directions of the Hessian's trace, for hawq",
     [](SearchOptions* o, const std::string& v) { return parse_count(v, &o->probes); }},
    {"steps", "batches on which steps are learned, for lsq-step",
     [](SearchOptions* o, const std::string& v) { return parse_count(v, &o->steps); }},
    {"file", "JSON or CSV of gains, for alps and gains",
     [](SearchOptions* o, const std::string& v) {
       o->file = v;
       return !v.empty();
     }},
    {"pin", "LAYER:BITS or re:REGEX:BITS", set_pin},
};

}  // namespace

std::vector<std::string> search_keys() {
  std::vector<std::string> names;
  for (const Key& key : kKeys) names.emplace_back(key.name);
  return names;
}

std::vector<std::pair<std::string, std::string>> search_key_help() {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Key& key : kKeys) rows.emplace_back(key.name, key.takes);
  return rows;
}

Checked set_search_option(SearchOptions* options, const std::string& key,
                          const std::string& value) {
  const auto* const row =
      std::find_if(std::begin(kKeys), std::end(kKeys), [&](const Key& k) { return key == k.name; });
  if (row == std::end(kKeys))
    return Error{Status::kInvalidArgument,
                 "unknown search option '" + key + "'" + suggestion(key, search_keys())};
  if (!row->set(options, value))
    return Error{Status::kInvalidArgument, key + "='" + value + "': it takes " + row->takes};
  return Ok{};
}

Result<SearchOptions> parse_search(const std::string& spec) {
  SearchOptions options;
  const size_t colon = spec.find(':');
  options.method = spec.substr(0, colon);
  if (colon == std::string::npos) return options;
  for (const std::string& part : split(spec.substr(colon + 1), ',')) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos)
      return Error{Status::kInvalidArgument, "'" + part + "' in '" + spec + "' is not key=value"};
    MPQ_CHECK(set_search_option(&options, part.substr(0, equals), part.substr(equals + 1)));
  }
  return options;
}

format::PrecisionMap uniform_map(const Selection& selection, Bits bits, int fixed_bits) {
  format::PrecisionMap map;
  map.method = kUniform;
  map.budget = 1.0;
  map.groups.resize(selection.groups.size());
  for (const Layer& layer : selection.layers) {
    const bool fixed = selection.groups[layer.group].fixed;
    const Bits chosen = fixed ? Bits{fixed_bits, fixed_bits} : bits;
    map.groups[layer.group].fixed = fixed;
    map.layers.push_back({layer.name, static_cast<uint8_t>(chosen.weight),
                          static_cast<uint8_t>(chosen.activation), layer.group});
  }
  return map;
}

bool looks_at_images(const std::string& text) {
  const auto selector = find_selector(text.substr(0, text.find(':')));
  return selector.ok() && (*selector)->needs == Needs::kImages;
}

bool is_map_spec(const std::string& text) {
  std::vector<std::string> words = search_methods();
  words.emplace_back(kUniform);
  const std::string word = text.substr(0, text.find(':'));
  return std::find(words.begin(), words.end(), word) != words.end();
}

Result<SearchResult> make_map(const Graph& graph, const std::string& spec, const CostTable& table,
                              const train::ImageSet* images) {
  if (spec.substr(0, spec.find(':')) == kUniform) {
    if (spec == kUniform)
      return Error{Status::kInvalidArgument,
                   "uniform needs a precision, such as uniform:4 or uniform:4/8"};
    MPQ_TRY(const Bits bits, parse_bits(spec.substr(sizeof kUniform)));
    SearchResult result;
    MPQ_TRY(result.selection, Selection::of(graph));
    result.map = uniform_map(result.selection, bits);
    return result;
  }
  MPQ_TRY(SearchOptions options, parse_search(spec));
  options.table = table;
  options.images = images;
  return search(graph, options);
}

}  // namespace mpq::convert::precision
