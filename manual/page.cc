#include <algorithm>

#include "manual/program.h"

namespace mpq::manual {

namespace {

// Text as roff prints it: no escapes, no requests, no typographer's quotes and dashes.
std::string plain(std::string_view text) {
  std::string out = !text.empty() && (text[0] == '.' || text[0] == '\'') ? "\\&" : "";
  for (const char c : text) switch (c) {
      case '\\':
        out += "\\e";
        break;
      case '-':
        out += "\\-";
        break;
      case '\'':
        out += "\\(aq";
        break;
      case '`':
        out += "\\(ga";
        break;
      case '^':
        out += "\\(ha";
        break;
      case '~':
        out += "\\(ti";
        break;
      case '"':
        out += "\\(dq";
        break;
      default:
        out += c;
    }
  return out;
}

// Lines of at most 79 characters, none of which is a request.
std::string filled(std::string_view text) {
  constexpr size_t kWidth = 79;
  std::string out, line;
  const auto end_line = [&] {
    if (!line.empty()) out += (line[0] == '.' || line[0] == '\'' ? "\\&" : "") + line + "\n";
    line.clear();
  };
  for (size_t at = 0, end = 0; end != std::string_view::npos; at = end + 1) {
    end = text.find(' ', at);
    const std::string_view word = text.substr(at, end - at);
    if (!line.empty() && line.size() + 1 + word.size() > kWidth) end_line();
    if (!word.empty()) line += (line.empty() ? "" : " ") + std::string(word);
  }
  end_line();
  return out;
}

std::string bold(std::string_view text) { return "\\fB" + plain(text) + "\\fR"; }
std::string italic(std::string_view text) { return "\\fI" + plain(text) + "\\fR"; }

std::string term(const Option& option) {
  std::string text;
  for (const std::string& name : option.names) text += (text.empty() ? "" : ", ") + bold(name);
  if (option.value.empty()) return text;
  if (option.names.empty()) return italic(option.value);
  const std::string value = italic(option.value);
  return text + (option.value_optional ? "[=" + value + "]" : " " + value);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// Help, choices that it does not name, default.
std::string body(const Option& option) {
  std::string text = option.help;
  if (std::any_of(option.choices.begin(), option.choices.end(), [&](const std::string& choice) {
        return option.help.find(choice) == std::string::npos;
      }))
    text += (text.empty() ? "" : "; ") + ("one of " + joined(option.choices));
  std::string out = plain(text);
  if (!option.fallback.empty())
    out += (out.empty() ? "" : " ") + ("[" + plain(option.fallback) + "]");
  return out;
}

std::string entry(const std::string& term, const std::string& body) {
  return ".TP\n" + term + "\n" + (body.empty() ? "\\&\n" : filled(body));
}

struct Shared {
  const Option* option;
  std::vector<std::string> commands;
};

// Each option once, with the commands that have it, in the order of their appearance.
std::vector<Shared> distinct(const std::vector<Command>& commands) {
  std::vector<Shared> all;
  for (const Command& command : commands)
    for (const Option& option : command.options) {
      auto found = std::find_if(all.begin(), all.end(),
                                [&](const Shared& s) { return *s.option == option; });
      if (found == all.end()) found = all.insert(found, {&option, {}});
      if (!command.name.empty()) found->commands.push_back(command.name);
    }
  return all;
}

std::string options_of(const Program& program) {
  if (program.commands.size() == 1) {
    std::string text;
    for (const Option& option : program.commands[0].options)
      text += entry(term(option), body(option));
    return text;
  }
  std::string text;
  const std::vector<Shared> all = distinct(program.commands);
  const auto named =
      static_cast<size_t>(std::count_if(program.commands.begin(), program.commands.end(),
                                        [](const Command& c) { return !c.name.empty(); }));
  const auto add = [&](const std::string& title, const auto& belongs) {
    std::string entries;
    for (const Shared& shared : all)
      if (belongs(shared)) {
        std::string about = body(*shared.option);
        if (shared.commands.size() > 1 && shared.commands.size() < named)
          about += (about.empty() ? "(" : " (") + plain(joined(shared.commands)) + ")";
        entries += entry(term(*shared.option), about);
      }
    if (!entries.empty()) text += ".SS " + title + "\n" + entries;
  };
  add("Options of several commands", [](const Shared& s) { return s.commands.size() > 1; });
  add("Options without a command", [](const Shared& s) { return s.commands.empty(); });
  for (const Command& command : program.commands)
    add("Options of " + plain(command.name),
        [&](const Shared& s) { return s.commands.size() == 1 && s.commands[0] == command.name; });
  return text;
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string rows(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) text += entry(bold(row.term), plain(row.text));
  return text;
}

}  // namespace

std::string page(const Program& program) {
  std::string text =
      "." + ("TH " + upper(program.name)) + " 1 " MPQ_RELEASE_DATE " \"mpq " MPQ_VERSION "\"\n";
  text += ".SH NAME\n" + plain(program.name) + " \\- " + plain(program.summary) + "\n";
  text += ".SH SYNOPSIS\n" + bold(program.name) + " " + plain(program.usage) + "\n";
  if (program.commands.size() > 1) {
    text += ".SH COMMANDS\nThe first one is meant where none is given.\n";
    if (program.commands_may_have_dashes)
      text += "Each may also be written with two dashes in front, anywhere.\n";
    for (const Command& command : program.commands)
      if (!command.name.empty()) text += entry(bold(command.name), plain(command.summary));
  }
  text += ".SH OPTIONS\n";
  if (std::any_of(program.commands.begin(), program.commands.end(), [](const Command& command) {
        return std::any_of(command.options.begin(), command.options.end(),
                           [](const Option& option) { return !option.fallback.empty(); });
      }))
    text += "Defaults stand in brackets.\n";
  text += options_of(program);
  if (!program.exit_codes.empty()) text += ".SH EXIT STATUS\n" + rows(program.exit_codes);
  for (const Section& section : program.sections)
    text += ".SH " + section.title + "\n" + rows(section.rows);
  text += ".SH SHELLS\n" +
          filled(bold(program.name + " completion bash") + " and " + bold("completion zsh") +
                 " print functions that complete commands, options and values, " +
                 bold("--manual") + " prints the source of this page.");
  if (!program.examples.empty()) {
    text += ".SH EXAMPLES\n.EX\n";
    for (const std::string& example : program.examples) text += plain(example) + "\n";
    text += ".EE\n";
  }
  if (!program.see_also.empty()) {
    text += ".SH SEE ALSO\n";
    for (size_t i = 0; i < program.see_also.size(); ++i) {
      const std::string& other = program.see_also[i];
      const size_t bracket = other.find('(');
      text += ".BR " + plain(other.substr(0, bracket)) + " " + other.substr(bracket) +
              (i + 1 < program.see_also.size() ? " ,\n" : "\n");
    }
  }
  return text;
}

}  // namespace mpq::manual
