#include "converter/report.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace mpq::convert {
namespace {

// printf into a string; the rows below are at most a name longer than the buffer's fixed part.
template <typename... Args>
std::string format_row(const char* pattern, Args... args) {
  const int size = std::snprintf(nullptr, 0, pattern, args...);
  std::string row(static_cast<size_t>(std::max(size, 0)) + 1, '\0');
  std::snprintf(row.data(), row.size(), pattern, args...);
  row.pop_back();
  return row;
}

struct Totals {
  uint64_t weights = 0, bytes = 0, macs = 0;
};
Totals totals_of(const PtqReport& report) {
  Totals t;
  for (const LayerReport& layer : report.layers) {
    t.weights += layer.weights;
    t.bytes += layer.weight_bytes;
    t.macs += layer.macs;
  }
  return t;
}

}  // namespace

std::string report_text(const PtqReport& report) {
  size_t width = 5;
  for (const LayerReport& layer : report.layers) width = std::max(width, layer.name.size());
  const int w = static_cast<int>(width);
  std::string text =
      format_row("%-*s %6s %4s %4s %11s %11s %5s %8s %8s %8s\n", w, "layer", "op", "wbit", "abit",
                 "bytes", "step", "zero", "weights", "input", "output");
  for (const LayerReport& l : report.layers)
    text += format_row("%-*s %6s %4d %4d %11llu %11.5g %5d %5.1f dB %5.1f dB %5.1f dB\n", w,
                       l.name.c_str(), l.op.c_str(), l.bits.weight, l.bits.activation,
                       static_cast<unsigned long long>(l.weight_bytes),
                       static_cast<double>(l.input_step), l.input_zero_point, l.weight_sqnr,
                       l.input_sqnr, l.output_sqnr);
  const Totals t = totals_of(report);
  text += format_row(
      "total: %llu weights in %llu bytes, %.3f GMAC; output %.1f dB, same best class on %.1f %%"
      " of the calibration samples\n",
      static_cast<unsigned long long>(t.weights), static_cast<unsigned long long>(t.bytes),
      static_cast<double>(t.macs) * 1e-9, report.output_sqnr, 100.0 * report.top1_agreement);
  return text;
}

std::string report_json(const PtqReport& report) {
  nlohmann::ordered_json json;
  json["schema_version"] = 1;
  json["output_sqnr_db"] = report.output_sqnr;
  json["top1_agreement"] = report.top1_agreement;
  const Totals t = totals_of(report);
  json["weights"] = t.weights;
  json["weight_bytes"] = t.bytes;
  json["macs"] = t.macs;
  json["layers"] = nlohmann::ordered_json::array();
  for (const LayerReport& l : report.layers)
    json["layers"].push_back({{"name", l.name},
                              {"op", l.op},
                              {"weight_bits", l.bits.weight},
                              {"activation_bits", l.bits.activation},
                              {"weights", l.weights},
                              {"weight_bytes", l.weight_bytes},
                              {"macs", l.macs},
                              {"input_step", l.input_step},
                              {"input_zero_point", l.input_zero_point},
                              {"weight_sqnr_db", l.weight_sqnr},
                              {"input_sqnr_db", l.input_sqnr},
                              {"output_sqnr_db", l.output_sqnr}});
  return json.dump(2);
}

}  // namespace mpq::convert
