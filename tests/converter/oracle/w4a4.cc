#include "oracle/w4a4.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace mpq::oracle {
namespace {

std::vector<int32_t> read_numbers(const std::string& path, int bits, bool is_signed) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)),
                                std::istreambuf_iterator<char>());
  std::vector<int32_t> out;
  const auto u = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])); };
  if (bits == 4) {
    for (size_t i = 0; i < bytes.size(); ++i)
      for (const uint32_t nibble : {u(i) & 15U, u(i) >> 4})
        out.push_back(static_cast<int32_t>(nibble) - (nibble > 7 ? 16 : 0));
    return out;
  }
  const size_t width = static_cast<size_t>(bits) / 8;
  for (size_t i = 0; i + width <= bytes.size(); i += width) {
    uint32_t value = 0;
    for (size_t b = 0; b < width; ++b) value |= u(i + b) << (8 * b);
    int64_t number = value;
    if (is_signed && number >= (int64_t{1} << (bits - 1))) number -= int64_t{1} << bits;
    out.push_back(static_cast<int32_t>(number));
  }
  return out;
}

int32_t quantize(int64_t x, int64_t factor, int shift, int64_t lo, int64_t hi) {
  const int64_t half = shift == 0 ? 0 : int64_t{1} << (shift - 1);
  const int64_t a = ((x < 0 ? -x : x) * factor + half) >> shift;
  return static_cast<int32_t>(std::min(hi, std::max(lo, x < 0 ? -a : a)));
}

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void add_scaled(int32_t* acc, const int32_t* x, int32_t w, int n) {
  for (int i = 0; i < n; ++i) acc[i] += w * x[i];
}

}  // namespace

bool W4a4::load_conv(const std::string& name, int in, int out, int kernel, int stride, int bits,
                     Conv* conv) {
  *conv = {in, out, kernel, stride, kernel / 2, {}, {}};
  const std::string base = root_ + "/model/npdata/" + name;
  conv->weight = read_numbers(base + ".weight", bits, true);
  conv->bias = read_numbers(base + ".bias", 16, true);
  return conv->weight.size() == static_cast<size_t>(in) * out * kernel * kernel &&
         conv->bias.size() == static_cast<size_t>(out);
}

bool W4a4::load_factor(const std::string& name, int channels, Factor* factor) {
  factor->f = read_numbers(root_ + "/model/npdata/" + name + ".requant_factor", 16, false);
  std::ifstream text(root_ + "/model/" + name);
  for (std::string line; std::getline(text, line);)
    if (line.rfind("shift_bits=", 0) == 0) factor->shift = std::atoi(line.c_str() + 11);
  return factor->f.size() == static_cast<size_t>(channels);
}

bool W4a4::load(const std::string& root) {
  root_ = root;
  bool ok = load_conv("conv1", 3, 64, 7, 2, 8, &conv1_) && load_factor("quantize1", 64, &q1_);
  constexpr int kBlocks[4] = {3, 4, 6, 3};
  int in = 64;
  for (int stage = 0; stage < 4; ++stage) {
    const int mid = 64 << stage;
    for (int i = 0; i < kBlocks[stage]; ++i) {
      const std::string name = "layer" + std::to_string(stage + 1) + "_" + std::to_string(i);
      const int stride = i == 0 && stage > 0 ? 2 : 1;
      Block b;
      b.first = i == 0;
      ok = ok && load_conv(name + "_conv1", in, mid, 1, 1, 4, &b.conv1) &&
           load_conv(name + "_conv2", mid, mid, 3, stride, 4, &b.conv2) &&
           load_conv(name + "_conv3", mid, 4 * mid, 1, 1, 4, &b.conv3) &&
           load_factor(name + "_quantize1", mid, &b.q1) &&
           load_factor(name + "_quantize2", mid, &b.q2) &&
           load_factor(name + "_quantize3", 4 * mid, &b.q3);
      if (b.first)
        ok = ok && load_conv(name + "_downsample_0", in, 4 * mid, 1, stride, 4, &b.down) &&
             load_factor(name + "_downsample_1", 4 * mid, &b.d1) &&
             load_factor(name + "_downsample_2", 4 * mid, &b.d2);
      else
        ok = ok && load_factor(name + "_downsample", 4 * mid, &b.d2);
      blocks_.push_back(std::move(b));
      in = 4 * mid;
    }
  }
  fc_weight_ = read_numbers(root_ + "/model/npdata/fc.weight", 8, true);
  fc_bias_ = read_numbers(root_ + "/model/npdata/fc.bias", 32, true);
  return ok && fc_weight_.size() == 2048U * 1000U && fc_bias_.size() == 1000U;
}

W4a4::Map W4a4::convolve(const Conv& conv, const Map& x) {
  const int side = (x.side + 2 * conv.pad - conv.kernel) / conv.stride + 1;
  const int pixels = side * side;
  Map y{conv.out, side, std::vector<int32_t>(static_cast<size_t>(conv.out) * pixels)};
  for (int o = 0; o < conv.out; ++o)
    std::fill_n(&y.v[static_cast<size_t>(o) * pixels], pixels, conv.bias[o]);
  std::vector<int32_t> shifted(pixels);
  for (int c = 0; c < conv.in; ++c)
    for (int r = 0; r < conv.kernel; ++r)
      for (int s = 0; s < conv.kernel; ++s) {
        for (int i = 0; i < side; ++i)
          for (int j = 0; j < side; ++j) {
            const int row = i * conv.stride + r - conv.pad, column = j * conv.stride + s - conv.pad;
            const bool inside = row >= 0 && row < x.side && column >= 0 && column < x.side;
            shifted[i * side + j] =
                inside ? x.v[(static_cast<size_t>(c) * x.side + row) * x.side + column] : 0;
          }
        for (int o = 0; o < conv.out; ++o) {
          const int32_t w =
              conv.weight[((static_cast<size_t>(o) * conv.in + c) * conv.kernel + r) * conv.kernel +
                          s];
          if (w != 0) add_scaled(&y.v[static_cast<size_t>(o) * pixels], shifted.data(), w, pixels);
        }
      }
  return y;
}

std::vector<int32_t> W4a4::run(const uint8_t* pixels) const {
  const auto relu_quantize = [](Map m, const Factor& q, int hi) {
    const int n = m.side * m.side;
    for (size_t i = 0; i < m.v.size(); ++i)
      m.v[i] = quantize(std::max(m.v[i], 0), q.f[i / n], q.shift, 0, hi);
    return m;
  };

  Map x{3, 224, std::vector<int32_t>(3 * 224 * 224)};
  const float mean[3] = {0.485F, 0.456F, 0.406F}, stddev[3] = {0.229F, 0.224F, 0.225F};
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < 224 * 224; ++i) {
      const float v = (static_cast<float>(pixels[i * 3 + c]) / 255.0F - mean[c]) / stddev[c];
      const float code = std::nearbyint(v * 127.0F / 2.64F);
      x.v[c * 224 * 224 + i] = static_cast<int32_t>(std::min(127.0F, std::max(-127.0F, code)));
    }
  x = relu_quantize(convolve(conv1_, x), q1_, 15);

  Map pooled{64, 56, std::vector<int32_t>(64 * 56 * 56, 0)};
  for (int c = 0; c < 64; ++c)
    for (int i = 0; i < 56; ++i)
      for (int j = 0; j < 56; ++j)
        for (int row = std::max(0, 2 * i - 1); row <= std::min(111, 2 * i + 1); ++row)
          for (int column = std::max(0, 2 * j - 1); column <= std::min(111, 2 * j + 1); ++column) {
            int32_t& best = pooled.v[(c * 56 + i) * 56 + j];
            best = std::max(best, x.v[(c * 112 + row) * 112 + column]);
          }
  x = std::move(pooled);

  for (size_t b = 0; b < blocks_.size(); ++b) {
    const Block& block = blocks_[b];
    Map skip = block.first ? convolve(block.down, x) : x;
    const int n = skip.side * skip.side;
    for (size_t i = 0; i < skip.v.size(); ++i) {
      if (block.first)
        skip.v[i] = quantize(skip.v[i], block.d1.f[i / n], block.d1.shift, -127, 127);
      skip.v[i] = quantize(skip.v[i], block.d2.f[i / n], block.d2.shift, -0x7FFFFFFF, 0x7FFFFFFF);
    }
    Map y = relu_quantize(convolve(block.conv1, x), block.q1, 15);
    y = relu_quantize(convolve(block.conv2, y), block.q2, 15);
    y = convolve(block.conv3, y);
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] += skip.v[i];
    x = relu_quantize(std::move(y), block.q3, b + 1 == blocks_.size() ? 127 : 15);
  }

  std::vector<int32_t> mean_code(2048), acc(1000);
  for (int c = 0; c < 2048; ++c) {
    int32_t sum = 0;
    for (int i = 0; i < 49; ++i) sum += x.v[c * 49 + i];
    mean_code[c] = (2 * sum + 49) / 98;  // half up
  }
  for (int o = 0; o < 1000; ++o) {
    acc[o] = fc_bias_[o];
    for (int c = 0; c < 2048; ++c)
      acc[o] += fc_weight_[static_cast<size_t>(o) * 2048 + c] * mean_code[c];
  }
  return acc;
}

}  // namespace mpq::oracle
