#include "kernels/conv/winograd_quarters.h"

#include <cstring>

#include "kernels/conv/tiling.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kPositions = kWinograd2.positions(), kLanes = 2 * kQuarterChannels;
constexpr uint32_t kCentre = 1 * 4 + 1;
constexpr int32_t kMaxMagnitude = 32767 / kQuartersOffset;

// G g G^T
void transform(const int8_t g[9], int8_t u[kPositions]) {
  const auto row = [](int32_t a, int32_t b, int32_t c, int32_t to[4]) {
    to[0] = 2 * a;
    to[1] = a + b + c;
    to[2] = a - b + c;
    to[3] = 2 * c;
  };
  int32_t columns[3][4], all[4];
  for (int j = 0; j < 3; ++j) row(g[j], g[3 + j], g[6 + j], columns[j]);
  for (int i = 0; i < 4; ++i) {
    row(columns[0][i], columns[1][i], columns[2][i], all);
    for (int j = 0; j < 4; ++j) u[4 * i + j] = static_cast<int8_t>(all[j]);
  }
}

// What a stretch has come to in each 16-bit lane of a panel.
struct Stretch {
  int16_t sum[4][kPositions][kLanes];
  int16_t magnitude[4][kPositions][kLanes];
};

class Packer {
 public:
  Packer(const ConvShape& s, uint32_t cb, uint8_t* panel)
      : s_(s),
        layout_(s, cb),
        panel_(panel),
        header_(reinterpret_cast<WinogradQuartersHeader*>(panel)),
        ends_(reinterpret_cast<uint32_t*>(panel + layout_.ends_at)) {
    std::memset(panel, 0, layout_.weights_at);
    std::memset(panel + layout_.weights_at, 0x88, layout_.panel_bytes - layout_.weights_at);
  }

  void pack(const int8_t* canonical, uint32_t rows) {
    std::memset(&stretch_, 0, sizeof stretch_);
    for (uint32_t step = 0; step < layout_.steps; ++step) {
      Stretch with = stretch_;
      for (uint32_t row = 0; row < rows; ++row)
        pack_step(canonical + size_t{row} * s_.c * 9, row, step, &with);
      if (!fits(with)) {
        finish(step);
        // Less what came before: this step alone.
        for (size_t i = 0; i < sizeof with.sum / sizeof(int16_t); ++i) {
          (&with.sum[0][0][0])[i] -= (&stretch_.sum[0][0][0])[i];
          (&with.magnitude[0][0][0])[i] -= (&stretch_.magnitude[0][0][0])[i];
        }
      }
      stretch_ = with;
    }
    finish(static_cast<uint32_t>(layout_.steps));
  }

 private:
  // The weights of an output channel and the input channels of a step.
  void pack_step(const int8_t* weights, uint32_t row, uint32_t step, Stretch* stretch) {
    const uint32_t quarter = row / kQuarterChannels, channel = row % kQuarterChannels,
                   first = step * kStretchStep * 4;
    for (uint32_t c = first; c < min(first + kStretchStep * 4, s_.c); ++c) {
      const int8_t* g = weights + size_t{c} * 9;
      uint8_t* to = panel_ + layout_.weights_at + quarter * layout_.quarter_weights +
                    c / 4 * 9 * kTapBytes + channel % 8 * 4 + c % 4;
      for (uint32_t tap = 0; tap < 9; ++tap, to += kTapBytes)
        *to ^= static_cast<uint8_t>((g[tap] & 15) << (channel / 8 * 4));  // on 8: adds 8
      int8_t u[kPositions];
      transform(g, u);
      const uint32_t lane = channel * 2 + c % 4 / 2;
      for (uint32_t at = 0; at < kPositions; ++at) {
        stretch->sum[quarter][at][lane] += u[at];
        stretch->magnitude[quarter][at][lane] += static_cast<int16_t>(u[at] < 0 ? -u[at] : u[at]);
      }
      header_->start[row] += kQuartersOffset * u[kCentre];
    }
  }

  static bool fits(const Stretch& stretch) {
    const int16_t* m = &stretch.magnitude[0][0][0];
    bool good = true;
    for (size_t i = 0; i < sizeof stretch.magnitude / sizeof *m; ++i)
      good = good && m[i] <= kMaxMagnitude;
    return good;
  }

  // The stretch ends in front of step `end`.
  void finish(uint32_t end) {
    const uint32_t i = header_->stretches++;
    ends_[i] = end;
    for (uint32_t quarter = 0; quarter < 4; ++quarter)
      for (uint32_t at = 0; at < kPositions; ++at) {
        int16_t start[kLanes];  // wraps, as the sums do
        for (uint32_t lane = 0; lane < kLanes; ++lane)
          start[lane] = static_cast<int16_t>(-kQuartersOffset * stretch_.sum[quarter][at][lane]);
        std::memcpy(panel_ + layout_.starts_at + quarter * layout_.quarter_starts +
                        at * layout_.position_starts + i * kQuarterGroup,
                    start, sizeof start);
      }
  }

  const ConvShape& s_;
  const WinogradQuarters layout_;
  uint8_t* const panel_;
  WinogradQuartersHeader* const header_;
  uint32_t* const ends_;
  Stretch stretch_;
};

}  // namespace

bool winograd_quarters_fit(const ConvShape& s, uint32_t cb) {
  return winograd_fits(kWinograd2, s, cb) && cb % 16 == 0;
}

size_t winograd_quarters_bytes(const ConvShape& s, uint32_t cb) {
  return panel_count(s) * WinogradQuarters(s, cb).panel_bytes;
}

bool winograd_quarters_are_safe(const ConvShape& s, uint32_t cb, const void* packed) {
  const WinogradQuarters layout(s, cb);
  const auto* panel = static_cast<const uint8_t*>(packed);
  for (uint32_t i = 0; i < panel_count(s); ++i, panel += layout.panel_bytes) {
    WinogradQuartersHeader header;
    std::memcpy(&header, panel, sizeof header);
    if (header.stretches == 0 || header.stretches > layout.steps) return false;
    uint32_t before = 0;
    for (uint32_t stretch = 0; stretch < header.stretches; ++stretch) {
      uint32_t end;
      std::memcpy(&end, panel + layout.ends_at + stretch * sizeof end, sizeof end);
      if (end <= before || end > layout.steps) return false;
      before = end;
    }
    if (before != layout.steps) return false;
  }
  return true;
}

void pack_winograd_quarters(const ConvShape& s, uint32_t cb, const int8_t* canonical,
                            void* packed) {
  auto* panel = static_cast<uint8_t*>(packed);
  for (uint32_t o = 0; o < s.o; o += kPanelChannels) {
    Packer(s, cb, panel).pack(canonical + size_t{o} * s.c * 9, min(kPanelChannels, s.o - o));
    panel += WinogradQuarters(s, cb).panel_bytes;
  }
}

// ResNet-50's layers inside the network, Zen 3: 0.54 to 0.58 of conv_u4s4_6x16_avx2's time, 0.81 at
// 7 x 7, where a third of the outputs is dropped.
float winograd_quarters_cost(const ConvShape& s, uint32_t, CpuFamily) {
  const float pixels =
                  static_cast<float>(s.n) * static_cast<float>(s.oh) * static_cast<float>(s.ow),
              outputs = 4.0F * static_cast<float>(Tiling(s, 2, 1).total);
  return 2.3F * outputs / pixels;
}

}  // namespace mpq::kernels
