// --help, --help-all and shell completion, all from the option table.
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

constexpr const char* kExitCodes =
    "exit: 0 done, 1 failed, 2 usage, 3 no such file, 4 corrupt, 5 unsupported, 6 accuracy gate,\n"
    "      7 speed gate, 8 memory or limit, 9 device, 10 digest, 130/143 interrupted\n";

// The first screen: what there is and the few options that everybody needs.
std::string overview() {
  std::string text =
      "mpqrun: run, measure and check mixed-precision networks\n\n"
      "  mpqrun model.fb -i cat.jpg                      what is in the picture\n"
      "  mpqrun model.fb --bench -t 1,2                  how fast it is\n"
      "  mpqrun model.fb --eval --dataset imagenet:val/  how right it is\n\n"
      "usage: mpqrun [VERB] MODEL [OPTIONS]     a verb may also be written as --verb\n\n";
  for (const Verb& verb : verbs()) text += format("  %-9s %s\n", verb.name, verb.summary);
  text += "\nOptions of most verbs (the verb's own: mpqrun VERB --help)\n";
  for (const char* name :
       {"input", "batch", "threads", "device", "isa", "json", "quiet", "help", "version"})
    for (const Option& option : options())
      if (std::string_view(option.name) == name) text += option_line(option);
  return text + "\n" + kExitCodes;
}

}  // namespace

std::string help_text(std::optional<Mode> mode, bool all) {
  if (!mode && !all) return overview();
  if (!mode) return overview() + "\nAll options\n" + option_lines(kAllModes, true);
  const Verb& verb = verbs()[static_cast<size_t>(*mode)];
  return format("mpqrun %s: %s\n\n  %s\n\nOptions (defaults in brackets)\n", verb.name,
                verb.summary, verb.example) +
         option_lines(bit(*mode), all) + "\n" + kExitCodes;
}

std::string completion_script() {
  std::string words;
  for (const Verb& verb : verbs()) words += std::string(verb.name) + " ";
  for (const Option& option : options()) words += format("--%s ", option.name);
  return "_mpqrun() { COMPREPLY=($(compgen -W \"" + words +
         "\" -- \"${COMP_WORDS[COMP_CWORD]}\")); }\n"
         "complete -o default -F _mpqrun mpqrun\n";
}

}  // namespace mpq::cli
