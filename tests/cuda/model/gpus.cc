#include "tests/cuda/model/gpus.h"

namespace mpq::test {
namespace {

// Sources: processors, caches, bandwidths and products a clock are those of NVIDIA's data sheets
// and white papers (A100's L2: 5120 bytes a clock); T4's L2 and Turing's 64 bytes a clock of shared
// memory: Jia et al. 2019 (arXiv 1903.07486) and Yan et al. 2020 (IPDPS); other L2 bandwidths:
// assumed, a 64-byte port a slice. Clocks: T4 and L4 are held by 70 W far below their boost clocks,
// T4's is fitted to its INT8 figure beside TITAN RTX's, L4's has the same proportion to its boost
// clock (assumed). H100: mma.sync reaches about 62 % of what wgmma does.
// clang-format off
constexpr GpuModel kGpus[] = {
    // name         arch  SM  GHz   GB/s  L2   B/clk  MAC   sh  fp  KB   thr  blk
    {"T4",            75,  40, 1.10,  320,  4,  1024, 1024,  64,  64,  64, 1024, 16},
    {"TITAN RTX",     75,  72, 1.75,  672,  6,  1536, 1024,  64,  64,  64, 1024, 16},
    {"A100-80",       80, 108, 1.41, 2039, 40,  5120, 2048, 128,  64, 164, 2048, 32},
    {"A100-40",       80, 108, 1.41, 1555, 40,  5120, 2048, 128,  64, 164, 2048, 32},
    {"A30",           80,  56, 1.44,  933, 24,  2560, 2048, 128,  64, 164, 2048, 32},
    {"A10",           86,  72, 1.30,  600,  6,  1536, 1024, 128, 128, 100, 1536, 16},
    {"L4",            89,  58, 1.41,  300, 48,  1536, 1024, 128, 128, 100, 1536, 24},
    {"RTX 4090",      89, 128, 2.52, 1008, 72,  2304, 1024, 128, 128, 100, 1536, 24},
    {"H100",          90, 132, 1.75, 3350, 50,  5120, 2540, 128, 128, 228, 2048, 32},
};

constexpr double images(double batch, double a_second) { return batch / a_second; }
constexpr const char* kMlperf05 = "MLPerf v0.5, closed; developer.nvidia.com/blog/int4-for-ai-inference";
constexpr const char* kMlperf05Open = "MLPerf v0.5, open division; the same";
constexpr const char* kMlperf11 = "MLPerf v1.1, closed, TensorRT";
constexpr const char* kMlperf21 = "MLPerf v2.1, closed, TensorRT";
constexpr const char* kToolkit = "TensorRT 8.4, quantization toolkit's documentation";
constexpr const char* kFaster = "FasterTransformer bert_guide, INT8-v2";
constexpr Published kPublished[] = {
    {"resnet50",  8, "T4",        256,   0, images(256, 5622),   true,  kMlperf05},
    {"resnet50",  8, "TITAN RTX", 256,   0, images(256, 16563),  false, kMlperf05},
    {"resnet50",  4, "T4",        256,   0, images(256, 8940),   false, kMlperf05Open},
    {"resnet50",  4, "TITAN RTX", 256,   0, images(256, 25178),  false, kMlperf05Open},
    {"resnet50",  8, "A100-40",   256,   0, images(256, 39830),  false, kMlperf11},
    {"resnet50",  8, "A100-80",   256,   0, images(256, 42121),  false, kMlperf21},
    {"resnet50",  8, "A30",       256,   0, images(256, 18300),  false, kMlperf11},
    {"resnet50",  8, "A10",       256,   0, images(256, 13800),  false, kMlperf11},
    {"resnet50",  8, "H100",      256,   0, images(256, 81292),  false, kMlperf21},
    {"resnet50",  8, "A100-80",     1,   0, 0.45e-3,             false, kToolkit},
    {"resnet50",  8, "A30",         1,   0, 0.524e-3,            false, kMlperf11},
    {"resnet50",  8, "A10",         1,   0, 0.466e-3,            false, kMlperf11},
    {"resnet50",  8, "T4",          1,   0, 0.819e-3,            false, kMlperf11},
    {"bert-base", 8, "A100-40",     1, 128, 1.59e-3,             false, kFaster},
    {"bert-base", 8, "A100-40",     8, 128, 1.79e-3,             false, kFaster},
    {"bert-base", 8, "A100-40",    32, 128, 3.88e-3,             false, kFaster},
    {"bert-base", 8, "T4",          8, 128, 5.45e-3,             false, kFaster},
    {"bert-base", 8, "T4",         32, 128, 18.9e-3,             false, kFaster},
};
// clang-format on

}  // namespace

std::span<const GpuModel> gpu_models() { return kGpus; }

const GpuModel* find_gpu(std::string_view name) {
  for (const GpuModel& g : kGpus)
    if (name == g.name) return &g;
  return nullptr;
}

std::span<const Published> published() { return kPublished; }

}  // namespace mpq::test
