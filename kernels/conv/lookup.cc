#include "kernels/conv/lookup.h"

#include <cstring>

#include "kernels/cpu.h"

namespace mpq::kernels {
namespace {

constexpr int32_t kMaxMagnitude = 255 / kLookupMaxCode;  // sum of |w| of a stretch
constexpr size_t kMaxStretches = 65535 / 255;            // as many leave words exact
static_assert(3 * kPieceCodes * 2 <= kMaxMagnitude);

// Some triples of weights, the same k of every output channel.
class Piece {
 public:
  Piece(const ConvShape& s, size_t first_triple, uint32_t triples) : triples_(triples) {
    const size_t taps = size_t{s.r} * s.s, codes = LookupCut(s).codes;
    for (uint32_t i = 0; i < 3 * triples; ++i) {
      const size_t k = 3 * first_triple + i, block = k / kLookupBlock;
      at_[i] = (block / taps * kLookupBlock + k % kLookupBlock) * taps + block % taps;
      if (k < codes) ++codes_;
    }
  }
  uint32_t triples() const { return triples_; }

  // Of one output channel.
  void enter(const int8_t* canonical) {
    for (uint32_t i = 0; i < codes_; ++i) w_[i] = canonical[at_[i]];
  }
  int32_t magnitude() const {
    int32_t sum = 0;
    for (const int8_t x : w_) sum += x < 0 ? -x : x;
    return sum;
  }
  int32_t least() const {
    int32_t sum = 0;
    for (const int8_t x : w_) sum += x < 0 ? x * kLookupMaxCode : 0;
    return sum;
  }
  void write(uint8_t* to, size_t step) const {
    for (uint32_t i = 0; i < 3 * triples_; i += 3, to += step)
      *to = static_cast<uint8_t>((w_[i] & 3) | (w_[i + 1] & 3) << 2 | (w_[i + 2] & 3) << 4);
  }

 private:
  uint32_t triples_, codes_ = 0;
  size_t at_[kPieceCodes];
  int8_t w_[kPieceCodes] = {};
};

class PackedPanels {
 public:
  PackedPanels(const ConvShape& s, const int8_t* canonical, uint32_t panel, uint8_t* to)
      : s_(s),
        cut_(s),
        canonical_(canonical + size_t{panel} * kPanelChannels * cut_.codes),
        channels_(s.o - panel * kPanelChannels < kChannels ? s.o - panel * kPanelChannels
                                                           : kChannels),
        line_(lookup_width(s, panel) * kLookupLine),
        header_(reinterpret_cast<LookupHeader*>(to)),
        lengths_(to + sizeof(LookupHeader)),
        start_(to + cut_.head()),
        at_(start_ + line_) {}

  void pack() {
    for (size_t i = 0; i < cut_.pieces; ++i) {
      add(Piece(s_, i * kPieceTriples, kPieceTriples));
      ++length_;
    }
    if (cut_.rest > 0) add(Piece(s_, cut_.pieces * kPieceTriples, cut_.rest));
    close();
  }

 private:
  static constexpr uint32_t kChannels = kLookupPanels * kPanelChannels;

  static size_t lane(uint32_t channel) {
    const uint32_t in_panel = channel % kPanelChannels, v = in_panel / 16, i = in_panel % 16;
    return channel / kPanelChannels * kLookupLine + (i / 4 * 8 + v % 2 * 4 + i % 4) * 2 + v / 2;
  }
  void add(Piece piece) {
    const size_t bytes = piece.triples() * line_;
    bool room = length_ < 255;
    for (uint32_t i = 0; i < channels_; ++i) {
      piece.enter(canonical_ + i * cut_.codes);
      added_[i] = piece.magnitude();
      least_[i] = piece.least();
      piece.write(at_ + lane(i), line_);
      room = room && magnitude_[i] + added_[i] <= kMaxMagnitude;
    }
    if (!room) {  // these triples move behind the start of the next stretch
      std::memmove(at_ + line_, at_, bytes);
      close();
      start_ = at_;
      at_ += line_;
    }
    for (uint32_t i = 0; i < channels_; ++i) {
      magnitude_[i] += added_[i];
      taken_[i] += least_[i];
    }
    at_ += bytes;
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
  const LookupCut cut_;
  const int8_t* const canonical_;
  const uint32_t channels_;
  const size_t line_;
  LookupHeader* const header_;
  uint8_t* lengths_;
  uint8_t *start_, *at_;  // of the open stretch; its end
  uint32_t length_ = 0;
  int32_t magnitude_[kChannels] = {}, taken_[kChannels] = {}, added_[kChannels], least_[kChannels];
};

}  // namespace

// Whole blocks: a byte that is no code would spoil the place of its neighbours.
bool lookup_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && cb == kLookupBlock && s.c > 0 && s.c % cb == 0 &&
         LookupCut(s).max_stretches <= kMaxStretches;
}

size_t lookup_bytes(const ConvShape& s, uint32_t) {
  const LookupCut cut(s);
  return panel_count(s) / kLookupPanels * cut.panels_bytes(kLookupPanels) +
         panel_count(s) % kLookupPanels * cut.panels_bytes(1);
}

bool lookup_is_safe(const ConvShape& s, uint32_t, const void* packed) {
  const LookupCut cut(s);
  const auto* at = static_cast<const uint8_t*>(packed);
  for (uint32_t p = 0; p < panel_count(s); p += kLookupPanels) {
    LookupHeader header;
    std::memcpy(&header, at, sizeof header);
    if (header.stretches == 0 || header.stretches > cut.max_stretches) return false;
    size_t pieces = 0;
    for (uint32_t i = 0; i < header.stretches; ++i) pieces += at[sizeof header + i];
    if (pieces != cut.pieces) return false;
    at += cut.panels_bytes(lookup_width(s, p));
  }
  return true;
}

void pack_lookup(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memset(packed, 0, lookup_bytes(s, cb));
  auto* to = static_cast<uint8_t*>(packed);
  for (uint32_t p = 0; p < panel_count(s); p += kLookupPanels) {
    PackedPanels(s, canonical, p, to).pack();
    to += LookupCut(s).panels_bytes(lookup_width(s, p));
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
