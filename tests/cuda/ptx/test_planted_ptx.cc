// Faults planted in what nvcc emitted: operand order, types, wait counts, barriers, rounding. An
// assembler accepts them and the emulator of tests/cuda never sees them; the PTX machine has to.
#include <doctest/doctest.h>

#include <regex>

#include "tests/cuda/conv_problem.h"
#include "tests/cuda/ptx/problem_ptx.h"

namespace mpq::test {
namespace {

struct Fault {
  const char* what;
  uint32_t arch;
  const char* kernel;
  const char *from, *to;  // a regular expression and what replaces all its matches
};

constexpr Fault kFaults[] = {
    {"registers of B swapped", 80, "conv_u4s4_64x64", "(mma[^;]*\\}, )\\{(%r\\d+),(%r\\d+)\\}(, )",
     "$1{$3,$2}$4"},
    {"registers 1 and 2 of A swapped", 80, "conv_u4s4_64x64",
     "(mma[^;]*\\}, )\\{(%r\\d+),(%r\\d+),(%r\\d+),(%r\\d+)\\}(, \\{%r\\d+,%r\\d+\\})",
     "$1{$2,$4,$3,$5}$6"},
    {"sums 1 and 2 swapped on the way in", 80, "conv_u4s4_64x64",
     "(mma[^;]*, )\\{(%r\\d+),(%r\\d+),(%r\\d+),(%r\\d+)\\};", "$1{$2,$4,$3,$5};"},
    {"weights without a sign", 80, "conv_u4s4_64x64", "u4\\.s4", "u4.u4"},
    {"codes with a sign", 80, "conv_u4s4_64x64", "u4\\.s4", "s4.s4"},
    {"source size of the copy dropped", 80, "conv_u4s4_64x64",
     "(cp\\.async\\.cg[^;]*, 16), %r\\d+;", "$1;"},
    {"waits for one group fewer", 80, "conv_u4s4_64x64", "wait_group 2", "wait_group 3"},
    {"no wait", 80, "conv_u4s4_64x64", "cp\\.async\\.wait_group \\d;", ""},
    {"no groups", 80, "conv_u4s4_64x64", "cp\\.async\\.commit_group;", ""},
    {"no barriers", 80, "conv_u4s4_64x64", "bar\\.sync 0;", ""},
    {"ldmatrix transposed", 80, "conv_u4s4_64x64", "x4\\.shared", "x4.trans.shared"},
    {"registers of ldmatrix swapped", 80, "conv_u4s4_64x64", "(ldmatrix[^;]*)\\{(%r\\d+),(%r\\d+),",
     "$1{$3,$2,"},
    {"two matrices of ldmatrix for four", 80, "conv_u2s2_64x64",
     "(ldmatrix[^;]*)\\{(%r\\d+),(%r\\d+)\\}", "$1{$3,$2}"},
    {"codes rounded towards zero", 80, "conv_u4s4_64x64", "add\\.rn", "add.rz"},
    {"fma rounded towards zero", 80, "conv_u4s4_64x64", "fma\\.rn", "fma.rz"},
    {"clamped from the wrong side", 80, "conv_u4s4_64x64", "max\\.f32", "min.f32"},
    {"parts of k: the largest instead of the sum", 80, "conv_u4s4_64x64",
     "red\\.global\\.add\\.s32", "red.global.max.s32"},
    {"a ticket counts twice", 80, "conv_u4s4_64x64", "(atom\\.global\\.add\\.u32 [^;]*), 1;",
     "$1, 2;"},
    {"factor of the weights shifted out without a sign", 80, "conv_u4s2_64x64",
     "shr\\.s32(\\s+%r\\d+, %r\\d+, 2;)", "shr.u32$1"},
    {"weights without a sign, 8 bits", 90, "conv_u4s4_64x64", "u8\\.s8", "u8.u8"},
    {"registers of B swapped, 8 bits", 90, "conv_u4s4_64x64",
     "(mma[^;]*\\}, )\\{(%r\\d+),(%r\\d+)\\}(, )", "$1{$3,$2}$4"},
    {"even and odd codes mistaken", 90, "conv_u4s4_64x64",
     "(and\\.b32\\s+%r\\d+, %r\\d+, )252645135;", "$1-252645136;"},
    {"weights without a sign, sm_75", 75, "conv_u4s4_64x64", "u4\\.s4", "u4.u4"},
    {"words of a stage swapped, sm_75", 75, "conv_u4s4_64x64",
     "(st\\.shared\\.v4\\.u32 \\[[^\\]]*\\], )\\{(%r\\d+),(%r\\d+),", "$1{$3,$2,"},
    {"no barriers, sm_75", 75, "conv_u4s4_64x64", "bar\\.sync 0;", ""},
    {"accumulators of the second product, sm_75", 75, "conv_u4s4_64x64",
     "(mma[^;]*, )\\{(%r\\d+),(%r\\d+)\\};", "$1{$3,$2};"},
};

const cuda::ConvKernel& conv_kernel(std::string_view name) {
  for (const cuda::ConvKernel& k : cuda::kConvKernels)
    if (name == k.name) return k;
  return cuda::kConvKernels[0];
}

// The first thing wrong in a dozen problems, or nothing.
std::string run_problems(const Fault& fault, const std::string& text) {
  std::unique_ptr<LoadedKernel> loaded;
  std::string wrong = load_kernel(text, fault.kernel, &loaded);
  if (!wrong.empty()) return "refused: " + wrong;
  Rng rng(test_seed() + 7);
  for (uint32_t i = 0; i < 12 && wrong.empty(); ++i) {
    CudaConvCase c{.n = 2, .h = 6, .w = 7, .c = 150, .o = 70, .r = 3, .s = 3};
    c.pad_top = c.pad_left = c.pad_bottom = c.pad_right = 1;
    c.splits = i % 3 == 1 ? 3 : 1;
    c = random_epilogue(c, conv_kernel(fault.kernel), rng);
    c.ties = i % 4 == 3;
    if (i % 4 == 2) c.out = kernels::Elem::f32;  // the last bit of a float shows what a code hides
    c.huge = false;
    if (i % 2 == 0) c.zero_point = 0;
    CudaProblem problem;
    make_conv_problem(conv_kernel(fault.kernel), c, rng, &problem);
    wrong = run_problem(problem, *loaded, fault.arch, {.seed = i, .async = ptx::Async::kAtWait});
  }
  return wrong;
}

TEST_CASE("ptx: every fault planted in nvcc's output is caught, by its bytes or by the machine") {
  for (const Fault& fault : kFaults) {
    INFO("compute_" << fault.arch << " " << fault.kernel << ": " << fault.what);
    const std::string* text = kernel_texts(fault.arch).find(fault.kernel);
    REQUIRE(text != nullptr);
    const std::string planted = std::regex_replace(*text, std::regex(fault.from), fault.to);
    CHECK_MESSAGE(planted != *text, "nothing to plant it in");
    const std::string wrong = run_problems(fault, planted);
    CHECK_MESSAGE(wrong != "", "not caught");
    std::printf("  %-50s compute_%u  %.100s\n", fault.what, fault.arch, wrong.c_str());
  }
  CHECK(run_problems(kFaults[0], *kernel_texts(80).find(kFaults[0].kernel)) == "");
}

}  // namespace
}  // namespace mpq::test
