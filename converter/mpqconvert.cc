// mpqconvert: trained networks in, model files out. Verbs live in converter/cli.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "converter/cli/command.h"

namespace {

using namespace mpq::convert::cli;

struct Verb {
  const char* name;
  const char* summary;
  Run (*add)(CLI::App*, const Global*);
};
constexpr Verb kVerbs[] = {
    {"convert", "a network to a model file (the default verb)", add_convert},
};

constexpr char kExamples[] =
    "Examples:\n"
    "  mpqconvert resnet50_w4a4_nvidia/ -o w4a4.fb\n";

bool is_verb(const std::string& word) {
  return std::any_of(std::begin(kVerbs), std::end(kVerbs),
                     [&](const Verb& verb) { return word == verb.name; });
}

// "mpqconvert IN -o OUT" means "mpqconvert convert IN -o OUT"; options may precede a verb.
void put_verb_first(std::vector<std::string>* words) {
  if (words->empty() || words->front() == "-h" || words->front() == "--help" ||
      words->front() == "--version")
    return;
  const auto first = std::find_if(words->begin(), words->end(),
                                  [](const std::string& word) { return !word.starts_with('-'); });
  if (first != words->end() && is_verb(*first))
    std::rotate(words->begin(), first, first + 1);
  else
    words->insert(words->begin(), "convert");
}

int finish(Exit code) { return static_cast<int>(code); }

int run(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  put_verb_first(&words);

  CLI::App app{"Converts trained networks to mixed-precision model files.", "mpqconvert"};
  app.footer(kExamples);
  app.set_version_flag("--version", "mpqconvert " MPQ_VERSION);
  app.require_subcommand(1);
  Global global;
  std::vector<std::pair<CLI::App*, Run>> actions;
  for (const Verb& verb : kVerbs) {
    CLI::App* const sub = app.add_subcommand(verb.name, verb.summary);
    Run action = verb.add(sub, &global);
    sub->add_flag("-q,--quiet", global.quiet, "errors only");
    sub->add_flag("--json", global.json, "one JSON document on stdout");
    actions.emplace_back(sub, std::move(action));
  }
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return finish(code == 0 ? Exit::kSuccess : Exit::kUsage);
  }
  for (const auto& [sub, action] : actions) {
    if (!sub->parsed()) continue;
    const auto done = action();
    if (done.ok()) return finish(Exit::kSuccess);
    std::fprintf(stderr, "mpqconvert: %s\n", done.error().message.c_str());
    return finish(exit_of(done.error().code));
  }
  return finish(Exit::kUsage);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("mpqconvert: out of memory\n", stderr);
    return finish(Exit::kLimit);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpqconvert: internal error: %s\n", error.what());
    return finish(Exit::kFailure);
  }
}
