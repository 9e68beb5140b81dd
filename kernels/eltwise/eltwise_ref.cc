// The meaning of the family, in portable C++.

#include <cmath>

#include "kernels/eltwise/rows.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

void run(const AddArgs& args, const WorkRange& range) {
  const AddShape& s = args.shape;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const uint8_t* a = add_row(s, args.a, unit);
    const uint8_t* b = add_row(s, args.b, unit);
    uint8_t* y = add_row(s, args.y, unit);
    uint8_t* second = args.second.data != nullptr ? add_row(s, args.second, unit) : nullptr;
    for (size_t i = 0; i < size_t{s.w} * args.a.cb; ++i) {
      const float inner =
          std::fmaf(static_cast<float>(b[i] - args.b_zero_point), args.b_scale, args.bias);
      const float v = std::fmaf(static_cast<float>(a[i] - args.a_zero_point), args.a_scale, inner);
      y[i] = static_cast<uint8_t>(round_clamp(v, args.lo, args.hi));
      if (second != nullptr)
        second[i] = static_cast<uint8_t>(round_clamp(
            std::fmaf(v, args.second_scale, args.second_bias), args.second_lo, args.second_hi));
    }
  }
}

}  // namespace

const AddKernel add_u8_ref = {"add_u8_ref", kIsaScalar, run};

}  // namespace mpq::kernels
