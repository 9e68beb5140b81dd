// Compiled once for each architecture: -DMPQ_CUDA_ARCH=80 -DMPQ_EMULATED=emulated_sm80.
#include "tests/cuda/emulated.h"

#include "kernels/cuda/attention.cu"
#include "kernels/cuda/conv.cu"
#include "kernels/cuda/elementwise.cu"
#include "kernels/cuda/layer_norm.cu"
#include "kernels/cuda/sequences.cu"

namespace mpq::test {
namespace {

template <typename Params, void (*kernel)(const Params&)>
void run(const void* params) {
  kernel(*static_cast<const Params*>(params));
}

constexpr EmulatedKernel kKernels[] = {
#define MPQ_ROW(name, ...) {#name, run<cuda::ConvParams, name>},
    MPQ_CUDA_CONV_KERNELS(MPQ_ROW)
#undef MPQ_ROW
#define MPQ_ROW(name, params, ...) {#name, run<cuda::params, name>},
        MPQ_CUDA_OTHER_KERNELS(MPQ_ROW)
#undef MPQ_ROW
};

}  // namespace

std::span<const EmulatedKernel> MPQ_EMULATED() { return kKernels; }

}  // namespace mpq::test
