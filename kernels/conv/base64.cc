#include "kernels/conv/base64.h"

#include <cstring>

#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

// The weights of a panel in the order of k, [k][channel]: where they come from.
class Panel {
 public:
  Panel(const ConvShape& s, uint32_t cb, const int8_t* canonical, uint32_t first)
      : s_(s),
        order_{.taps = s.r * s.s, .block = cb / 4},
        weights_(canonical + size_t{first} * s.c * s.r * s.s),
        rows_(min(kPanelChannels, s.o - first)),
        groups_(panel_groups(s, cb)) {}

  size_t groups() const { return groups_; }

  // The 4 weights of a channel in a k-group; 0 where there are none.
  void group(uint32_t row, size_t g, int8_t w[4]) const {
    const uint32_t channel = order_.quad_of(g) * 4;
    const size_t taps = order_.taps;
    std::memset(w, 0, 4);
    if (row >= rows_) return;
    const int8_t* from = weights_ + (size_t{row} * s_.c + channel) * taps + order_.tap_of(g);
    for (uint32_t i = 0; i < 4 && channel + i < s_.c; ++i) w[i] = from[i * taps];
  }

  // Whether stretches of that length leave A within the base everywhere.
  bool allows(uint32_t stretch) const {
    for (uint32_t row = 0; row < rows_; ++row)
      for (size_t begin = 0; begin < groups_; begin += stretch) {
        int32_t magnitude[2] = {};
        for (size_t g = begin; g < groups_ && g < begin + stretch; ++g) {
          int8_t w[4];
          group(row, g, w);
          for (int i = 0; i < 4; ++i) magnitude[i / 2] += w[i] < 0 ? -w[i] : w[i];
        }
        for (const int32_t m : magnitude)
          if (kBaseMaxCode * m >= kBase) return false;
      }
    return true;
  }

 private:
  const ConvShape& s_;
  const PanelOrder order_;
  const int8_t* const weights_;
  const uint32_t rows_;
  const size_t groups_;
};

void pack_quarter(const Panel& panel, uint32_t quarter, uint32_t stretch, int32_t* off,
                  int8_t* to) {
  for (size_t begin = 0; begin < panel.groups(); begin += stretch) {
    int16_t start[kQuarterChannels][2] = {};
    int8_t* groups = to + sizeof start;
    size_t g = begin;
    for (; g < panel.groups() && g < begin + stretch; ++g, groups += kQuarterGroup)
      for (uint32_t i = 0; i < kQuarterChannels; ++i) {
        int8_t* w = groups + size_t{i} * 4;
        panel.group(quarter * kQuarterChannels + i, g, w);
        for (uint32_t k = 0; k < 4; ++k)
          if (w[k] < 0) {
            start[i][k / 2] -= static_cast<int16_t>(kBaseMaxCode * w[k] * (1 + kBase));
            off[i] += kBaseMaxCode * w[k];
          }
      }
    std::memcpy(to, start, sizeof start);
    to = groups;
  }
}

}  // namespace

// Sums of all stretches, less than 64 each, stay within 15 bits.
bool base64_fits(const ConvShape& s, uint32_t cb) {
  return panels_fit(s, cb) && panel_groups(s, cb) <= size_t{kMinStretch} * (32767 / kBase);
}

size_t base64_bytes(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * base64_panel(panel_groups(s, cb));
}

bool base64_is_safe(const ConvShape& s, uint32_t cb, const void* packed) {
  const auto* panel = static_cast<const uint8_t*>(packed);
  for (uint32_t i = 0; i < panel_count(s); ++i, panel += base64_panel(panel_groups(s, cb))) {
    Base64Header header;
    std::memcpy(&header, panel, sizeof header);
    if (header.stretch < kMinStretch || header.stretch > kMaxStretch) return false;
  }
  return true;
}

void pack_base64(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, base64_bytes(s, cb));
  auto* to = static_cast<uint8_t*>(packed);
  for (uint32_t o = 0; o < s.o; o += kPanelChannels, to += base64_panel(panel_groups(s, cb))) {
    const Panel panel(s, cb, canonical, o);
    auto* header = reinterpret_cast<Base64Header*>(to);
    header->stretch = kMaxStretch;
    while (header->stretch > kMinStretch && !panel.allows(header->stretch)) --header->stretch;
    for (uint32_t quarter = 0; quarter < 4; ++quarter)
      pack_quarter(panel, quarter, header->stretch, header->start + quarter * kQuarterChannels,
                   reinterpret_cast<int8_t*>(header + 1) +
                       quarter * base64_quarter(panel.groups(), header->stretch));
  }
}

}  // namespace mpq::kernels
