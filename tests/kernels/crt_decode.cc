// Compiled with the flags of AVX-512.

#include "tests/kernels/crt_decode.h"

#include "kernels/conv/crt_decode_avx512.h"

namespace mpq::test {
namespace {

using namespace kernels;

__m512 lanes(int32_t t) { return _mm512_cvtepi32_ps(_mm512_set1_epi32(t)); }
bool is(__m512i x, int32_t sum) {
  return _mm512_cmpeq_epi32_mask(x, _mm512_set1_epi32(kCrtMagic + sum)) == 0xffff;
}

}  // namespace

bool crt_pair_returns(const int32_t sums[3]) {
  __m512i x[3];
  crt_pair<1>(lanes(kCrtModuli[0] * sums[0] + sums[1]), lanes(kCrtModuli[1] * sums[2] + sums[1]),
              x);
  return is(x[0], sums[0]) && is(x[1], sums[1]) && is(x[2], sums[2]);
}

bool crt_triple_returns(const int32_t sums[4]) {
  __m512 t[3];
  for (int v = 0; v < 3; ++v) t[v] = lanes(kCrtModuli[v] * sums[v] + sums[3]);
  __m512i x[4];
  crt_triple(t, x);
  bool all = true;
  for (int v = 0; v < 4; ++v) all &= is(x[v], sums[v]);
  return all;
}

bool crt_pair_of_triples_returns(const int32_t sums[4][3]) {
  __m512 t[2][3];
  for (int u = 0; u < 2; ++u)
    for (int v = 0; v < 3; ++v) {
      const int32_t p = kCrtModuli[u], m = kCrtModuli[v];
      t[u][v] = lanes(p * (m * sums[v][2 * u] + sums[3][2 * u]) + m * sums[v][1] + sums[3][1]);
    }
  __m512i x[4][3];
  crt_pair_of_triples(t[0], t[1], x);
  bool all = true;
  for (int v = 0; v < 4; ++v)
    for (int i = 0; i < 3; ++i) all &= is(x[v][i], sums[v][i]);
  return all;
}

}  // namespace mpq::test
