// The options of a CLI11 program as a Program.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "manual/program.h"

namespace mpq::manual {

// CLI11 says "UINT:INT in [1 - 8] ENV" or "TEXT:{none,poll}": the placeholder and what is allowed.
inline Option option_of(const CLI::Option& from) {
  Option option;
  for (const std::string& name : from.get_snames()) option.names.push_back("-" + name);
  for (const std::string& name : from.get_lnames()) option.names.push_back("--" + name);
  option.help = from.get_description();
  option.fallback = from.get_default_str();
  if (from.get_items_expected_max() == 0) {
    option.fallback.clear();  // a switch
    return option;
  }
  const std::string type = from.get_type_name();
  const size_t colon = type.find(':');
  option.value = option.names.empty() ? from.get_name(true) : type.substr(0, colon);
  if (colon == std::string::npos) return option;
  const std::string allowed = type.substr(colon + 1);
  if (allowed.starts_with('{')) {
    const std::string words = allowed.substr(1, allowed.find('}') - 1);
    for (size_t at = 0, end = 0; end != std::string::npos; at = end + 1) {
      end = words.find(',', at);
      option.choices.push_back(words.substr(at, end - at));
    }
  } else if (allowed.starts_with("INT in ") || allowed.starts_with("FLOAT in ")) {
    option.help += " (" + allowed.substr(allowed.find('[')) + ")";
  }
  return option;
}

inline void add_options(const std::vector<Option>& options, Command* command) {
  for (const Option& option : options)
    if (std::find(command->options.begin(), command->options.end(), option) ==
        command->options.end())
      command->options.push_back(option);
}

// The commands inside `app` take its options, too, unless it is the program itself.
inline void add_commands(const CLI::App& app, const std::string& name,
                         const std::vector<Option>& inherited, Program* program) {
  Command command{name, app.get_description(), {}};
  for (const CLI::Option* option : app.get_options()) command.options.push_back(option_of(*option));
  const std::vector<Option> handed_on = name.empty() ? std::vector<Option>() : command.options;
  add_options(inherited, &command);
  program->commands.push_back(std::move(command));
  for (const CLI::App* sub : app.get_subcommands({}))
    add_commands(*sub, name.empty() ? sub->get_name() : name + " " + sub->get_name(), handed_on,
                 program);
}

/// Name, summary and commands, of which the first is meant where none is given; the caller adds
/// usage, exit codes and the rest.
inline Program program_of(const CLI::App& app) {
  Program program;
  program.name = app.get_name();
  program.summary = app.get_description();
  add_commands(app, "", {}, &program);
  if (program.commands.size() > 1) add_options(program.commands[1].options, &program.commands[0]);
  return program;
}

}  // namespace mpq::manual
