#include "integrations/server/metrics.h"

#include <mpq.h>

#include <charconv>

namespace mpq::serve {

namespace {

std::string number(double value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return {digits, end};
}

void family(const char* name, const char* type, const char* help, std::string* text) {
  *text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void line(const std::string& name, const std::string& labels, const std::string& value,
          std::string* text) {
  *text += name + "{" + labels + "} " + value + "\n";
}

std::string labels_of(const NamedMetrics& model) {
  return "model=\"" + model.model + "\",version=\"" + model.version + "\"";
}

using Counter = std::atomic<uint64_t> Metrics::*;
struct Simple {
  const char *name, *type, *help;
  Counter value;
};
constexpr Simple kSimple[] = {
    {"mpq_inference_samples_total", "counter", "Samples or sequences computed.", &Metrics::samples},
    {"mpq_inference_runs_total", "counter", "Runs of sessions.", &Metrics::runs},
    {"mpq_pending_requests", "gauge", "Requests in the queue.", &Metrics::pending},
};

using Times = Histogram<kTimeBounds.size()> Metrics::*;
struct Timed {
  const char *name, *help;
  Times value;
};
constexpr Timed kTimed[] = {
    {"mpq_inference_request_seconds", "From the whole request to its answer.", &Metrics::request},
    {"mpq_inference_queue_seconds", "In the queue.", &Metrics::queue},
    {"mpq_inference_compute_seconds", "In a run, inputs and outputs included.", &Metrics::compute},
};

}  // namespace

template <size_t N>
void Histogram<N>::print(const std::string& name, const std::string& labels, double unit,
                         std::string* text) const {
  uint64_t total = 0;
  for (size_t i = 0; i <= N; ++i) {
    total += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < N ? number(static_cast<double>(bounds_[i]) / unit) : "+Inf";
    line(name + "_bucket", labels + ",le=\"" + bound + "\"", std::to_string(total), text);
  }
  line(name + "_sum", labels, number(static_cast<double>(sum()) / unit), text);
  line(name + "_count", labels, std::to_string(total), text);
}

std::string prometheus_text(std::span<const NamedMetrics> models) {
  constexpr double kMicroseconds = 1e6;
  std::string text;
  family("mpq_build_info", "gauge", "Version and build of the library; always 1.", &text);
  std::string build = mpq_build_info();
  for (char& c : build)
    if (c == '"' || c == '\\' || c == '\n') c = ' ';
  line("mpq_build_info",
       std::string("version=\"") + mpq_version_string() + "\",build=\"" + build + "\"", "1", &text);
  family("mpq_inference_requests_total", "counter", "Requests by how they ended.", &text);
  for (const NamedMetrics& model : models)
    for (size_t i = 0; i < kEndedNames.size(); ++i)
      line("mpq_inference_requests_total", labels_of(model) + ",status=\"" + kEndedNames[i] + "\"",
           std::to_string(model.metrics->requests[i].load()), &text);
  for (const Simple& simple : kSimple) {
    family(simple.name, simple.type, simple.help, &text);
    for (const NamedMetrics& model : models)
      line(simple.name, labels_of(model), std::to_string((model.metrics->*simple.value).load()),
           &text);
  }
  for (const Timed& timed : kTimed) {
    family(timed.name, "histogram", timed.help, &text);
    for (const NamedMetrics& model : models)
      (model.metrics->*timed.value).print(timed.name, labels_of(model), kMicroseconds, &text);
  }
  family("mpq_batch_size", "histogram", "Samples or sequences of a run.", &text);
  for (const NamedMetrics& model : models)
    model.metrics->batch.print("mpq_batch_size", labels_of(model), 1.0, &text);
  family("mpq_model_memory_bytes", "gauge", "Activations, scratch and weights of the sessions.",
         &text);
  for (const NamedMetrics& model : models)
    line("mpq_model_memory_bytes", labels_of(model), std::to_string(model.memory_bytes), &text);
  return text;
}

}  // namespace mpq::serve
