// --help, --help-all, the manual page and shell completion, all from the option table.
#include "manual/program.h"
#include "runtime/cli/exit_code.h"
#include "runtime/cli/options.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

std::string option_line(const Option& option) {
  std::string flag = option.letter == 0 ? "    " : format("-%c, ", option.letter);
  flag += std::string("--") + option.name;
  if (option.value != nullptr)
    flag += option.value[0] == '[' ? "[=" + std::string(option.value + 1)
                                   : " " + std::string(option.value);
  const std::string fallback = option.fallback == nullptr ? "" : format(" [%s]", option.fallback);
  return format("  %-24s %s%s\n", flag.c_str(), option.help, fallback.c_str());
}

std::string option_lines(ModeMask modes, bool all) {
  std::string text;
  for (const Option& option : options())
    if ((option.modes & modes) != 0 && (all || !option.advanced)) text += option_line(option);
  return text;
}

// "exit: 0 done, 1 failed, ...", in lines that fit a terminal.
std::string exit_codes() {
  constexpr size_t kWidth = 96;
  std::string text, line = "exit:";
  for (const ExitMeaning& row : exit_meanings()) {
    const std::string word = format("%s %d %s", row.code == 0 ? "" : ",", row.code, row.brief);
    if (line.size() + word.size() > kWidth) {
      text += line + ",\n";
      line = "     " + word.substr(1);
    } else {
      line += word;
    }
  }
  return text + line + "\n";
}

constexpr const char* kSummary = "run, measure and check mixed-precision networks";
constexpr const char* kUsage = "[VERB] MODEL [OPTIONS]";

// The first screen: what there is and the few options that everybody needs.
std::string overview() {
  std::string text = format("mpqrun: %s\n\n", kSummary);
  for (const Example& example : examples())
    text += format("  %-48s%s\n", example.command, example.what);
  text += format("\nusage: mpqrun %s     a verb may also be written as --verb\n\n", kUsage);
  for (const Verb& verb : verbs()) text += format("  %-9s %s\n", verb.name, verb.summary);
  text += "\nOptions of most verbs (the verb's own: mpqrun VERB --help)\n";
  for (const char* name :
       {"input", "batch", "threads", "device", "isa", "json", "quiet", "help", "version"})
    for (const Option& option : options())
      if (std::string_view(option.name) == name) text += option_line(option);
  return text + "\n" + exit_codes();
}

manual::Option manual_of(const Option& option) {
  manual::Option row;
  if (option.letter != 0) row.names.push_back(format("-%c", option.letter));
  row.names.push_back(std::string("--") + option.name);
  if (option.value != nullptr) {
    row.value_optional = option.value[0] == '[';
    row.value = row.value_optional ? split(option.value + 1, ']')[0] : option.value;
  }
  if (option.choices != nullptr) row.choices = split(option.choices, '|');
  if (option.fallback != nullptr) row.fallback = option.fallback;
  row.help = option.help;
  return row;
}

}  // namespace

std::string help_text(std::optional<Mode> mode, bool all) {
  if (!mode && !all) return overview();
  if (!mode) return overview() + "\nAll options\n" + option_lines(kAllModes, true);
  const Verb& verb = verbs()[static_cast<size_t>(*mode)];
  return format("mpqrun %s: %s\n\n  %s\n\nOptions (defaults in brackets)\n", verb.name,
                verb.summary, verb.example) +
         option_lines(bit(*mode), all) + "\n" + exit_codes();
}

manual::Program manual_of() {
  manual::Program program{.name = "mpqrun", .summary = kSummary, .usage = kUsage};
  program.commands_may_have_dashes = true;
  for (const Verb& verb : verbs()) {
    manual::Command command{verb.name, verb.summary, {}};
    for (const Option& option : options())
      if ((option.modes & bit(verb.mode)) != 0) command.options.push_back(manual_of(option));
    program.commands.push_back(std::move(command));
    program.examples.emplace_back(verb.example);
  }
  for (const ExitMeaning& row : exit_meanings())
    program.exit_codes.push_back({std::to_string(row.code), row.meaning});
  manual::Section environment{"ENVIRONMENT", {}};
  for (const Option& option : options())
    if (option.value != nullptr)
      environment.rows.push_back(
          {environment_name(option),
           format("stands in for --%s where that is not given", option.name)});
  environment.rows.push_back({"NO_COLOR", "as --color never"});
  program.sections = {std::move(environment)};
  program.see_also = {"mpqconvert(1)", "mpqserve(1)", "mpq(3)"};
  return program;
}

}  // namespace mpq::cli
