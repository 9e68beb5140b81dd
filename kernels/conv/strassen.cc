#include "kernels/conv/strassen.h"

#include <cstring>

namespace mpq::kernels {
namespace {

constexpr uint32_t kHalf = kPanelChannels / 2;

// Sum of the weights of a channel over a half of k; 0 for channels that do not exist.
int32_t half_sum(const ConvShape& s, const int8_t* canonical, uint32_t half, uint32_t o) {
  int32_t sum = 0;
  if (o < s.o)
    for (uint32_t c = 0; c < s.c / 2; ++c) sum += canonical[size_t{o} * s.c + half * s.c / 2 + c];
  return sum;
}

// What the stored codes lack: the lowest values, multiplied by sums of B as the codes are by B.
// b, c: [half of k, of pixels][half of channels].
void add_lowest(const int32_t b[2][2], int32_t c[2][2]) {
  const int32_t t1 = b[0][1] - b[0][0], t2 = b[1][1] - t1;
  const int32_t t[kStrassenProducts] = {b[0][0],           t2,          t1, b[1][1], b[1][0],
                                        b[1][1] - b[0][1], b[1][0] - t2};
  int32_t p[kStrassenProducts];
  for (uint32_t i = 0; i < kStrassenProducts; ++i) p[i] = kStrassenLowest[i] * t[i];
  const int32_t u1 = p[0] + p[1], u2 = u1 + p[2];
  c[0][0] = p[0] + p[4];
  c[0][1] = u2 + p[3];
  c[1][0] = u1 + p[5] + p[6];
  c[1][1] = u2 + p[5];
}

}  // namespace

bool strassen_fits(const ConvShape& s, uint32_t cb) {
  return s.groups == 1 && s.r == 1 && s.s == 1 && cb == 64 && s.c > 0 && s.c % (2 * cb) == 0;
}

size_t strassen_bytes(const ConvShape& s, uint32_t cb, uint32_t bits) {
  return panel_count(s) * (kStrassenHeadBytes + panel_groups(s, cb) * (256 / 8 * bits));
}

void pack_strassen(const ConvShape& s, uint32_t cb, uint32_t bits, const int8_t* canonical,
                   void* packed) {
  const size_t stride = strassen_bytes(s, cb, bits) / panel_count(s);
  auto* panel = static_cast<uint8_t*>(packed);
  for (uint32_t first = 0; first < s.o; first += kPanelChannels, panel += stride)
    for (uint32_t o = 0; o < kHalf; ++o) {
      int32_t b[2][2], c[2][2];
      for (uint32_t i = 0; i < 2; ++i)
        for (uint32_t j = 0; j < 2; ++j) b[i][j] = half_sum(s, canonical, i, first + j * kHalf + o);
      add_lowest(b, c);
      for (uint32_t i = 0; i < 2; ++i)
        for (uint32_t j = 0; j < 2; ++j)
          std::memcpy(panel + (i * kPanelChannels + j * kHalf + o) * sizeof(int32_t), &c[i][j],
                      sizeof(int32_t));
    }
  pack_groups(s, {.taps = 1, .block = cb / 4}, bits, canonical,
              static_cast<uint8_t*>(packed) + kStrassenHeadBytes, stride);
}

// Measured on 22 shapes: seven eighths of the multiplies; the sums of weights, which pixels share;
// the sums of codes, which channels share.
float strassen_cost(const ConvShape& s, uint32_t, CpuFamily) {
  const auto pixels = static_cast<float>(s.n * s.oh * s.ow), channels = static_cast<float>(s.o);
  return 0.84F + 8.0F / pixels + 30.0F / channels;
}

}  // namespace mpq::kernels
