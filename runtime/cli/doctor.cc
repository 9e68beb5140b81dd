// mpqrun doctor: what this machine offers, and what disturbs measurements on it.
#include "runtime/cli/peak.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

Result<ExitCode> run_doctor(const Args& args) {
  MPQ_TRY(const Report report,
          Report::create(args, {Output::kText, Output::kJson, Output::kCsv, Output::kMarkdown}));
  if (!args.files().empty())
    return Error{Status::kInvalidArgument,
                 args.files()[0] + ": doctor looks at the machine, not at files"};
  const Host host = inspect_host();
  const double peak = peak_ops_per_second(mpq_isa_available(), 1);
  std::string levels;
  for (const std::string& level : host.levels) levels += (levels.empty() ? "" : " ") + level;

  Table table{{{"what", false}, {"found", false}}, {}};
  table.rows = {{"CPU", host.cpu},
                {"instruction sets", levels},
                {"AMX", host.amx},
                {"8-bit peak of one core",
                 peak > 0 ? format("%.2f TOPS, measured", peak * 1e-12) : "unknown"},
                {"CPUs online, usable",
                 format("%u, %u (%s)", host.online, host.usable, host.affinity.c_str())},
                {"CPU quota", host.quota},
                {"threads by default", std::to_string(host.threads)},
                {"clock now", format("%.0f MHz", host.frequency_mhz)},
                {"frequency governor", host.governor},
                {"virtual machine", host.hypervisor},
                {"memory", bytes_text(host.memory_bytes)},
                {"transparent huge pages", host.huge_pages},
                {"load, last minute", format("%.2f", host.load)},
                {"system", host.system + ", " + host.kernel},
                {"mpq", std::string(mpq_version_string()) + ", " + mpq_build_info()}};
  report.print(table);
  const std::vector<std::string> warnings = host_warnings(host, host.threads);
  for (const std::string& warning : warnings) warn(warning);
  if (host.isa == "scalar") warn("no AVX2: mpq runs its portable kernels, many times slower");
  Json document = json_head(args, nullptr);
  document["peak_ops_per_second_1_core"] = peak;
  document["warnings"] = warnings;
  MPQ_CHECK(report.finish(document));
  return kExitOk;
}

}  // namespace mpq::cli
