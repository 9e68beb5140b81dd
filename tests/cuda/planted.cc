// Mistakes of another kind than a spoilt call: one definition that the kernels use is replaced, by
// the preprocessor, in the very same source. Compiled once for each:
// -DMPQ_PLANTED=planted_no_swizzle -DMPQ_PLANTED_NO_SWIZZLE.
#include "kernels/cuda/primitives.h"
#include "kernels/cuda/rounding.h"
#include "kernels/cuda/tile.h"

namespace mpq::cuda {
namespace {

template <uint32_t row_bytes>
constexpr uint32_t in_plain_rows(uint32_t row, uint32_t chunk) {
  return row * row_bytes + chunk * 16;
}
[[maybe_unused]] constexpr uint32_t no_shift(uint32_t, uint32_t) { return 0; }
[[maybe_unused]] uint32_t truncated(float x) { return kRounded + static_cast<uint32_t>(x); }
[[maybe_unused]] float product_then_sum(float a, float b, float c) { return add(mul(a, b), c); }

}  // namespace
}  // namespace mpq::cuda

#if defined(MPQ_PLANTED_NO_SWIZZLE)
#define swizzled in_plain_rows
#elif defined(MPQ_PLANTED_NO_SHIFT)
#define weight_shift no_shift
#elif defined(MPQ_PLANTED_TRUNCATED)
#define rounded truncated
#elif defined(MPQ_PLANTED_NOT_FUSED)
#define fma product_then_sum
#elif defined(MPQ_PLANTED_SWAPPED_KEYS)
#define permute_bytes(a, b, selectors) permute_bytes(b, a, selectors)
#endif

#include "kernels/cuda/attention.cu"
#include "kernels/cuda/conv.h"
#include "tests/cuda/emulated.h"

namespace mpq::test {
namespace {

template <uint32_t a_bits, uint32_t w_bits>
void run_conv(const void* params) {
  cuda::conv<a_bits, w_bits, cuda::Tile64x64, false>(*static_cast<const cuda::ConvParams*>(params));
}

constexpr EmulatedKernel kKernels[] = {
    {"conv_u4s4_64x64", run_conv<4, 4>},
    {"conv_u4s2_64x64", run_conv<4, 2>},
    {"attention_32",
     [](const void* p) { attention_32(*static_cast<const cuda::AttentionParams*>(p)); }},
    {"attention_64",
     [](const void* p) { attention_64(*static_cast<const cuda::AttentionParams*>(p)); }},
};

}  // namespace

std::span<const EmulatedKernel> MPQ_PLANTED() { return kKernels; }

}  // namespace mpq::test
