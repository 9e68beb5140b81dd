#include "runtime/split.h"

#include <algorithm>

namespace mpq::runtime {
namespace {

// Rough figures of one core of a recent Xeon; only their ratios matter here.
constexpr double kMacsPerNs = 150, kBytesPerNs = 16, kForkNs = 1500;

struct Cut {
  uint32_t across_units = 1, across_panels = 1;
};

constexpr uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// Time of the slowest rectangle.
double estimate_ns(const Work& work, const Cut& cut) {
  const double units = static_cast<double>(ceil_div(work.units, cut.across_units)) / work.units;
  const double panels = static_cast<double>(ceil_div(work.panels, cut.across_panels)) / work.panels;
  const double bytes =
      units * static_cast<double>(work.unit_bytes) + panels * static_cast<double>(work.panel_bytes);
  const bool fork = cut.across_units * cut.across_panels > 1;
  return units * panels * static_cast<double>(work.macs) / kMacsPerNs + bytes / kBytesPerNs +
         (fork ? kForkNs : 0);
}

// The i-th of n parts of [0, count), sizes differing by at most one.
uint32_t bound(uint32_t count, uint32_t i, uint32_t n) {
  return static_cast<uint32_t>(uint64_t{count} * i / n);
}

}  // namespace

std::vector<kernels::ConvPart> split_work(const Work& work, uint32_t threads) {
  std::vector<kernels::ConvPart> parts;
  split_work(work, threads, &parts);
  return parts;
}

void split_work(const Work& work, uint32_t threads, std::vector<kernels::ConvPart>* parts) {
  Cut best;
  double best_ns = estimate_ns(work, best);
  for (uint32_t p = 1; p <= std::min(threads, work.panels); ++p)
    for (uint32_t u = 1; u <= std::min(threads / p, work.units); ++u) {
      const Cut cut = {u, p};
      const double ns = estimate_ns(work, cut);
      if (ns < best_ns) {
        best = cut;
        best_ns = ns;
      }
    }
  parts->clear();
  for (uint32_t u = 0; u < best.across_units; ++u)
    for (uint32_t p = 0; p < best.across_panels; ++p)
      parts->push_back({bound(work.units, u, best.across_units),
                        bound(work.units, u + 1, best.across_units),
                        bound(work.panels, p, best.across_panels),
                        bound(work.panels, p + 1, best.across_panels)});
}

}  // namespace mpq::runtime
