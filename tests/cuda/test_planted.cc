// The proof of the proof: faults planted in the kernels, one at a time, must not go unnoticed.
//
// Every call of a primitive in a kernel, found by running it, is spoilt in every way that
// kMutations has for it: left out, repeated, made with the wrong registers, rows or counts. A fault
// is caught when a launch ends with a message or with other bytes than the reference's, for late or
// early copies in one of four orders of threads and blocks.
#include <doctest/doctest.h>

#include <cstdio>
#include <functional>

#include "tests/cuda/conv_problem.h"
#include "tests/cuda/family_problems.h"

namespace mpq::test {
namespace {

const std::pair<Call, Mutation> kMutations[] = {
    {Call::kBarrier, Mutation::kSkipped},
    {Call::kSharedLoad, Mutation::kNextChunk},
    {Call::kSharedStore, Mutation::kSkipped},
    {Call::kGlobalStore, Mutation::kSkipped},
    {Call::kAdd, Mutation::kSkipped},
    {Call::kAdd, Mutation::kTwice},
    {Call::kTicket, Mutation::kEarlyTicket},
    {Call::kFence, Mutation::kSkipped},
    {Call::kCopy, Mutation::kSkipped},
    {Call::kCopy, Mutation::kNoZeroFill},
    {Call::kCommit, Mutation::kSkipped},
    {Call::kWait, Mutation::kSkipped},
    {Call::kWait, Mutation::kOneMorePending},
    {Call::kLdmatrix4, Mutation::kNeighbourRow},
    {Call::kLdmatrix4, Mutation::kNextChunk},
    {Call::kLdmatrix2, Mutation::kNeighbourRow},
    {Call::kLdmatrix2, Mutation::kNextChunk},
    {Call::kLdmatrix4Transposed, Mutation::kNeighbourRow},
    {Call::kLdmatrix4Transposed, Mutation::kNextChunk},
    {Call::kMmaU4S4, Mutation::kSkipped},
    {Call::kMmaU4S4, Mutation::kSwapA},
    {Call::kMmaU4S4, Mutation::kSwapB},
    {Call::kMmaU4S4, Mutation::kSwapSums},
    {Call::kMmaU8S8, Mutation::kSkipped},
    {Call::kMmaU8S8, Mutation::kSwapA},
    {Call::kMmaU8S8, Mutation::kSwapB},
    {Call::kMmaU8S8, Mutation::kSwapSums},
    {Call::kMmaS8S8, Mutation::kSkipped},
    {Call::kMmaS8S8, Mutation::kSwapA},
    {Call::kMmaS8S8, Mutation::kSwapB},
    {Call::kMmaS8S8, Mutation::kSwapSums},
    {Call::kShuffleXor, Mutation::kSkipped},
    {Call::kShuffleXor, Mutation::kOtherLane},
    {Call::kShuffleDown16, Mutation::kSkipped},
    {Call::kShuffleDown16, Mutation::kOtherLane},
    {Call::kShuffleFrom16, Mutation::kSkipped},
    {Call::kShuffleFrom16, Mutation::kOtherLane},
};

// What the launches say, or nothing when all is as it should be.
std::string verdict(CudaProblem& problem, const Architecture& arch, const Planted& planted) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    LaunchOptions options;
    options.copies = seed % 2 == 0 ? Copies::kEarly : Copies::kLate;
    options.seed = seed;
    options.planted = planted;
    const std::string wrong = run_problem(problem, arch, options);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

struct Tally {
  uint32_t planted = 0, caught = 0;
};

// Plants everything in one problem on every architecture. `harmless`: a fault that changes nothing
// here, with the reason beside it in the test.
Tally plant_everywhere(CudaProblem& problem,
                       const std::function<bool(Call, Mutation, uint32_t arch)>& harmless = {}) {
  Tally tally;
  for (const Architecture& arch : kArchitectures) {
    std::set<std::tuple<Call, std::string, int>> sites;
    LaunchOptions census;
    census.sites = &sites;
    REQUIRE(run_problem(problem, arch, census) == "");
    for (const auto& [call, file, line] : sites)
      for (const auto& [wanted, mutation] : kMutations) {
        if (call != wanted) continue;
        const std::string wrong = verdict(problem, arch, {mutation, file.c_str(), line});
        const bool expected = harmless && harmless(call, mutation, arch.arch);
        ++tally.planted;
        tally.caught += wrong.empty() ? 0 : 1;
        INFO("sm_" << arch.arch << " " << std::string(problem.launch.name) << ": "
                   << std::string(name_of(call)) << " at " << file << ":" << line << ": "
                   << std::string(name_of(mutation)) << ": " << wrong);
        CHECK(wrong.empty() == expected);
      }
  }
  std::printf("%-22s %3u faults planted, %3u caught\n", problem.launch.name, tally.planted,
              tally.caught);
  return tally;
}

const cuda::ConvKernel& kernel_named(std::string_view name) {
  for (const cuda::ConvKernel& k : cuda::kConvKernels)
    if (name == k.name) return k;
  std::abort();
}

TEST_CASE("faults planted in the convolutions are caught") {
  Rng rng(test_seed());
  // Padding, a ragged end in every direction, more stages than buffers, parts of k.
  for (const char* name : {"conv_u4s4_64x64", "conv_u2s2_64x64", "conv_u8s8_32x64"}) {
    CudaConvCase c;
    c.h = 6;
    c.w = 9;
    c.c = 150;
    c.o = 70;
    c.r = c.s = 3;
    c.pad_top = c.pad_left = c.pad_bottom = c.pad_right = 1;
    c.splits = 2;
    c.residual = CudaResidual::kFloat;
    c.second_bits = 4;
    CudaProblem problem;
    make_conv_problem(kernel_named(name), c, rng, &problem);
    plant_everywhere(problem);
  }
}

TEST_CASE("faults planted in attention are caught") {
  Rng rng(test_seed());
  for (const uint32_t head_size : {32U, 64U}) {
    CudaProblem problem;
    AttentionCase c;
    c.head_size = head_size;
    c.heads = 2;
    c.lengths = {150, 20};
    c.relative_bias = true;
    make_attention_problem(c, rng, &problem);
    int shuffles = 0;
    plant_everywhere(problem, [&](Call call, Mutation mutation, uint32_t) {
      // Keys beyond the end have no weight, and queries beyond it are not stored.
      if (mutation == Mutation::kNoZeroFill) return true;
      // The second of two steps of a sum of four lanes: both lanes over there have the same.
      return call == Call::kShuffleXor && mutation == Mutation::kOtherLane && ++shuffles % 3 == 2;
    });
  }
}

TEST_CASE("faults planted in normalisation and pooling of sequences are caught") {
  Rng rng(test_seed());
  {
    CudaProblem problem;
    make_norm_problem({.tokens = 11, .width = 100, .bits = 2}, rng, &problem);
    plant_everywhere(problem);
  }
  {
    CudaProblem problem;
    make_sequence_pool_problem(
        {.lengths = {3, 1, 9}, .width = 300, .mean = true, .normalise = true}, rng, &problem);
    plant_everywhere(problem);
  }
}

}  // namespace
}  // namespace mpq::test
