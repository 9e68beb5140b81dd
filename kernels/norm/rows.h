// The rows of the family, defined one instruction set a file, and their common loop over groups of
// 16 elements: as many vectors as it takes.
#pragma once

#include "kernels/math/lanes.h"
#include "kernels/norm/norm.h"

namespace mpq::kernels {

extern const LayerNormKernel layer_norm_f32_ref, layer_norm_f32_avx2, layer_norm_f32_avx512vnni;

namespace {

template <typename L>
struct Group {
  static constexpr uint32_t kSize = 16, kVectors = kSize / L::kWidth;
  typename L::F v[kVectors];

  static Group set(float x) {
    Group g;
    for (auto& v : g.v) v = L::set(x);
    return g;
  }
  // The first n elements; the others are 0.
  static Group load(const float* p, uint32_t n) {
    float whole[kSize] = {};
    if (n < kSize) {
      for (uint32_t i = 0; i < n; ++i) whole[i] = p[i];
      p = whole;
    }
    Group g;
    for (uint32_t i = 0; i < kVectors; ++i) g.v[i] = L::load(p + i * L::kWidth);
    return g;
  }
  void store(float* p, uint32_t n) const {
    float whole[kSize];
    float* to = n < kSize ? whole : p;
    for (uint32_t i = 0; i < kVectors; ++i) L::store(to + i * L::kWidth, v[i]);
    if (n < kSize)
      for (uint32_t i = 0; i < n; ++i) p[i] = whole[i];
  }
  void store_codes(uint8_t* p, uint32_t n, float lo, float hi) const {
    uint8_t whole[kSize];
    uint8_t* to = n < kSize ? whole : p;
    for (uint32_t i = 0; i < kVectors; ++i) store_clamped<L>(to + i * L::kWidth, v[i], lo, hi);
    if (n < kSize)
      for (uint32_t i = 0; i < n; ++i) p[i] = whole[i];
  }
  float sum() const {
    float lane[kSize];
    for (uint32_t i = 0; i < kVectors; ++i) L::store(lane + i * L::kWidth, v[i]);
    return fold_lanes(lane);
  }
};

template <typename L>
static void layer_norm_row(const LayerNormArgs& a, uint32_t token) {
  using G = Group<L>;
  const size_t row = size_t{token} * a.width;
  const float *x = a.x + row, *residual = a.residual == nullptr ? nullptr : a.residual + row;
  float* y = a.y + row;
  const auto size = static_cast<float>(a.width);
  const auto count = [&](uint32_t i) { return a.width - i < G::kSize ? a.width - i : G::kSize; };

  G sum = G::set(0.0F);
  for (uint32_t i = 0; i < a.width; i += G::kSize) {
    G v = G::load(x + i, count(i));
    if (residual != nullptr) {
      const G r = G::load(residual + i, count(i));
      for (uint32_t j = 0; j < G::kVectors; ++j) v.v[j] = L::add(v.v[j], r.v[j]);
    }
    for (uint32_t j = 0; j < G::kVectors; ++j) sum.v[j] = L::add(sum.v[j], v.v[j]);
    v.store(y + i, count(i));
  }
  const float mean = sum.sum() / size;

  // y holds v, then d; elements that do not exist count as d = 0.
  G squares = G::set(0.0F);
  for (uint32_t i = 0; i < a.width; i += G::kSize) {
    G d = G::load(y + i, count(i));
    for (uint32_t j = 0; j < G::kVectors; ++j) d.v[j] = L::sub(d.v[j], L::set(mean));
    d.store(y + i, count(i));
    if (count(i) < G::kSize) d = G::load(y + i, count(i));
    for (uint32_t j = 0; j < G::kVectors; ++j) squares.v[j] = L::fma(d.v[j], d.v[j], squares.v[j]);
  }
  const float scale = 1.0F / __builtin_sqrtf(squares.sum() / size + a.epsilon);

  for (uint32_t i = 0; i < a.width; i += G::kSize) {
    G d = G::load(y + i, count(i)), out;
    const G gamma = G::load(a.gamma + i, count(i)), beta = G::load(a.beta + i, count(i));
    for (uint32_t j = 0; j < G::kVectors; ++j) {
      d.v[j] = L::mul(d.v[j], L::set(scale));
      out.v[j] = L::fma(d.v[j], gamma.v[j], beta.v[j]);
    }
    out.store(y + i, count(i));
    if (a.second.data == nullptr) continue;
    if (a.second_gamma != nullptr) {
      const G g = G::load(a.second_gamma + i, count(i)), b = G::load(a.second_beta + i, count(i));
      for (uint32_t j = 0; j < G::kVectors; ++j) out.v[j] = L::fma(d.v[j], g.v[j], b.v[j]);
    } else {
      for (uint32_t j = 0; j < G::kVectors; ++j)
        out.v[j] = L::fma(out.v[j], L::set(a.second_scale), L::set(a.second_bias));
    }
    const uint32_t cb = a.second.cb;  // 16 or more when there is a whole group
    out.store_codes(a.second.data + static_cast<ptrdiff_t>(i / cb) * a.second.plane +
                        static_cast<ptrdiff_t>(token) * a.second.image + i % cb,
                    count(i), static_cast<float>(a.second_lo), static_cast<float>(a.second_hi));
  }
}

template <typename L>
static void run_layer_norm(const LayerNormArgs& a, const WorkRange& range) {
  for (uint32_t token = range.begin; token < range.end; ++token) layer_norm_row<L>(a, token);
}

}  // namespace
}  // namespace mpq::kernels
