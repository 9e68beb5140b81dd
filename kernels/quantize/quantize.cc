#include "kernels/quantize/quantize.h"

#include <cstring>

#include "kernels/isa_config.h"
#include "kernels/quantize/rows.h"

namespace mpq::kernels {
namespace {

template <typename Row, typename Args>
const Row& first_that_fits(std::span<const Row> rows, const Args& args, IsaMask isa) {
  for (const Row& row : rows)
    if ((row.isa & ~isa) == 0 && row.fits(args)) return row;
  return rows.back();  // not reached: the references fit everything
}

}  // namespace

std::span<const QuantizeKernel> quantize_kernels() {
  static const QuantizeKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    quantize_f32_avx512vnni,
#endif
#if MPQ_HAVE_AVX2
    quantize_f32_avx2,
#endif
    quantize_f32_ref,
  };
  return kRows;
}

std::span<const ImageQuantizeKernel> image_quantize_kernels() {
  static const ImageQuantizeKernel kRows[] = {
#if MPQ_HAVE_AVX512VNNI
    image_quantize_c3_avx512vnni,
#endif
    image_quantize_ref,
  };
  return kRows;
}

const QuantizeKernel& select_quantize(const QuantizeArgs& args, IsaMask isa) {
  return first_that_fits(quantize_kernels(), args, isa);
}

const ImageQuantizeKernel& select_image_quantize(const ImageQuantizeArgs& args, IsaMask isa) {
  return first_that_fits(image_quantize_kernels(), args, isa);
}

void pack_codes(const PackArgs& a, const WorkRange& range) {
  const uint32_t cb = a.planes.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(a.shape, cb, unit);
    const uint32_t channels = codes_channels(a.shape, cb, at.block);
    const uint8_t* from = a.dense + dense_at(a.strides, at, cb);
    uint8_t* to = codes_at(a.planes, at);
    for (uint32_t x = 0; x < a.shape.w; ++x)
      for (uint32_t c = 0; c < channels; ++c)
        to[size_t{x} * cb + c] = from[x * a.strides.pixel + c * a.strides.channel];
  }
}

void unpack_codes(const PackArgs& a, const WorkRange& range) {
  const uint32_t cb = a.planes.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const CodesRow at = codes_row(a.shape, cb, unit);
    const uint32_t channels = codes_channels(a.shape, cb, at.block);
    const uint8_t* from = codes_at(a.planes, at);
    uint8_t* to = a.dense + dense_at(a.strides, at, cb);
    for (uint32_t x = 0; x < a.shape.w; ++x)
      for (uint32_t c = 0; c < channels; ++c)
        to[x * a.strides.pixel + c * a.strides.channel] = from[size_t{x} * cb + c];
  }
}

void fill_halo(const HaloArgs& a, const WorkRange& range) {
  const Planes& p = a.y;
  const CodesShape& s = a.shape;
  const uint32_t blocks = (s.c + p.cb - 1) / p.cb;
  const size_t left = size_t{a.left} * p.cb, inner = size_t{s.w} * p.cb;
  const size_t right = size_t{a.right} * p.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    uint8_t* row = codes_at(p, {unit / blocks, unit % blocks, 0}) -
                   static_cast<ptrdiff_t>(a.top) * p.row - static_cast<ptrdiff_t>(left);
    const uint32_t rows = a.top + s.h + a.bottom;
    for (uint32_t y = 0; y < rows; ++y, row += p.row) {
      if (y < a.top || y >= a.top + s.h) {
        std::memset(row, a.code, left + inner + right);
      } else {
        std::memset(row, a.code, left);
        std::memset(row + left + inner, a.code, right);
      }
    }
  }
}

}  // namespace mpq::kernels
