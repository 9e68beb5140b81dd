#include "runtime/cli/args.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "runtime/cli/options.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

Error usage(std::string message) { return {Status::kInvalidArgument, std::move(message)}; }

const Verb* find_verb(std::string_view name) {
  for (const Verb& verb : verbs())
    if (name == verb.name) return &verb;
  return nullptr;
}

const Option* find_option(std::string_view name) {
  for (const Option& option : options())
    if (name == option.name) return &option;
  return nullptr;
}

const Option* find_letter(char letter) {
  for (const Option& option : options())
    if (option.letter == letter) return &option;
  return nullptr;
}

// The nearest option, verb or known spelling of another tool; "" when nothing is near.
std::string suggestion(const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  for (const Alias& alias : aliases())
    if (name == alias.spelling) return alias.ours;
  const std::string bare = name.substr(std::min(name.find_first_not_of('-'), name.size()));
  std::string best;
  size_t least = std::max<size_t>(bare.size() / 3, 1) + 1;
  const auto offer = [&](const char* candidate) {
    const size_t distance = edit_distance(lower(bare), candidate);
    if (distance >= least) return;
    least = distance;
    best = std::string("--") + candidate;
  };
  for (const Option& option : options()) offer(option.name);
  for (const Verb& verb : verbs()) offer(verb.name);
  return best;
}

Error unknown_option(const std::string& word) {
  const std::string near = suggestion(word);
  return usage(word + ": unknown option" +
               (near.empty() ? "; see --help" : "; did you mean " + near + "?"));
}

bool takes_value(const Option& option) { return option.value != nullptr && option.value[0] != '['; }

Result<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || text.empty())
    return usage("\"" + std::string(text) + "\" is not a whole number");
  return value;
}

// One element of a list: "4", "1-4", "1-8*2" or "0-16+4".
Checked append_range(std::string_view text, std::vector<uint32_t>* values) {
  constexpr size_t kMaxValues = 4096;
  const size_t dash = text.find('-');
  MPQ_TRY(const uint32_t first, number(text.substr(0, dash)));
  if (dash == std::string_view::npos) {
    values->push_back(first);
    return Ok{};
  }
  text.remove_prefix(dash + 1);
  const size_t sign = text.find_first_of("*+");
  MPQ_TRY(const uint32_t last, number(text.substr(0, sign)));
  const bool multiply = sign != std::string_view::npos && text[sign] == '*';
  uint32_t step = 1;
  if (sign != std::string_view::npos) {
    MPQ_TRY(step, number(text.substr(sign + 1)));
  }
  if (last < first || step == 0 || (multiply && (step == 1 || first == 0)))
    return usage("the range does not end");
  for (uint64_t value = first; value <= last; value = multiply ? value * step : value + step) {
    if (values->size() >= kMaxValues) return usage("more than 4096 values");
    values->push_back(static_cast<uint32_t>(value));
  }
  return Ok{};
}

}  // namespace

std::string environment_name(const Option& option) {
  std::string name = std::string("MPQ_") + option.name;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(c));
  });
  return name;
}

const char* mode_name(Mode mode) { return verbs()[static_cast<size_t>(mode)].name; }

Result<Args> Args::parse(const std::vector<std::string>& words) {
  Args args;
  args.words_ = words;
  bool mode_given = false;
  std::vector<std::pair<const Option*, std::string>> given;  // with the word, for messages
  const auto set_mode = [&](const Verb& verb) -> Checked {
    if (mode_given && args.mode_ != verb.mode)
      return usage(std::string(mode_name(args.mode_)) + " and " + verb.name +
                   ": one thing at a time");
    args.mode_ = verb.mode;
    mode_given = true;
    return Ok{};
  };

  bool only_files = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (only_files || word.size() < 2 || word[0] != '-') {
      const Verb* const verb = i == 0 ? find_verb(word) : nullptr;
      if (verb != nullptr && !std::filesystem::is_regular_file(word)) {
        MPQ_CHECK(set_mode(*verb));
      } else {
        args.files_.push_back(word);
      }
      continue;
    }
    if (word == "--") {
      only_files = true;
      continue;
    }
    const bool is_long = word.starts_with("--");
    const size_t equals = word.find('=');
    const std::string name = is_long ? word.substr(2, equals - 2) : "";
    // --verify LEVEL is also an option: it is the verb when it stands alone.
    if (const Verb* verb = is_long ? find_verb(name) : nullptr;
        verb != nullptr && equals == std::string::npos) {
      MPQ_CHECK(set_mode(*verb));
      continue;
    }
    const bool joined = !is_long && word.size() > 2;  // -t4
    const Option* const option = is_long ? find_option(name) : find_letter(word[1]);
    const bool aliased = std::any_of(aliases().begin(), aliases().end(),
                                     [&](const Alias& a) { return word == a.spelling; });
    if (option == nullptr || aliased || (joined && !takes_value(*option)))
      return unknown_option(word);
    std::string value;
    if (is_long && equals != std::string::npos) {
      if (option->value == nullptr) return usage(word + ": --" + name + " takes no value");
      value = word.substr(equals + 1);
    } else if (joined) {
      value = word.substr(word[2] == '=' ? 3 : 2);
    } else if (takes_value(*option)) {
      if (++i == words.size()) return usage(word + ": needs a value (" + option->value + ")");
      value = words[i];
    }
    args.values_[option->name].push_back(value);
    given.emplace_back(option, word);
  }

  for (const auto& [option, word] : given)
    if ((option->modes & bit(args.mode_)) == 0)
      return usage(word + ": not an option of " + mode_name(args.mode_) + "; see mpqrun " +
                   mode_name(args.mode_) + " --help");
  for (const Option& option : options()) {
    if (option.value == nullptr || args.has(option.name) || (option.modes & bit(args.mode_)) == 0)
      continue;
    const char* const variable = std::getenv(environment_name(option).c_str());
    if (variable != nullptr && *variable != '\0') args.values_[option.name].emplace_back(variable);
  }
  return args;
}

std::string Args::text(const std::string& option) const {
  const auto found = values_.find(option);
  if (found != values_.end()) return found->second.back();
  const Option* const row = find_option(option);
  assert(row != nullptr);
  return row->fallback == nullptr ? "" : row->fallback;
}

std::vector<std::string> Args::all(const std::string& option) const {
  const auto found = values_.find(option);
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

Result<uint64_t> Args::whole(const std::string& option) const {
  const Result<uint32_t> value = number(text(option));
  if (!value) return usage("--" + option + ": " + value.error().message);
  return uint64_t{*value};
}

Result<double> Args::real(const std::string& option) const {
  const std::string value = text(option);
  double number = 0.0;
  const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
  const std::string_view rest(end, static_cast<size_t>(value.data() + value.size() - end));
  if (failure != std::errc() || value.empty() || !(rest.empty() || rest == "%") ||
      !std::isfinite(number))
    return usage("--" + option + ": \"" + value + "\" is not a number");
  return number;
}

Result<double> Args::percent(const std::string& option) const {
  MPQ_TRY(const double value, real(option));
  return value / 100.0;
}

Result<std::vector<uint32_t>> Args::list(const std::string& option) const {
  std::vector<uint32_t> values;
  for (const std::string& part : split(text(option), ',')) {
    const Checked appended = append_range(part, &values);
    if (!appended)
      return usage("--" + option + " " + text(option) + ": " + appended.error().message);
  }
  return values;
}

}  // namespace mpq::cli
