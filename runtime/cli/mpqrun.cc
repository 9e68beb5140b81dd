// mpqrun: runs, measures and checks models through the public C API (runtime/mpq.h).
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"
#include "runtime/mpq.h"

namespace mpq::cli {

namespace {

constexpr VerbFn kVerbFunctions[kModeCount] = {run_once, run_bench,  run_profile, run_eval,
                                               run_info, run_verify, run_compare, run_doctor};

void log_line(void*, mpq_log_level level, const char* text) {
  level == MPQ_LOG_WARNING ? warn(text) : note(text);
}

std::string version_text() {
  std::string levels = "scalar";
  for (const uint32_t level : {MPQ_ISA_AVX2, MPQ_ISA_AVX512VNNI, MPQ_ISA_AMX})
    if ((mpq_isa_available() & level) != 0) levels += std::string(" ") + mpq_isa_name(level);
  return format("mpqrun %s\n%s\nusable here: %s\n", mpq_version_string(), mpq_build_info(),
                levels.c_str());
}

int fail(const Error& error) {
  complain(error.message);
  return exit_code(error.code);
}

// Results that could not be written are a failure, not a success with nothing to show.
int flushed(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  complain("stdout: cannot write the results");
  return code == kExitOk ? static_cast<int>(kExitFile) : code;
}

int run(const std::vector<std::string>& words) {
  if (manual::is_asked(words)) {
    std::fputs(manual::answer(manual_of(), words).c_str(), stdout);
    return kExitOk;
  }
  const bool help_verb = !words.empty() && words[0] == "help";
  std::vector<std::string> rest(words.begin() + (help_verb ? 1 : 0), words.end());
  if (help_verb) rest.emplace_back("--help");
  const Result<Args> args = Args::parse(rest);
  if (!args) return fail(args.error());
  if (args->has("version")) {
    std::fputs(version_text().c_str(), stdout);
    return kExitOk;
  }
  if (args->has("help") || args->has("help-all")) {
    const bool general = args->mode() == Mode::kRun && !(!rest.empty() && rest[0] == "run");
    std::fputs(
        help_text(general ? std::nullopt : std::optional(args->mode()), args->has("help-all"))
            .c_str(),
        stdout);
    return kExitOk;
  }
  if (words.empty()) {
    std::fputs(help_text(std::nullopt, false).c_str(), stderr);
    return kExitUsage;
  }
  set_verbosity(*args);
  catch_signals();
  mpq_set_log(log_line, nullptr);
  const Result<ExitCode> code = kVerbFunctions[static_cast<size_t>(args->mode())](*args);
  if (interrupted()) return interrupted_exit_code();
  return code ? static_cast<int>(*code) : fail(code.error());
}

}  // namespace

Result<std::string> model_path(const Args& args) {
  // eval takes the data set without --dataset, too.
  const size_t most = args.mode() == Mode::kEval && !args.has("dataset") ? 2 : 1;
  if (!args.files().empty() && args.files().size() <= most) return args.files()[0];
  if (args.files().empty())
    return Error{Status::kInvalidArgument,
                 "no model named: mpqrun " + std::string(mode_name(args.mode())) + " MODEL"};
  return Error{Status::kInvalidArgument,
               args.files()[1] + ": one model at a time (inputs are given with -i)"};
}

Result<uint32_t> single(const Args& args, const std::string& option) {
  MPQ_TRY(const std::vector<uint32_t> values, args.list(option));
  if (values.size() != 1)
    return Error{Status::kInvalidArgument, "--" + option + " " + args.text(option) + ": " +
                                               mode_name(args.mode()) + " takes one value"};
  return values[0];
}

}  // namespace mpq::cli

int main(int argc, char** argv) {
  using namespace mpq::cli;
  // Our code does not throw, but containers may run out of memory.
  try {
    return flushed(run(std::vector<std::string>(argv + 1, argv + argc)));
  } catch (const std::bad_alloc&) {
    complain("out of memory");
    return kExitLimit;
  } catch (const std::exception& failure) {
    complain(std::string("internal error: ") + failure.what());
    return kExitFailure;
  }
}
