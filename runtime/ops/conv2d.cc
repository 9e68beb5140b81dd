#include <algorithm>

#include "runtime/ops/dense.h"

namespace mpq::runtime {
namespace {

// Pixels read past the end of `size` by the last of `count` windows.
uint32_t overhang(uint32_t count, uint32_t stride, uint32_t kernel, uint32_t dilation,
                  uint32_t pad_before, uint32_t size) {
  const int64_t last = int64_t{count - 1} * stride + int64_t{kernel - 1} * dilation - pad_before;
  return static_cast<uint32_t>(std::max<int64_t>(last - (int64_t{size} - 1), 0));
}

}  // namespace

Halo conv2d_halo(const format::Model& model, const format::Node& node, const Dims& x,
                 const Dims& y) {
  const auto& a = std::get<format::Conv2dAttrs>(node.attrs);
  const Shape& weights = model.tensors[node.inputs[format::kWeights]].shape;
  const auto r = static_cast<uint32_t>(weights[2]), s = static_cast<uint32_t>(weights[3]);
  return {a.pad_top, a.pad_left, overhang(y.h, a.stride_h, r, a.dilation_h, a.pad_top, x.h),
          overhang(y.w, a.stride_w, s, a.dilation_w, a.pad_left, x.w)};
}

Checked plan_conv2d(Planner& planner, uint32_t node) {
  const format::Node& n = planner.model().nodes[node];
  const auto& a = std::get<format::Conv2dAttrs>(n.attrs);
  const Dims x = planner.dims(n.inputs[format::kX]), y = planner.dims(n.outputs[0]);
  const Shape& weights = planner.tensor(n.inputs[format::kWeights]).shape;
  const kernels::ConvShape shape = {.n = x.n,
                                    .c = x.c,
                                    .oh = y.h,
                                    .ow = y.w,
                                    .o = y.c,
                                    .r = static_cast<uint32_t>(weights[2]),
                                    .s = static_cast<uint32_t>(weights[3]),
                                    .stride_h = a.stride_h,
                                    .stride_w = a.stride_w,
                                    .dilation_h = a.dilation_h,
                                    .dilation_w = a.dilation_w,
                                    .groups = a.groups};
  const kernels::Planes planes = planner.planes_of(n.inputs[format::kX]);
  const ptrdiff_t shift = -(static_cast<ptrdiff_t>(a.pad_top) * planes.row +
                            static_cast<ptrdiff_t>(a.pad_left) * planes.cb);
  return plan_dense(planner, node, shape, a.requant, shift);
}

}  // namespace mpq::runtime
