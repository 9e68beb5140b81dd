#include <algorithm>

#include "manual/program.h"

namespace mpq::manual {

namespace {

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

// The next words of commands that begin with `done` ("map "): show, edit, ...
std::vector<std::string> next_words(const Program& program, const std::string& done) {
  std::vector<std::string> words;
  for (const Command& command : program.commands)
    if (command.name.size() > done.size() && command.name.starts_with(done) &&
        command.name.find(' ', done.size()) == std::string::npos)
      words.push_back(command.name.substr(done.size()));
  return words;
}

// The shell's loop that finds the command among `words`; $command ends in a space, or is empty.
std::string find_command(const Program& program, const std::string& words) {
  if (program.commands.size() == 1) return "";
  std::string text = "  for word in " + words + "; do\n    case \"$command$word\" in\n";
  for (const Command& command : program.commands)
    if (!command.name.empty())
      text += "      '" + command.name + "'" +
              (program.commands_may_have_dashes ? "|'--" + command.name + "'" : "") +
              ") command='" + command.name + " ' ;;\n";
  return text + "    esac\n  done\n";
}

std::string pattern_of(const Program& program, size_t index) {
  if (program.commands.size() == 1) return "*";
  const std::string& name = program.commands[index].name;
  const std::string own = name.empty() ? "''" : "'" + name + " '";
  return index == 0 && !name.empty() ? "''|" + own : own;  // the default needs no name
}

std::string bash(const Program& program) {
  std::string text =
      "# bash completion of " + program.name + ", printed by itself\n_" + program.name +
      "() {\n"
      "  local word words='' command='' values='' commands='' options=''\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  # --option=value is three words to bash\n"
      "  [ \"$previous\" != = ] || previous=${COMP_WORDS[COMP_CWORD-2]}\n"
      "  [ \"$current\" != = ] || current=''\n" +
      find_command(program, "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"") + "  case $command in\n";
  for (size_t i = 0; i < program.commands.size(); ++i) {
    const Command& command = program.commands[i];
    std::vector<std::string> names;
    std::string values;
    for (const Option& option : command.options) {
      names.insert(names.end(), option.names.begin(), option.names.end());
      if (!option.choices.empty() && !option.names.empty())
        values += "        " + joined(option.names, "|") + ") values='" +
                  joined(option.choices, " ") + "' ;;\n";
    }
    const std::vector<std::string> next = next_words(program, i == 0 ? "" : command.name + " ");
    text += "    " + pattern_of(program, i) + ")\n      options='" + joined(names, " ") + "'\n";
    if (program.commands.size() > 1 && !next.empty())
      text += "      commands='" + joined(next, " ") + "'\n";
    if (!values.empty())
      text += "      case $previous in\n" + values + "      esac ;;\n";
    else
      text += "      ;;\n";
  }
  text +=
      "  esac\n"
      "  case $current in\n"
      "    -*) words=$options ;;\n"
      "    *) words=$values\n"
      "       [ -n \"$values\" ] || [[ $previous == -* ]] || words=$commands ;;\n"
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}\n"
      "complete -o default -F _" +
      program.name + " " + program.name + "\n";
  return text;
}

// Inside '...[help]' of zsh's _arguments.
std::string quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// What zsh's _arguments takes for one spelling of an option.
std::string spec(const Option& option, const std::string& name) {
  std::string text = "'*" + name;
  if (!option.value.empty() && name.starts_with("--")) text += option.value_optional ? "=-" : "=";
  text += "[" + quoted(option.help) + "]";
  if (option.value.empty()) return text + "'";
  text += option.value_optional ? "::" : ":";
  text += quoted(option.value) + ":";
  const bool number = option.value == "N" || option.value == "UINT" || option.value == "INT" ||
                      option.value == "FLOAT" || option.value == "SECONDS" ||
                      option.value == "PERCENT" || option.value == "LIST";
  if (!option.choices.empty())
    text += "(" + joined(option.choices, " ") + ")";
  else
    text += number ? " " : "_files";
  return text + "'";
}

std::string zsh(const Program& program) {
  std::string text = "#compdef " + program.name + "\n# printed by " + program.name +
                     " completion zsh\n_" + program.name + "() {\n  local word command=''\n" +
                     find_command(program, "\"${(@)words[2,CURRENT-1]}\"") + "  case $command in\n";
  for (size_t i = 0; i < program.commands.size(); ++i) {
    const Command& command = program.commands[i];
    const std::string done = i == 0 ? "" : command.name + " ";
    text += "    " + pattern_of(program, i) + ")\n";
    std::string next;
    for (const std::string& word : next_words(program, done)) {
      const auto named = std::find_if(program.commands.begin(), program.commands.end(),
                                      [&](const Command& c) { return c.name == done + word; });
      next += " '" + word + ":" + quoted(named->summary) + "'";
    }
    if (program.commands.size() > 1 && !next.empty())
      text += "      local -a next=(" + next.substr(1) +
              ")\n      [[ ${words[CURRENT]} == -* || ${words[CURRENT-1]} == -* ]] || _describe -t "
              "commands command next\n";
    text += "      _arguments -s";
    for (const Option& option : command.options)
      for (const std::string& name : option.names) text += " \\\n        " + spec(option, name);
    text += " \\\n        '*:file:_files' ;;\n";
  }
  return text + "  esac\n}\n_" + program.name + " \"$@\"\n";
}

struct Shell {
  const char* name;
  std::string (*print)(const Program&);
};
constexpr Shell kShells[] = {{"bash", bash}, {"zsh", zsh}};

}  // namespace

std::string completion(const Program& program, std::string_view shell) {
  for (const Shell& row : kShells)
    if (shell == row.name) return row.print(program);
  return "";
}

bool is_asked(const std::vector<std::string>& words) {
  if (words.size() == 1) return words[0] == "--manual";
  return words.size() == 2 && words[0] == "completion" &&
         std::any_of(std::begin(kShells), std::end(kShells),
                     [&](const Shell& shell) { return words[1] == shell.name; });
}

std::string answer(const Program& program, const std::vector<std::string>& words) {
  return words.size() == 1 ? page(program) : completion(program, words[1]);
}

}  // namespace mpq::manual
