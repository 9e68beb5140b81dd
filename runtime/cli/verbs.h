// What mpqrun can do: one function a verb, one file a function. Each returns its exit code.
#pragma once

#include "runtime/cli/args.h"
#include "runtime/cli/exit_code.h"

namespace mpq::cli {

using VerbFn = Result<ExitCode> (*)(const Args&);

Result<ExitCode> run_once(const Args& args);
Result<ExitCode> run_bench(const Args& args);
Result<ExitCode> run_profile(const Args& args);
Result<ExitCode> run_eval(const Args& args);
Result<ExitCode> run_info(const Args& args);
Result<ExitCode> run_verify(const Args& args);
Result<ExitCode> run_compare(const Args& args);
Result<ExitCode> run_doctor(const Args& args);

// The only file of the command line, or a usage error.
Result<std::string> model_path(const Args& args);
// Options that bench takes lists of, where only one value makes sense.
Result<uint32_t> single(const Args& args, const std::string& option);

}  // namespace mpq::cli
