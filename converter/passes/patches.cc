#include "converter/passes/patches.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "converter/parallel.h"

namespace mpq::convert {
namespace {

size_t pixels_of(const PatchSample& sample) {
  return sample.conv == nullptr ? 1 : static_cast<size_t>(sample.output[2] * sample.output[3]);
}
size_t taken_of(const PatchSample& sample) {
  return std::clamp<size_t>(sample.limit / std::max<size_t>(sample.images, 1), 1,
                            pixels_of(sample));
}

// `taken` of `pixels` positions in rising order: a partial shuffle with a generator that the C++
// standard fixes to the bit (its distributions are not).
std::vector<size_t> choose_pixels(size_t pixels, size_t taken, uint64_t seed) {
  std::vector<size_t> all(pixels);
  std::iota(all.begin(), all.end(), size_t{0});
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < taken; ++i) std::swap(all[i], all[i + random() % (pixels - i)]);
  all.resize(taken);
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

size_t patch_count(const PatchSample& sample) { return sample.images * taken_of(sample); }

std::vector<float> take_patches(const PatchSample& sample, std::span<const float> x,
                                uint32_t group) {
  const auto dim = [](const Shape& shape, size_t i) { return static_cast<size_t>(shape[i]); };
  if (sample.conv == nullptr) return {x.begin(), x.end()};
  const Conv& conv = *sample.conv;
  const size_t c = dim(sample.input, 1), h = dim(sample.input, 2), w = dim(sample.input, 3);
  const size_t cg = dim(sample.weights, 1), r = dim(sample.weights, 2), s = dim(sample.weights, 3);
  const size_t ow = dim(sample.output, 3), k = cg * r * s;
  const size_t taken = taken_of(sample);
  std::vector<float> rows(patch_count(sample) * k);
  parallel_for(sample.images, 1, [&](size_t begin, size_t end) {
    for (size_t n = begin; n < end; ++n) {
      const std::vector<size_t> pixels =
          choose_pixels(pixels_of(sample), taken, sample.seed * 1000003 + n);
      const float* image = &x[(n * c + group * cg) * h * w];
      for (size_t i = 0; i < taken; ++i) {
        float* row = &rows[(n * taken + i) * k];
        const size_t oy = pixels[i] / ow, ox = pixels[i] % ow;
        for (size_t ch = 0; ch < cg; ++ch)
          for (size_t ky = 0; ky < r; ++ky)
            for (size_t kx = 0; kx < s; ++kx) {
              // Wraps around in the padding above and to the left.
              const size_t iy = oy * conv.stride_h + ky * conv.dilation_h - conv.pad_top;
              const size_t ix = ox * conv.stride_w + kx * conv.dilation_w - conv.pad_left;
              *row++ = iy < h && ix < w ? image[(ch * h + iy) * w + ix] : 0.0F;
            }
      }
    }
  });
  return rows;
}

}  // namespace mpq::convert
