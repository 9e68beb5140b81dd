// The meaning of the family, in portable C++.

#include "kernels/quantize/rows.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

bool fits(const QuantizeArgs&) { return true; }
bool fits_image(const ImageQuantizeArgs&) { return true; }

void run(const QuantizeArgs& a, const WorkRange& range) {
  const uint32_t cb = a.y.cb;
  const int32_t lo = a.lo - a.zero_point, hi = a.hi - a.zero_point;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(a.shape, cb, unit);
    const uint32_t channels = codes_channels(a.shape, cb, at.block);
    const float* from = a.x + dense_at(a.strides, at, cb);
    uint8_t* y = codes_at(a.y, at);
    for (uint32_t x = 0; x < a.shape.w; ++x)
      for (uint32_t c = 0; c < channels; ++c) {
        const float v = from[x * a.strides.pixel + c * a.strides.channel] / a.scale;
        // Clamped before the zero point is added: the same code, and no sum that overflows.
        y[size_t{x} * cb + c] = static_cast<uint8_t>(round_clamp(v, lo, hi) + a.zero_point);
      }
  }
}

void run_image(const ImageQuantizeArgs& a, const WorkRange& range) {
  const CodesShape& s = a.shape;
  const uint32_t cb = a.y.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(s, cb, unit);
    const uint32_t channels = codes_channels(s, cb, at.block), first = at.block * cb;
    const uint8_t* pixels = a.pixels + (size_t{at.n} * s.h + at.y) * s.w * s.c + first;
    uint8_t* y = codes_at(a.y, at);
    for (uint32_t x = 0; x < s.w; ++x)
      for (uint32_t c = 0; c < channels; ++c)
        y[size_t{x} * cb + c] = a.table[size_t{first + c} * 256 + pixels[size_t{x} * s.c + c]];
  }
}

}  // namespace

const QuantizeKernel quantize_f32_ref = {"quantize_f32_ref", kIsaScalar, fits, run};
const ImageQuantizeKernel image_quantize_ref = {"image_quantize_ref", kIsaScalar, fits_image,
                                                run_image};

}  // namespace mpq::kernels
