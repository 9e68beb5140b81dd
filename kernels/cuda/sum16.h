// The end of a sum of 16 lanes: fold_lanes of kernels/math/lanes.h.
#pragma once

#include "kernels/cuda/primitives.h"

namespace mpq::cuda {
namespace {

// (warp) Each half of the warp folds its 16 sums; all lanes get the result.
MPQ_DEVICE float fold_lanes(float lane) {
#pragma unroll
  for (uint32_t half = 8; half > 0; half /= 2)
    lane = add(lane, float_of(shuffle_down16(bits_of(lane), half)));
  return float_of(shuffle_from16(bits_of(lane), 0));
}

}  // namespace
}  // namespace mpq::cuda
