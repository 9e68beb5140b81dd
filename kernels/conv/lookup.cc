#include "kernels/conv/lookup.h"

#include <cstring>

#include "kernels/cpu.h"

namespace mpq::kernels {
namespace {

constexpr int32_t kMaxMagnitude = 255 / kLookupMaxCode;  // sum of |w| of a stretch
constexpr size_t kMaxHalves = 65535 / 255;               // as many stretches leave words exact

// The codes of one half block of one output channel; 0 where there are none.
struct HalfBlock {
  int8_t w[kHalfCodes] = {};

  HalfBlock(const ConvShape& s, const int8_t* canonical, uint32_t o, size_t half) {
    const size_t taps = size_t{s.r} * s.s, tap = half / 2 % taps;
    const size_t first = half / 2 / taps * kLookupBlock + half % 2 * kHalfCodes;
    const uint32_t codes = half % 2 == 0 ? kHalfCodes : kLookupBlock - kHalfCodes;
    const int8_t* from = canonical + (size_t{o} * s.c + first) * taps + tap;
    for (uint32_t i = 0; i < codes; ++i) w[i] = from[i * taps];
  }
  int32_t magnitude() const {
    int32_t sum = 0;
    for (const int8_t x : w) sum += x < 0 ? -x : x;
    return sum;
  }
  int32_t least() const {
    int32_t sum = 0;
    for (const int8_t x : w) sum += x < 0 ? x * kLookupMaxCode : 0;
    return sum;
  }
  void triples(uint8_t* to, size_t step) const {
    for (uint32_t i = 0; i < kHalfCodes; i += 3, to += step)
      *to = static_cast<uint8_t>((w[i] & 3) | (w[i + 1] & 3) << 2 | (w[i + 2] & 3) << 4);
  }
};

class PackedPanels {
 public:
  PackedPanels(const ConvShape& s, const int8_t* canonical, uint32_t panel, uint8_t* to)
      : s_(s),
        canonical_(canonical),
        first_(panel * kPanelChannels),
        channels_(s.o - first_ < kLookupPanels * kPanelChannels ? s.o - first_
                                                                : kLookupPanels * kPanelChannels),
        line_(lookup_width(s, panel) * kLookupLine),
        header_(reinterpret_cast<LookupHeader*>(to)),
        lengths_(to + sizeof(LookupHeader)),
        start_(to + lookup_head(lookup_halves(s))),
        at_(start_ + line_) {}

  void pack() {
    const size_t halves = lookup_halves(s_);
    for (size_t half = 0; half < halves; ++half) {
      for (uint32_t i = 0; i < channels_; ++i) {
        const HalfBlock block(s_, canonical_, first_ + i, half);
        added_[i] = block.magnitude();
        least_[i] = block.least();
        block.triples(at_ + lane(i), line_);
      }
      if (!has_room()) {  // these triples move behind the start of the next stretch
        std::memmove(at_ + line_, at_, kHalfTriples * line_);
        close();
        start_ = at_;
        at_ += line_;
      }
      for (uint32_t i = 0; i < channels_; ++i) {
        magnitude_[i] += added_[i];
        taken_[i] += least_[i];
      }
      ++length_;
      at_ += kHalfTriples * line_;
    }
    close();
  }

 private:
  static size_t lane(uint32_t channel) {
    const uint32_t in_panel = channel % kPanelChannels;
    const uint32_t v = in_panel / 16, i = in_panel % 16;
    return channel / kPanelChannels * kLookupLine + (i / 4 * 8 + v % 2 * 4 + i % 4) * 2 + v / 2;
  }
  bool has_room() const {
    if (length_ == 255) return false;
    for (uint32_t i = 0; i < channels_; ++i)
      if (magnitude_[i] + added_[i] > kMaxMagnitude) return false;
    return true;
  }
  void close() {
    std::memset(start_, 0, line_);
    for (uint32_t i = 0; i < channels_; ++i) {
      start_[lane(i)] = static_cast<uint8_t>(-taken_[i]);
      header_->start[i] += taken_[i];
      magnitude_[i] = taken_[i] = 0;
    }
    *lengths_++ = static_cast<uint8_t>(length_);
    ++header_->stretches;
    length_ = 0;
  }

  const ConvShape& s_;
  const int8_t* const canonical_;
  const uint32_t first_, channels_;
  const size_t line_;
  LookupHeader* const header_;
  uint8_t* lengths_;
  uint8_t *start_, *at_;  // of the open stretch; its end
  uint32_t length_ = 0;
  int32_t magnitude_[kLookupPanels * kPanelChannels] = {},
                                     taken_[kLookupPanels * kPanelChannels] = {},
                                     added_[kLookupPanels * kPanelChannels],
                                     least_[kLookupPanels * kPanelChannels];
};

}  // namespace

// Whole blocks: a byte that is no code would spoil the place of its neighbours.
bool lookup_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb == kLookupBlock && s.c > 0 && s.c % cb == 0 &&
         lookup_halves(s) <= kMaxHalves;
}

size_t lookup_bytes(const ConvShape& s, uint32_t) {
  const size_t halves = lookup_halves(s);
  return panel_count(s) / kLookupPanels * lookup_panels_bytes(halves, kLookupPanels) +
         panel_count(s) % kLookupPanels * lookup_panels_bytes(halves, 1);
}

bool lookup_is_safe(const ConvShape& s, uint32_t, const void* packed) {
  const size_t halves = lookup_halves(s);
  const auto* at = static_cast<const uint8_t*>(packed);
  for (uint32_t p = 0; p < panel_count(s); p += kLookupPanels) {
    LookupHeader header;
    std::memcpy(&header, at, sizeof header);
    if (header.stretches > halves) return false;
    size_t sum = 0;
    for (uint32_t i = 0; i < header.stretches; ++i) {
      const uint8_t length = at[sizeof header + i];
      if (length == 0) return false;
      sum += length;
    }
    if (sum != halves) return false;
    at += lookup_panels_bytes(halves, lookup_width(s, p));
  }
  return true;
}

void pack_lookup(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, lookup_bytes(s, cb));
  auto* to = static_cast<uint8_t*>(packed);
  for (uint32_t p = 0; p < panel_count(s); p += kLookupPanels) {
    PackedPanels(s, canonical, p, to).pack();
    to += lookup_panels_bytes(lookup_halves(s), lookup_width(s, p));
  }
}

// Of one panel, tables serve 64 lookups instead of 128. Not measured on Intel's cores, which
// permute bytes on one of the two ports that multiply.
float lookup_cost(const ConvShape& s, uint32_t, CpuFamily family) {
  if (family == CpuFamily::kIntel) return 1.5F;
  return 0.4F + 0.2F / static_cast<float>(panel_count(s)) +
         4.0F / (static_cast<float>(s.c) * static_cast<float>(s.r * s.s));
}

}  // namespace mpq::kernels
