#include "kernels/cuda/conv.h"
#include "kernels/cuda/kernels.h"

#define MPQ_ROW(name, a, w, tile, gelu) \
  MPQ_KERNEL(mpq::cuda::tile::kThreads) \
  name(MPQ_PARAMS(mpq::cuda::ConvParams) p) { mpq::cuda::conv<a, w, mpq::cuda::tile, gelu>(p); }
MPQ_CUDA_CONV_KERNELS(MPQ_ROW)
#undef MPQ_ROW
