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

// planted.cc.
std::span<const EmulatedKernel> planted_no_swizzle();
std::span<const EmulatedKernel> planted_no_shift();
std::span<const EmulatedKernel> planted_truncated();
std::span<const EmulatedKernel> planted_not_fused();
std::span<const EmulatedKernel> planted_swapped_keys();

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
        const std::string where = std::string(problem.launch.name) + ": " + name_of(call) + " at " +
                                  file + ":" + std::to_string(line) + ": " + name_of(mutation);
        INFO("sm_" << arch.arch << " " << where << ": " << wrong);
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

// A convolution with padding, ragged ends, two parts of k and every form of output.
void make_rich_problem(const char* name, uint8_t zero_point, Rng& rng, CudaProblem* problem) {
  CudaConvCase c;
  c.h = 6;
  c.w = 9;
  c.c = 150;
  c.o = 70;
  c.r = c.s = 3;
  c.pad_top = c.pad_left = c.pad_bottom = c.pad_right = 1;
  c.zero_point = zero_point;
  c.splits = 2;
  c.residual = CudaResidual::kInteger;
  c.second_bits = 4;
  make_conv_problem(kernel_named(name), c, rng, problem);
}

TEST_CASE("faults planted in the convolutions are caught") {
  Rng rng(test_seed());
  for (const char* name : {"conv_u4s4_64x64", "conv_u2s2_64x64", "conv_u8s8_32x64"}) {
    CudaProblem problem;
    make_rich_problem(name, 0, rng, &problem);
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

std::string bank_conflicts(CudaProblem& problem, const Architecture& arch) {
  Counters counters;
  std::string wrong = run_problem(problem, arch, {}, &counters);
  if (wrong.empty() && counters.ldmatrix_conflicts > 0)
    wrong = std::to_string(counters.ldmatrix_conflicts) + " bank conflicts";
  return wrong;
}

TEST_CASE("definitions replaced in the kernels' source are caught") {
  Rng rng(test_seed());
  struct Replaced {
    const char* name;
    std::span<const EmulatedKernel> (*kernels)();
    bool in_conv, in_attention;  // where it matters
  };
  const Replaced replaced[] = {
      {"rows without swizzle", planted_no_swizzle, true, true},
      {"sums not shifted back", planted_no_shift, true, false},
      {"truncated instead of rounded", planted_truncated, true, true},
      {"not fused", planted_not_fused, true, false},
      {"keys of V swapped", planted_swapped_keys, false, true},
  };
  for (const Replaced& r : replaced) {
    CudaProblem conv, attention;
    CudaConvCase c;
    c.w = 200;
    c.c = 100;
    c.o = 64;
    c.near_ties = true;
    make_conv_problem(kernel_named("conv_u4s2_64x64"), c, rng, &conv);
    make_attention_problem({.lengths = {70, 30}, .heads = 2}, rng, &attention);
    const Architecture planted = {80, r.kernels};
    INFO(std::string(r.name));
    CHECK(bank_conflicts(conv, kArchitectures[1]) == "");
    CHECK(bank_conflicts(attention, kArchitectures[1]) == "");
    if (r.in_conv) CHECK(bank_conflicts(conv, planted) != "");
    if (r.in_attention) CHECK(bank_conflicts(attention, planted) != "");
  }
}

TEST_CASE("launches that do not fit their kernel are caught") {
  struct Spoilt {
    const char* name;
    void (*spoil)(cuda::ConvParams*, CudaProblem*);
  };
  const Spoilt spoilt[] = {
      {"a stage of shared memory too few",
       [](cuda::ConvParams*, CudaProblem* p) {
         p->shared_bytes -= 16;
         p->shared_bytes_sm75 -= 16;
       }},
      {"a block too few", [](cuda::ConvParams*, CudaProblem* p) { --p->launch.grid_y; }},
      {"a warp too few", [](cuda::ConvParams*, CudaProblem* p) { p->launch.threads -= 32; }},
      {"more parts of k than blocks", [](cuda::ConvParams* c, CudaProblem*) { ++c->splits; }},
      {"fewer parts of k than blocks", [](cuda::ConvParams* c, CudaProblem*) { --c->splits; }},
      {"a step of k too few", [](cuda::ConvParams* c, CudaProblem*) { --c->k_steps; }},
      {"zeros for padding with a zero point",
       [](cuda::ConvParams* c, CudaProblem*) { c->padding_bytes = 0; }},
      {"a column of padding too few", [](cuda::ConvParams* c, CudaProblem*) { --c->pad_left; }},
      {"a row of the image too many", [](cuda::ConvParams* c, CudaProblem*) { ++c->h; }},
      {"channels beyond the last", [](cuda::ConvParams* c, CudaProblem*) { c->o += 32; }},
      {"no bias of sums",
       [](cuda::ConvParams* c, CudaProblem*) { c->epilogue.acc_bias = nullptr; }},
      {"a residual of another width",
       [](cuda::ConvParams* c, CudaProblem*) { c->epilogue.residual.bits = 4; }},
      {"a residual as a real number",
       [](cuda::ConvParams* c, CudaProblem*) { c->epilogue.residual_shift = -1; }},
      {"a second output by the first's limits",
       [](cuda::ConvParams* c, CudaProblem*) { c->epilogue.second_hi = 14; }},
  };
  for (const Spoilt& s : spoilt) {
    Rng rng(test_seed());
    CudaProblem problem;
    make_rich_problem("conv_u4s4_64x64", 3, rng, &problem);
    for (const Architecture& arch : kArchitectures) REQUIRE(run_problem(problem, arch, {}) == "");
    cuda::ConvParams params;
    std::memcpy(&params, problem.params.data(), sizeof params);
    s.spoil(&params, &problem);
    problem.set_params(params);
    INFO(std::string(s.name));
    for (const Architecture& arch : kArchitectures) CHECK(run_problem(problem, arch, {}) != "");
  }
}

}  // namespace
}  // namespace mpq::test
