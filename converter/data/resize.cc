// Separable resampling, bit for bit as Pillow's Image.resize on 8-bit images: coefficients in
// double, rounded to 22-bit fixed point; a horizontal pass to 8 bits, then a vertical one. The
// filter widens with the reduction, which is the antialiasing that OpenCV's bilinear lacks.
#include <algorithm>
#include <cmath>

#include "converter/data/image.h"

namespace mpq::data {

namespace {

using Method = format::ImagePreprocess::Resize;

// 32 bits less 8 of the pixel less 2 for the sign and overshoot of the bicubic lobes.
constexpr int kPrecisionBits = 32 - 8 - 2;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

struct Filter {
  double (*weight)(double);
  double support;
};

// In order of Method; kNone is never asked for.
constexpr Filter kFilters[] = {{box, 0.5}, {bilinear, 1.0}, {bicubic, 2.0}, {box, 0.5}};

// Output pixel i = sum over t < count of input[first + t] * weights[t].
struct Taps {
  size_t first = 0, count = 0;
  const int32_t* weights = nullptr;
};

struct Kernel1d {
  std::vector<Taps> taps;
  std::vector<int32_t> weights;
};

Kernel1d make_kernel(uint32_t in_size, uint32_t out_size, const Filter& filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  const size_t stride = static_cast<size_t>(std::ceil(support)) * 2 + 1;

  Kernel1d kernel;
  kernel.taps.resize(out_size);
  kernel.weights.resize(stride * out_size);
  std::vector<double> w(stride);
  for (size_t i = 0; i < out_size; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const auto first = static_cast<int64_t>(std::max(center - support + 0.5, 0.0));
    const auto last = std::min(static_cast<int64_t>(center + support + 0.5), int64_t{in_size});
    const auto count = static_cast<size_t>(last - first);
    double sum = 0.0;
    for (size_t t = 0; t < count; ++t) {
      w[t] = filter.weight((static_cast<double>(first) + static_cast<double>(t) - center + 0.5) *
                           inverse);
      sum += w[t];
    }
    int32_t* const fixed = kernel.weights.data() + i * stride;
    for (size_t t = 0; t < count; ++t) {
      const double v = (sum != 0.0 ? w[t] / sum : w[t]) * (1 << kPrecisionBits);
      fixed[t] = static_cast<int32_t>(v < 0 ? v - 0.5 : v + 0.5);  // half away from zero
    }
    kernel.taps[i] = {static_cast<size_t>(first), count, fixed};
  }
  return kernel;
}

uint8_t to_pixel(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

Image resize_rows(const Image& image, uint32_t width, const Filter& filter) {
  Image out{width, image.height, std::vector<uint8_t>(size_t{width} * image.height * 3)};
  const Kernel1d kernel = make_kernel(image.width, width, filter);
  for (size_t y = 0; y < image.height; ++y) {
    const uint8_t* const in_row = image.rgb.data() + y * image.width * 3;
    uint8_t* const out_row = out.rgb.data() + y * width * 3;
    for (size_t x = 0; x < width; ++x) {
      const Taps& taps = kernel.taps[x];
      const uint8_t* pixel = in_row + taps.first * 3;
      int32_t r = kHalf, g = kHalf, b = kHalf;
      for (size_t t = 0; t < taps.count; ++t, pixel += 3) {
        r += pixel[0] * taps.weights[t];
        g += pixel[1] * taps.weights[t];
        b += pixel[2] * taps.weights[t];
      }
      out_row[x * 3] = to_pixel(r);
      out_row[x * 3 + 1] = to_pixel(g);
      out_row[x * 3 + 2] = to_pixel(b);
    }
  }
  return out;
}

Image resize_columns(const Image& image, uint32_t height, const Filter& filter) {
  const size_t row_bytes = size_t{image.width} * 3;
  Image out{image.width, height, std::vector<uint8_t>(row_bytes * height)};
  const Kernel1d kernel = make_kernel(image.height, height, filter);
  std::vector<int32_t> sums(row_bytes);
  for (size_t y = 0; y < height; ++y) {
    const Taps& taps = kernel.taps[y];
    std::fill(sums.begin(), sums.end(), kHalf);
    for (size_t t = 0; t < taps.count; ++t) {
      const uint8_t* const in_row = image.rgb.data() + (taps.first + t) * row_bytes;
      const int32_t weight = taps.weights[t];
      for (size_t i = 0; i < row_bytes; ++i) sums[i] += in_row[i] * weight;
    }
    std::transform(sums.begin(), sums.end(),
                   out.rgb.begin() + static_cast<ptrdiff_t>(y * row_bytes), to_pixel);
  }
  return out;
}

}  // namespace

Image resize(const Image& image, uint32_t width, uint32_t height, Method method) {
  const Filter& filter = kFilters[static_cast<size_t>(method)];
  if (width == image.width && height == image.height) return image;
  if (height == image.height) return resize_rows(image, width, filter);
  if (width == image.width) return resize_columns(image, height, filter);
  return resize_columns(resize_rows(image, width, filter), height, filter);
}

}  // namespace mpq::data
