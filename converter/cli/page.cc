#include "converter/cli/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "converter/precision/eagl.h"
#include "converter/precision/kendall.h"

namespace mpq::convert::cli {
namespace {

using precision::SearchResult;

constexpr const char* kStyle = R"(
:root { --ink: #1c2430; --soft: #66707f; --line: #dfe3e8; --paper: #fff; --b8: #7b8794; --b4: #2b6cb0;
  --b2: #dd6b20; --s0: #2b6cb0; --s1: #c05621; --s2: #2f855a; --s3: #805ad5; --s4: #b83280; --s5: #4a5568; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a2b0; --line: #343b46;
  --paper: #14181f; --b8: #6b7684; --b4: #63a4e8; --b2: #f6a053; --s0: #63a4e8; --s1: #f6a053; --s2: #68d391;
  --s3: #b794f4; --s4: #f687b3; --s5: #a0aec0; } }
body { margin: 2.5rem auto; max-width: 62rem; padding: 0 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .5rem; }
p, figcaption { color: var(--soft); margin: .3rem 0; max-width: 48rem; } figure { margin: 0; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 1.4rem 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } th { font-weight: 500; color: var(--soft); }
th, td { padding: .22rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); } .whisker { stroke: var(--ink); } .key { display: inline-block; width: .7em;
  height: .7em; margin: 0 .35em 0 1em; border-radius: 2px; }
.b8 { fill: var(--b8); background: var(--b8); } .b4 { fill: var(--b4); background: var(--b4); }
.b2 { fill: var(--b2); background: var(--b2); } .fixed { opacity: .55; }
)";

constexpr double kWidth = 960.0, kLeft = 52.0, kRight = 8.0;
constexpr size_t kSeries = 6;  // colours

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string bits_of(const format::MapLayer& layer) {
  return precision::to_string(precision::Bits{layer.weight_bits, layer.activation_bits});
}

std::string tile(std::string_view name, const std::string& value) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, escaped(value));
}

std::string section(std::string_view title, std::string_view caption, const std::string& body) {
  return fmt::format("<h2>{}</h2>\n<figure><figcaption>{}</figcaption>\n{}</figure>\n", title,
                     caption, body);
}

std::string svg(double height, const std::string& body) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\">\n{}</svg>\n", kWidth, height,
                     body);
}

std::string line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format(
      "<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", style, x1,
      y1, x2, y2);
}

std::string label(double x, double y, std::string_view anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(text));
}

std::string bar(double x, double y, double width, double height, const std::string& style,
                const std::string& hint) {
  return fmt::format(
      "<rect class=\"{}\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" "
      "rx=\"1.5\"><title>{}</title></rect>\n",
      style, x, y, std::max(width, 0.5), std::max(height, 0.5), escaped(hint));
}

// A row of layers for each map.
std::string bits_figure(const std::vector<PageMap>& maps) {
  constexpr double kRow = 64.0, kUnit = 5.0;
  const size_t layers = maps[0].found.map.layers.size();
  const double step = (kWidth - kLeft - kRight) / static_cast<double>(layers);
  std::string body;
  for (size_t m = 0; m < maps.size(); ++m) {
    const format::PrecisionMap& map = maps[m].found.map;
    const double floor = kRow * static_cast<double>(m + 1) - 4.0;
    body += label(kLeft, floor - 45.0, "start", maps[m].words);
    for (const int bits : {2, 4, 8})
      body += label(kLeft - 6, floor - kUnit * bits + 4, "end", std::to_string(bits));
    for (size_t i = 0; i < layers; ++i) {
      const format::MapLayer& layer = map.layers[i];
      const bool fixed = layer.group < map.groups.size() && map.groups[layer.group].fixed;
      body += bar(kLeft + step * static_cast<double>(i), floor - kUnit * layer.weight_bits,
                  step * 0.86, kUnit * layer.weight_bits,
                  fmt::format("b{}{}", layer.weight_bits, fixed ? " fixed" : ""),
                  layer.node + ": " + bits_of(layer) + " bit");
    }
  }
  return svg(kRow * static_cast<double>(maps.size()), body);
}

int group_bits(const SearchResult& found, size_t group) {
  return found.map.layers[found.selection.groups[group].layers[0]].weight_bits;
}

// Gains of the groups, with the standard error where one is known.
std::string score_figure(const SearchResult& found) {
  constexpr double kHeight = 190.0, kFloor = 170.0, kTop = 12.0;
  const std::vector<format::MapGroup>& groups = found.map.groups;
  double top = 0.0;
  for (const format::MapGroup& group : groups) top = std::max(top, group.gain + group.gain_stderr);
  if (!(top > 0.0)) return "";
  const auto y = [&](double gain) { return kFloor - (kFloor - kTop) * std::max(gain, 0.0) / top; };
  const double step = (kWidth - kLeft - kRight) / static_cast<double>(groups.size());
  std::string body;
  for (const double share : {0.0, 0.5, 1.0}) {
    body += line(kLeft, y(share * top), kWidth - kRight, y(share * top), "axis");
    body += label(kLeft - 6, y(share * top) + 4, "end", fmt::format("{:.3g}", share * top));
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const format::MapGroup& group = groups[g];
    if (group.fixed) continue;
    const double x = kLeft + step * static_cast<double>(g), middle = x + step * 0.43;
    const std::string& name = found.selection.layers[found.selection.groups[g].layers[0]].name;
    body += bar(
        x, y(group.gain), step * 0.86, kFloor - y(group.gain),
        fmt::format("b{}", group_bits(found, g)),
        fmt::format("{}: gain {:.4g}{}", name, group.gain,
                    group.gain_stderr > 0.0 ? fmt::format(" +- {:.2g}", group.gain_stderr) : ""));
    if (group.gain_stderr > 0.0)
      body += line(middle, y(group.gain - group.gain_stderr), middle,
                   y(group.gain + group.gain_stderr), "whisker");
  }
  return svg(kHeight, body);
}

// Cost against the share of all gains that is kept.
std::string frontier_figure(const std::vector<PageMap>& maps) {
  constexpr double kHeight = 300.0, kFloor = 270.0, kTop = 12.0;
  double low = 1.0;
  for (const PageMap& map : maps)
    for (const precision::FrontierPoint& point : map.found.frontier)
      low = std::min(low, point.budget);
  if (low >= 1.0) return "";
  const auto x = [&](double budget) {
    return kLeft + (kWidth - kLeft - kRight) * (budget - low) / (1.0 - low);
  };
  const auto y = [&](double share) { return kFloor - (kFloor - kTop) * share; };
  std::string body, keys;
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    body += line(kLeft, y(share), kWidth - kRight, y(share), "axis");
    body += label(kLeft - 6, y(share) + 4, "end", fmt::format("{:.0f} %", 100.0 * share));
    const double budget = low + share * (1.0 - low);
    body += label(x(budget), kFloor + 18, share == 1.0 ? "end" : "middle",
                  fmt::format("{:.3g} %", 100.0 * budget));
  }
  for (size_t m = 0; m < maps.size(); ++m) {
    const std::vector<precision::FrontierPoint>& frontier = maps[m].found.frontier;
    if (frontier.empty() || !(frontier.back().gain > 0.0)) continue;
    const std::string colour = fmt::format("var(--s{})", m % kSeries);
    std::string points;
    double last = 0.0;
    for (const precision::FrontierPoint& point : frontier) {  // what a budget buys: steps
      const double share = point.gain / frontier.back().gain;
      if (!points.empty()) points += fmt::format("{:.1f},{:.1f} ", x(point.budget), y(last));
      points += fmt::format("{:.1f},{:.1f} ", x(point.budget), y(share));
      last = share;
    }
    body +=
        fmt::format("<polyline points=\"{}\" style=\"fill:none;stroke:{};stroke-width:1.8\"/>\n",
                    points, colour);
    const SearchResult& found = maps[m].found;
    if (found.cost_high > 0.0)
      body += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" style=\"fill:{}\"><title>{}"
          "</title></circle>\n",
          x(found.cost / found.cost_high), y(found.map.value / frontier.back().gain), colour,
          escaped(maps[m].words));
    keys += fmt::format("<span class=\"key\" style=\"background:{}\"></span>{}", colour,
                        escaped(maps[m].words));
  }
  return keys.empty() ? "" : svg(kHeight, body) + "<p>" + keys + "</p>\n";
}

std::vector<double> gains_of(const SearchResult& found) {
  std::vector<double> gains;
  for (const format::MapGroup& group : found.map.groups)
    if (!group.fixed) gains.push_back(group.gain);
  return gains;
}

std::string agreement_table(const std::vector<PageMap>& maps) {
  std::vector<const PageMap*> scored;
  for (const PageMap& map : maps)
    if (!map.found.frontier.empty()) scored.push_back(&map);
  if (scored.size() < 2) return "";
  std::string rows = "<tr><th></th>";
  for (const PageMap* map : scored) rows += "<th>" + escaped(map->found.map.method) + "</th>";
  rows += "</tr>\n";
  for (const PageMap* a : scored) {
    rows += "<tr><td>" + escaped(a->words) + "</td>";
    for (const PageMap* b : scored)
      rows += fmt::format("<td>{:.2f}</td>",
                          precision::kendall_tau(gains_of(a->found), gains_of(b->found)));
    rows += "</tr>\n";
  }
  return "<div class=\"wide\"><table>" + rows + "</table></div>\n";
}

// Signal over noise of a layer's weights at its bits, in dB.
std::string weight_noise(const Graph& graph, const precision::Layer& layer, int bits) {
  const std::vector<float> w = real_weights(graph, graph.nodes[layer.node]);
  const auto& codes = graph.nodes[layer.node].weight_quant;
  double signal = 0.0;
  for (const float v : w) signal += double{v} * double{v};
  const bool exact = codes && codes->spec.bits <= bits;
  const double noise =
      exact ? 0.0
            : precision::code_noise(w, layer.channels, bits, precision::StepRule::kMse) *
                  static_cast<double>(w.size());
  return noise > 0.0 && signal > 0.0 ? fmt::format("{:.1f}", 10.0 * std::log10(signal / noise))
                                     : "exact";
}

std::string layer_table(const Graph& graph, const SearchResult& found) {
  std::string rows =
      "<tr><th>layer</th><th>group</th><th>bits</th><th>MMAC</th><th>weights</th><th>entropy</th>"
      "<th>weights, dB</th><th>gain</th><th>+-</th><th>cost high</th><th>cost low</th></tr>\n";
  for (size_t i = 0; i < found.map.layers.size(); ++i) {
    const format::MapLayer& row = found.map.layers[i];
    const precision::Layer& layer = found.selection.layers[i];
    const format::MapGroup group = found.map.groups[layer.group];
    const bool first = found.selection.groups[layer.group].layers[0] == i;
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td><span class=\"key b{}\"></span>{}{}</td><td>{:.2f}</td>"
        "<td>{}</td><td>{}</td><td>{}</td>",
        escaped(layer.name), layer.group, row.weight_bits, bits_of(row),
        group.fixed ? " fixed" : "", static_cast<double>(layer.macs) * 1e-6, layer.weights,
        i < found.layer_entropy.size() ? fmt::format("{:.3f}", found.layer_entropy[i]) : "",
        weight_noise(graph, layer, row.weight_bits));
    if (group.fixed || !first)
      rows += "<td></td><td></td><td></td><td></td></tr>\n";
    else
      rows +=
          fmt::format("<td>{:.4g}</td><td>{}</td><td>{:.4g}</td><td>{:.4g}</td></tr>\n", group.gain,
                      group.gain_stderr > 0.0 ? fmt::format("{:.2g}", group.gain_stderr) : "",
                      group.cost_high, group.cost_low);
  }
  return "<div class=\"wide\"><table>" + rows + "</table></div>\n";
}

std::string summary(const SearchResult& found) {
  const format::PrecisionMap& map = found.map;
  std::string text = "<dl>\n" + tile("method", map.method);
  if (found.cost_high > 0.0)
    text += tile("cost, " + map.cost_model,
                 fmt::format("{:.1f} % of highest", 100.0 * found.cost / found.cost_high));
  if (map.bound > 0.0)
    text += tile("gain kept", fmt::format("{:.4g} of at most {:.4g}", map.value, map.bound));
  for (const int bits : {8, 4, 2}) {
    const auto count = std::count_if(map.layers.begin(), map.layers.end(),
                                     [&](const auto& layer) { return layer.weight_bits == bits; });
    if (count > 0) text += tile(fmt::format("layers at {} bit", bits), std::to_string(count));
  }
  if (!map.checkpoint.empty())
    text += tile("codes of weights", map.checkpoint == "trained" ? "trained" : "quantised here");
  return text + "</dl>\n";
}

}  // namespace

std::string print_page(const std::string& network, const Graph& graph,
                       const std::vector<PageMap>& maps) {
  const SearchResult& first = maps[0].found;
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<title>{0}: precision</title>\n<style>{1}</style></head>\n"
      "<body>\n<h1>{0}</h1>\n<p>{2}{3}</p>\n",
      escaped(network), kStyle, escaped(maps[0].words),
      first.map.source_sha256.empty() ? "" : ", source " + first.map.source_sha256.substr(0, 16));
  page += summary(first);
  const auto add = [&](std::string_view title, std::string_view caption, const std::string& body) {
    if (!body.empty()) page += section(title, caption, body);
  };
  add("Bits of weights, layer by layer",
      "<span class=\"key b8\"></span>8<span class=\"key b4\"></span>4<span class=\"key b2\">"
      "</span>2 bit; pale: no matter of choice",
      bits_figure(maps));
  add("Scores",
      "What each group of linked layers gains at the highest precision; a whisker is one "
      "standard error. Colours as above.",
      score_figure(first));
  add("Frontier",
      "Share of all gains that a cost keeps, by the exact knapsack; the dot is the "
      "map.",
      frontier_figure(maps));
  add("Do the scores rank alike?", "Kendall's tau of the groups: 1 the same order, 0 none.",
      agreement_table(maps));
  add("Layers",
      "Noise of weights: signal over squared rounding error at the chosen bits. Gain and "
      "cost are of the whole group.",
      layer_table(graph, first));
  return page + "</body></html>\n";
}

}  // namespace mpq::convert::cli
