#include "runtime/cli/trace.h"

#include <fstream>

#include "runtime/cli/model_facts.h"

namespace mpq::cli {
namespace {

constexpr double kMicroseconds = 1e6;  // the format's unit

Json span_of(const std::string& name, const char* category, double start, double seconds,
             Json facts) {
  return {{"name", name},
          {"cat", category},
          {"ph", "X"},
          {"pid", 1},
          {"tid", 1},
          {"ts", start * kMicroseconds},
          {"dur", seconds * kMicroseconds},
          {"args", std::move(facts)}};
}

Json facts_of(const mpq_step_info& step, double seconds) {
  Json facts = {{"kernel", step.kernel},
                {"input_bits", step.input_bits},
                {"weight_bits", step.weight_bits},
                {"output_bits", step.output_bits},
                {"threads", step.threads},
                {"macs", step.macs},
                {"bytes", step.weight_bytes + step.activation_bytes}};
  if (seconds > 0) facts["gops_per_second"] = 2e-9 * static_cast<double>(step.macs) / seconds;
  return facts;
}

}  // namespace

Checked write_trace(const std::string& path, std::span<const TracedRun> runs,
                    std::span<const mpq_step_info> steps, const std::string& model) {
  Json events = Json::array();
  events.push_back(
      {{"name", "process_name"}, {"ph", "M"}, {"pid", 1}, {"args", {{"name", "mpqrun " + model}}}});
  for (size_t r = 0; r < runs.size(); ++r) {
    const TracedRun& run = runs[r];
    events.push_back(
        span_of("run " + std::to_string(r), "run", run.start, run.seconds, Json::object()));
    double start = run.start;
    for (size_t i = 0; i < steps.size(); ++i) {
      events.push_back(span_of(steps[i].name, steps[i].op, start, run.steps[i],
                               facts_of(steps[i], run.steps[i])));
      start += run.steps[i];
    }
  }
  const Json document = {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
  std::ofstream file(path);
  file << document.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  file.close();
  if (!file) return Error{Status::kIo, path + ": cannot be written"};
  return Ok{};
}

}  // namespace mpq::cli
