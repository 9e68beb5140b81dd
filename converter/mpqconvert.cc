// mpqconvert: trained networks in, model files out. Verbs live in converter/cli.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "converter/cli/command.h"
#include "manual/cli11.h"

namespace {

using namespace mpq::convert::cli;

struct Verb {
  const char* name;
  const char* summary;
  const char* examples;
  Run (*add)(CLI::App*, const Global*);
};
constexpr Verb kVerbs[] = {
    {"convert", "a network to a model file (the default verb)",
     "Examples:\n"
     "  mpqconvert resnet50_w4a4_nvidia/ -o w4a4.fb\n"
     "  mpqconvert resnet50.onnx --calib images/ --map eagl:budget=0.75,bits=4/2 -o mixed.fb\n"
     "  mpqconvert all-MiniLM-L6-v2/ --calib stsb:sts-train.csv --map uniform:4/8 -o minilm.fb\n",
     add_convert},
    {"search", "a precision map for a network",
     "Examples:\n"
     "  mpqconvert search resnet50.onnx --budget 0.75 --table -o map.json\n"
     "  mpqconvert search resnet50.onnx --bits 8/4/2 --cost bops --pin 're:/layer1.*:8' -o "
     "map.json\n"
     "  mpqconvert search net.onnx --map hawq:budget=0.75 --dataset images/ -o map.json\n",
     add_search},
    {"inspect", "what a network holds and whether it can be converted",
     "Example:\n  mpqconvert inspect resnet50.onnx --graph\n", add_inspect},
    {"calibrate", "ranges and steps of a network's activations",
     "Example:\n  mpqconvert calibrate resnet50.onnx --calib images/ -o ranges.json\n",
     add_calibrate},
    {"map", "show, edit, compare and check precision maps",
     "Example:\n  mpqconvert map edit map.json --set 're:/layer4.*=4' --set fc=8 -o edited.json\n",
     add_map},
    {"evaluate", "what the float network answers to texts, and its score",
     "Example:\n  mpqconvert evaluate all-MiniLM-L6-v2/ --dataset stsb:sts-test.csv\n",
     add_evaluate},
    {"train", "a float network for small images",
     "Example:\n"
     "  mpqconvert train resnet8 --side 28 --dataset train-images-idx3-ubyte.gz --epochs 5 "
     "-o net.onnx\n",
     add_train},
    {"finetune", "a network with learned quantisers (LSQ)",
     "Examples:\n"
     "  mpqconvert finetune net.onnx --dataset train/ --map uniform:4 --crop 4 --flip -o net.fb\n"
     "  mpqconvert finetune net.onnx --dataset train/ --map map.json --checkpoint run.ckpt -o "
     "net.fb\n",
     add_finetune},
    {"alps", "gains of every group of layers, measured by fine-tuning",
     "Example:\n"
     "  mpqconvert alps w4a4.onnx --dataset train/ --checkpoint runs/ -o gains.json\n"
     "  mpqconvert finetune w4a4.onnx --dataset train/ --map alps:file=gains.json,budget=0.75 -o "
     "net.fb\n",
     add_alps},
    {"report", "precision maps of a network as one page for a browser",
     "Example:\n"
     "  mpqconvert report net.onnx --map eagl:budget=0.75 --map sqnr:budget=0.75 -o report.html\n",
     add_report},
    {"reconstruct",
     "a network on codes, on samples without labels: images block by block, or texts",
     "Example:\n  mpqconvert reconstruct resnet50.onnx --calib images/ --map uniform:4 -o "
     "w4a4.fb\n",
     add_reconstruct},
};

constexpr char kSummary[] = "convert trained networks to mixed-precision model files";
constexpr char kExamples[] =
    "Examples:\n"
    "  mpqconvert resnet50_w4a4_nvidia/ -o w4a4.fb\n"
    "  mpqconvert resnet50.onnx --calib images/ --map uniform:8 -o w8a8.fb\n"
    "  mpqconvert resnet50.onnx --calib images/ --map eagl:budget=0.75 -o mixed.fb\n"
    "  mpqconvert search resnet50.onnx --budget 0.75 --pareto front.json -o map.json\n"
    "  mpqconvert map edit map.json --set 're:/layer4.*=4' -o edited.json\n\n"
    "A budget in measured time: convert with uniform:8, uniform:4, uniform:2; run\n"
    "  mpqrun MODEL --profile --json > PROFILE.json    for each; then\n"
    "  mpqconvert search resnet50.onnx --cost latency --profile P4.json --profile P2.json --budget "
    "0.8\n\n";

struct ExitMeaning {
  Exit code;
  const char* brief;    // for --help
  const char* meaning;  // for the manual page
};
constexpr ExitMeaning kExitMeanings[] = {
    {Exit::kSuccess, "success", "success"},
    {Exit::kFailure, "failure", "failure not named here"},
    {Exit::kUsage, "usage", "usage error"},
    {Exit::kIo, "file", "file not found, unreadable or unwritable"},
    {Exit::kCorrupt, "not a model", "input corrupt, or not of a known format"},
    {Exit::kUnsupported, "unsupported", "valid, but with operators or types that are not known"},
    {Exit::kLimit, "limit", "out of memory, or a limit"},
    {Exit::kDigest, "digest", "digest mismatch"},
};

std::string exit_codes() {
  std::string text;
  for (const ExitMeaning& row : kExitMeanings)
    text += (text.empty() ? "Exit codes: " : ", ") + std::to_string(static_cast<int>(row.code)) +
            " " + row.brief;
  return text + ".\n";
}

// The lines of a footer that are commands.
void add_examples(const std::string& footer, std::vector<std::string>* examples) {
  std::istringstream lines(footer);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("  ")) examples->push_back(line.substr(2));
}

mpq::manual::Program manual_of(const CLI::App& app) {
  mpq::manual::Program program = mpq::manual::program_of(app);
  program.summary = kSummary;
  program.usage = "[COMMAND] INPUT [OPTIONS]";
  for (const Verb& verb : kVerbs) add_examples(verb.examples, &program.examples);
  for (const ExitMeaning& row : kExitMeanings)
    program.exit_codes.push_back({std::to_string(static_cast<int>(row.code)), row.meaning});
  program.see_also = {"mpqrun(1)", "mpqserve(1)", "mpq(3)"};
  return program;
}

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
  const bool manual = mpq::manual::is_asked(words);
  if (!manual) put_verb_first(&words);

  CLI::App app{kSummary, "mpqconvert"};
  app.footer(kExamples + exit_codes());
  app.set_version_flag("--version", "mpqconvert " MPQ_VERSION);
  app.require_subcommand(1);
  Global global;
  std::vector<std::pair<CLI::App*, Run>> actions;
  for (const Verb& verb : kVerbs) {
    CLI::App* const sub = app.add_subcommand(verb.name, verb.summary);
    sub->footer(verb.examples);
    Run action = verb.add(sub, &global);
    sub->add_flag("-q,--quiet", global.quiet, "errors only");
    sub->add_flag("--json", global.json, "one JSON document on stdout");
    actions.emplace_back(sub, std::move(action));
  }
  if (manual) {
    std::fputs(mpq::manual::answer(manual_of(app), words).c_str(), stdout);
    return finish(Exit::kSuccess);
  }
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    app.parse(reversed);
  } catch (const CLI::RequiredError& error) {
    // What is unknown says more than what is missing.
    const std::vector<std::string> unknown = app.remaining(true);
    if (unknown.empty())
      app.exit(error);
    else
      app.exit(CLI::ExtrasError(unknown));
    return finish(Exit::kUsage);
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
