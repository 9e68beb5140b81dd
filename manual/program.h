// What a program accepts, as a value: from it come its manual page and its completions, so that
// neither can differ from --help, which reads the same tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mpq::manual {

struct Option {
  std::vector<std::string> names;    // with their dashes; none: a word without one
  std::string value;                 // placeholder; "": a switch
  bool value_optional = false;       // --json[=FILE]
  std::vector<std::string> choices;  // all values there are; none: any
  std::string fallback;              // default; "": none
  std::string help;
  bool operator==(const Option&) const = default;
};

struct Command {
  std::string name;  // "map show"; "": where no command is given
  std::string summary;
  std::vector<Option> options;
};

struct Row {
  std::string term, text;
};

struct Section {
  std::string title;  // "ENVIRONMENT"
  std::vector<Row> rows;
};

struct Program {
  std::string name, summary, usage;       // usage: the words behind the name
  std::vector<Command> commands;          // the first is meant where none is given
  bool commands_may_have_dashes = false;  // --bench is bench
  std::vector<std::string> examples;      // command lines; behind three spaces what they do
  std::vector<Row> exit_codes;
  std::vector<Section> sections;
  std::vector<std::string> see_also;  // "mpqrun(1)"
};

/// The page's source for man(1): macros of man(7).
std::string page(const Program& program);

/// Functions for the shell of that name, "bash" or "zsh"; "" for other names.
std::string completion(const Program& program, std::string_view shell);

/// Are these words, behind the program's name, "--manual" or "completion SHELL"?
bool is_asked(const std::vector<std::string>& words);

/// What they ask for.
std::string answer(const Program& program, const std::vector<std::string>& words);

}  // namespace mpq::manual
