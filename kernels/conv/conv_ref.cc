// The meaning of the family, in portable C++: any shape, any groups, any dilation, any channel
// blocks. Weights stay as they come: [o][c / groups][r][s], one int8 a code ("oihw8_v1").

#include <cstring>

#include "kernels/conv/rows.h"

namespace mpq::kernels {
namespace {

constexpr uint32_t kPanel = 64;

uint8_t* code_at(const Planes& p, uint32_t n, uint32_t y, uint32_t x, uint32_t c) {
  return p.data + n * p.image + static_cast<ptrdiff_t>(c / p.cb) * p.plane + y * p.row +
         static_cast<ptrdiff_t>(x) * p.cb + c % p.cb;
}

int32_t accumulate(const ConvArgs& a, uint32_t n, uint32_t y, uint32_t x, uint32_t o) {
  const ConvShape& s = a.shape;
  const uint32_t group_c = s.c / s.groups, first_c = o / (s.o / s.groups) * group_c;
  const int8_t* w = static_cast<const int8_t*>(a.weights) + size_t{o} * group_c * s.r * s.s;
  int32_t acc = a.epilogue.acc_bias != nullptr ? a.epilogue.acc_bias[o] : 0;
  for (uint32_t c = 0; c < group_c; ++c)
    for (uint32_t r = 0; r < s.r; ++r)
      for (uint32_t q = 0; q < s.s; ++q)
        acc += *w++ * *code_at(a.x, n, y * s.stride_h + r * s.dilation_h,
                               x * s.stride_w + q * s.dilation_w, first_c + c);
  return acc;
}

void store(const ConvArgs& a, uint32_t n, uint32_t y, uint32_t x, uint32_t o, int32_t acc) {
  const ConvShape& s = a.shape;
  const Epilogue& e = a.epilogue;
  const size_t dense_at = ((size_t{n} * s.oh + y) * s.ow + x) * s.o + o;
  if (e.out == Elem::s32) {
    static_cast<int32_t*>(a.dense)[dense_at] = acc;
    return;
  }
  const int32_t residual = e.residual.data != nullptr ? *code_at(e.residual, n, y, x, o) : 0;
  const float v = requant_value(acc, e, o, residual);
  if (e.out == Elem::f32)
    static_cast<float*>(a.dense)[dense_at] = v;
  else
    *code_at(a.y, n, y, x, o) = static_cast<uint8_t>(round_clamp(v, e.lo, e.hi));
  if (e.second.data != nullptr)
    *code_at(e.second, n, y, x, o) = static_cast<uint8_t>(
        round_clamp(std::fmaf(v, e.second_scale, e.second_bias), e.second_lo, e.second_hi));
}

bool fits(const ConvShape&, uint32_t) { return true; }

size_t packed_bytes(const ConvShape& s, uint32_t) {
  return size_t{s.o} * (s.c / s.groups) * s.r * s.s;
}

void pack(const ConvShape& s, uint32_t cb, const int8_t* canonical, void* packed) {
  std::memcpy(packed, canonical, packed_bytes(s, cb));
}

void units(const ConvShape& s, uint32_t* unit_count, uint32_t* panel_count) {
  *unit_count = s.n * s.oh;
  *panel_count = (s.o + kPanel - 1) / kPanel;
}

size_t scratch_bytes(const ConvShape&, uint32_t) { return 0; }

void run(const ConvArgs& a, const ConvPart& part, const KernelContext&) {
  const ConvShape& s = a.shape;
  const uint32_t o_begin = part.panel_begin * kPanel;
  const uint32_t o_end = part.panel_end * kPanel < s.o ? part.panel_end * kPanel : s.o;
  for (uint32_t unit = part.unit_begin; unit < part.unit_end; ++unit)
    for (uint32_t x = 0; x < s.ow; ++x)
      for (uint32_t o = o_begin; o < o_end; ++o) {
        const uint32_t n = unit / s.oh, y = unit % s.oh;
        store(a, n, y, x, o, accumulate(a, n, y, x, o));
      }
}

float cost(const ConvShape&, uint32_t, CpuFamily) { return 1000.0F; }

}  // namespace

const ConvKernel conv_u8s8_ref = {"conv_u8s8_ref", kIsaScalar,    Elem::s8,     255,
                                  "oihw8_v1",      fits,          packed_bytes, pack,
                                  units,           scratch_bytes, run,          cost};

}  // namespace mpq::kernels
