// The page of mpqrun --profile --html: no script, no file beside it, nothing fetched.
#include <algorithm>
#include <cmath>

#include "runtime/cli/layers.h"
#include "runtime/cli/npy.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

constexpr const char* kStyle =
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 "
    "1em;color:#222}"
    "h1{font-size:1.4em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse}th,td{padding:.15em .6em;text-align:right;white-space:nowrap}"
    "th{border-bottom:1px solid #888}tr:nth-child(even) td{background:#f5f5f5}"
    ".l{text-align:left}svg text{font:11px system-ui,sans-serif;fill:#444}"
    ".bar{position:relative;width:12em;height:.9em;background:#e8e8e8}"
    ".bar span{position:absolute;left:0;top:0;bottom:0}.slow{color:#b00020;font-weight:bold}";

// Okabe and Ito's colours, which most people can tell apart.
constexpr const char* kColors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                   "#e69f00", "#56b4e9", "#000000"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string us(double seconds) { return format("%.1f", seconds * 1e6); }

std::vector<std::string> kinds_of(const std::vector<Line>& lines) {
  std::vector<std::string> kinds;
  for (const Line& line : lines)
    if (std::find(kinds.begin(), kinds.end(), line.op) == kinds.end()) kinds.push_back(line.op);
  return kinds;
}

std::string color_of(const std::vector<std::string>& kinds, const std::string& op) {
  const auto at = std::find(kinds.begin(), kinds.end(), op) - kinds.begin();
  return kColors[static_cast<size_t>(at) % std::size(kColors)];
}

// A logarithmic axis onto pixels.
struct Axis {
  double low, high, from, to;
  double at(double value) const {
    return from + (to - from) * std::log10(value / low) / std::log10(high / low);
  }
};

// Whole decades around the values.
Axis axis_of(double low, double high, double from, double to) {
  return {std::pow(10.0, std::floor(std::log10(low))), std::pow(10.0, std::ceil(std::log10(high))),
          from, to};
}

std::string line_of(const Axis& x, const Axis& y, double x0, double y0, double x1, double y1,
                    const char* style) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" style=\"%s\"/>\n", x.at(x0),
                y.at(y0), x.at(x1), y.at(y1), style);
}

std::string text_at(double x, double y, const std::string& text, const char* anchor) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor) + escaped(text) +
         "</text>\n";
}

// Layers that multiply: operations a byte, operations a second, area as the share of the time.
std::string plot_of(const Profile& profile, const std::vector<std::string>& kinds) {
  const Roof& roof = profile.roof;
  double fewest = INFINITY, most = 0.0, slowest = INFINITY, fastest = roof.ops_per_second,
         total = 0.0;
  std::vector<const Line*> shown;
  for (const Line& line : profile.lines) {
    total += line.least;
    if (line.macs == 0 || line.bytes() == 0 || !(line.least > 0.0)) continue;
    shown.push_back(&line);
    const double intensity = line.ops() / static_cast<double>(line.bytes());
    fewest = std::min(fewest, intensity);
    most = std::max(most, intensity);
    slowest = std::min(slowest, line.ops() / line.least);
    fastest = std::max(fastest, line.ops() / line.least);
  }
  if (shown.empty() || !(roof.ops_per_second > 0.0)) return "<p>No layer multiplies.</p>\n";
  constexpr double kWidth = 900, kHeight = 460, kLeft = 70, kRight = 20, kTop = 20, kBottom = 50;
  const Axis x = axis_of(fewest, most * 1.001, kLeft, kWidth - kRight);
  const Axis y = axis_of(slowest, fastest * 1.001, kHeight - kBottom, kTop);

  std::string svg =
      format("<svg viewBox=\"0 0 %.0f %.0f\" width=\"100%%\" role=\"img\">\n", kWidth, kHeight);
  for (double v = x.low; v <= x.high * 1.001; v *= 10) {
    svg += line_of(x, y, v, y.low, v, y.high, "stroke:#ddd");
    svg += text_at(x.at(v), kHeight - kBottom + 16, format("%g", v), "middle");
  }
  for (double v = y.low; v <= y.high * 1.001; v *= 10) {
    svg += line_of(x, y, x.low, v, x.high, v, "stroke:#ddd");
    svg += text_at(kLeft - 6, y.at(v) + 4, format("%g GOP/s", v * 1e-9), "end");
  }
  svg += text_at((kLeft + kWidth) / 2, kHeight - 10, "operations a byte of weights and activations",
                 "middle");
  const auto slope = [&](double rate, const char* style, const std::string& name) {
    const double begin = std::max(x.low, y.low / rate);
    const double end = std::min(x.high, roof.ops_per_second / rate);
    if (begin >= end) return;
    svg += line_of(x, y, begin, begin * rate, end, end * rate, style);
    svg += text_at(x.at(begin) + 6, y.at(begin * rate) - 6, name, "start");
  };
  slope(roof.weight_bytes_per_second, "stroke:#444",
        format("weights: %.1f GB/s", roof.weight_bytes_per_second * 1e-9));
  slope(roof.activation_bytes_per_second, "stroke:#444;stroke-dasharray:5 3",
        format("activations: %.1f GB/s", roof.activation_bytes_per_second * 1e-9));
  const double knee =
      std::max(x.low, roof.ops_per_second /
                          std::max(roof.weight_bytes_per_second, roof.activation_bytes_per_second));
  if (knee < x.high)
    svg += line_of(x, y, knee, roof.ops_per_second, x.high, roof.ops_per_second, "stroke:#444");
  svg += text_at(kWidth - kRight, y.at(roof.ops_per_second) - 6,
                 format("peak: %.2f TOP/s, measured", roof.ops_per_second * 1e-12), "end");
  for (const Line* line : shown) {
    const double share = line->least / total;
    svg += format(
        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" fill-opacity=\".6\"><title>",
        x.at(line->ops() / static_cast<double>(line->bytes())), y.at(line->ops() / line->least),
        3 + 40 * std::sqrt(share), color_of(kinds, line->op).c_str());
    svg +=
        escaped(format("%s (%s, %s): ", line->name.c_str(), line->op.c_str(), line->bits.c_str())) +
        format("%s us, %.1f %% of the time, %.0f GOP/s</title></circle>\n", us(line->least).c_str(),
               share * 100, line->ops() / line->least * 1e-9);
  }
  double at = kTop + 10;
  for (const std::string& kind : kinds) {
    if (std::none_of(shown.begin(), shown.end(),
                     [&](const Line* line) { return line->op == kind; }))
      continue;
    svg += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n",
                  kLeft + 12, at - 9, color_of(kinds, kind).c_str());
    svg += text_at(kLeft + 27, at, kind, "start");
    at += 15;
  }
  return svg + "</svg>\n";
}

using Cells = std::vector<std::string>;

std::string row_of(const Cells& cells, const char* tag, size_t left) {
  std::string text = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i)
    text += format("<%s%s>", tag, i < left ? " class=\"l\"" : "") + cells[i] + format("</%s>", tag);
  return text + "</tr>\n";
}

// The time, and inside it what the machine would need at least.
std::string bar_of(double time, double floor, double longest, const std::string& color) {
  const auto width = [&](double part) {
    return longest > 0 ? std::min(part / longest, 1.0) * 100 : 0.0;
  };
  return format(
      "<div class=\"bar\"><span style=\"width:%.1f%%;background:%s;opacity:.35\"></span>"
      "<span style=\"width:%.1f%%;background:%s\"></span></div>",
      width(time), color.c_str(), width(std::min(floor, time)), color.c_str());
}

Cells numbers_of(const Line& line, const Profile& profile, double total) {
  const double floor = profile.roof.floor_seconds(line);
  const bool multiplies = profile.roof.compute_seconds(line) >= profile.roof.memory_seconds(line);
  return {us(line.least),
          format("%.1f", total > 0 ? line.least / total * 100 : 0.0),
          us(floor),
          format("%.0f", line.least > 0 ? floor / line.least * 100 : 0.0),
          line.bytes() + line.macs == 0 ? ""
          : multiplies                  ? "multiplies"
                                        : "bytes",
          line.macs != 0 ? format("%.1f", line.ops() * 1e-6) : "",
          line.macs != 0 && line.least > 0 ? format("%.3f", line.ops() / line.least * 1e-12) : "",
          format("%.0f", static_cast<double>(line.weight_bytes) * 1e-3),
          format("%.0f", static_cast<double>(line.activation_bytes) * 1e-3)};
}

const Cells kNumbers = {"us",  "share %", "floor us",   "floor / time %", "set by",
                        "MOP", "TOP/s",   "weights kB", "activations kB"};

std::string kinds_table(const Profile& profile, const std::vector<std::string>& kinds,
                        double total) {
  Cells head = {"layers", "how many"};
  head.insert(head.end(), kNumbers.begin(), kNumbers.end());
  std::string text = "<table>\n" + row_of(head, "th", 1);
  for (const std::string& kind : kinds) {
    Line sum;
    double floor = 0.0;
    for (const Line& line : profile.lines) {
      if (line.op != kind) continue;
      ++sum.steps;
      sum.least += line.least;
      sum.macs += line.macs;
      sum.weight_bytes += line.weight_bytes;
      sum.activation_bytes += line.activation_bytes;
      floor += profile.roof.floor_seconds(line);
    }
    Cells cells = {escaped(kind), std::to_string(sum.steps)};
    Cells numbers = numbers_of(sum, profile, total);
    numbers[2] = us(floor);  // layer by layer
    numbers[3] = format("%.0f", sum.least > 0 ? floor / sum.least * 100 : 0.0);
    cells.insert(cells.end(), numbers.begin(), numbers.end());
    text += row_of(cells, "td", 1);
  }
  return text + "</table>\n";
}

std::string layers_table(const Profile& profile, const std::vector<std::string>& kinds,
                         double total) {
  Cells head = {"layer", "op", "bits", "time, and its floor"};
  head.insert(head.end(), kNumbers.begin(), kNumbers.end());
  for (const std::string& event : profile.events) head.push_back(escaped(event));
  if (profile.compares) head.emplace_back("change");
  head.emplace_back("kernel");
  double longest = 0.0;
  for (const Line& line : profile.lines) longest = std::max(longest, line.least);
  std::string text = "<table>\n" + row_of(head, "th", 4);
  for (const Line& line : profile.lines) {
    Cells cells = {
        escaped(line.name), escaped(line.op), escaped(line.bits),
        bar_of(line.least, profile.roof.floor_seconds(line), longest, color_of(kinds, line.op))};
    const Cells numbers = numbers_of(line, profile, total);
    cells.insert(cells.end(), numbers.begin(), numbers.end());
    for (size_t i = 0; i < profile.events.size(); ++i)
      cells.push_back(i < line.counters.size() ? std::to_string(line.counters[i]) : "");
    if (profile.compares)
      cells.push_back(line.change.slower(0.0)
                          ? "<span class=\"slow\">" + line.change.text() + "</span>"
                          : line.change.text());
    cells.push_back(escaped(line.kernel) + (line.fallbacks != 0 ? " (fallback)" : ""));
    text += row_of(cells, "td", 4);
  }
  return text + "</table>\n";
}

}  // namespace

Checked write_profile_page(const std::string& path, const Profile& profile) {
  const std::vector<std::string> kinds = kinds_of(profile.lines);
  double total = 0.0;
  for (const Line& line : profile.lines) total += line.least;
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>" +
      escaped(profile.title) + ": profile</title>\n<style>" + kStyle +
      "</style>\n</head>\n<body>\n<h1>" + escaped(profile.title) + "</h1>\n<p>";
  for (const std::string& fact : profile.facts) page += escaped(fact) + "<br/>\n";
  page +=
      "</p>\n<h2>Roofline</h2>\n" + plot_of(profile, kinds) +
      "<p>A point is a layer; its area is its share of the time. A layer cannot take less than its "
      "operations at the peak of the multiply instruction, nor less than its bytes: weights at the "
      "speed of reading a block as large as all of them, activations at that of a block in the "
      "second "
      "level of caches. That is its floor. Kernels that need fewer multiplications than the "
      "definition "
      "(Winograd, Strassen, packed products) can be above the peak.</p>\n"
      "<h2>Kinds of layers</h2>\n" +
      kinds_table(profile, kinds, total) + "<h2>Layers</h2>\n" +
      layers_table(profile, kinds, total) +
      "<p>Times are the least of all runs, layer by layer.</p>\n</body>\n</html>\n";
  return write_file(path, page);
}

}  // namespace mpq::cli
