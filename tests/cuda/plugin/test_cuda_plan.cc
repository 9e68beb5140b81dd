// Plans for a GPU, without one: what is refused, what waits for what, which kernels are chosen.
#include <algorithm>
#include <set>
#include <string>

#include "kernels/cuda/choose.h"
#include "runtime/cuda/plan.h"
#include "tests/runtime/support.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using runtime::CudaLaunch;
using runtime::CudaPlan;
using runtime::make_cuda_plan;

CudaPlan plan_of(const format::Model& model, const runtime::CudaPlanOptions& options) {
  auto plan = make_cuda_plan(model, options);
  if (!plan.ok()) FAIL(plan.error().message);
  return *std::move(plan);
}

void refuses(const format::Model& model, Status code, const std::string& text) {
  const auto plan = make_cuda_plan(model, {.batch = 1, .tokens = 4});
  REQUIRE(!plan.ok());
  CHECK(plan.error().code == code);
  CHECK_EQ(plan.error().message, text);
}

TEST_CASE("cuda plan: a layer without a kernel is named") {
  ModelMaker everything(1);
  make_everything(&everything);
  refuses(everything.model, Status::kUnsupported, "layer grouped (conv2d): 4 groups on CUDA");
  refuses(tiny_text_net().model, Status::kUnsupported,
          "layer attention (attention): heads of 4 channels, not 32 or 64, on CUDA");
  ModelMaker wide(1);
  const auto x = wide.input("x", DType::kU8, {1, 70000}, {0.1F, 0});
  wide.model.outputs = {
      wide.linear("long", x, {.out = 1, .weights = DType::kS8, .y = DType::kF32})};
  refuses(wide.model, Status::kUnsupported, "layer long (linear): sums of 70000 products on CUDA");
}

TEST_CASE("cuda plan: tensors that the kernels cannot count the bytes of are named") {
  ModelMaker maker(1);
  const auto x = maker.input("x", DType::kU8, {1, 128, 4096, 4096}, {0.1F, 0});
  maker.model.outputs = {maker.conv("c", x, 1, 1, {}, {.out = 4, .y = DType::kU8})};
  refuses(maker.model, Status::kLimit, "tensor x: 2147483648 bytes, on CUDA at most 2147483647");
}

struct Range {
  size_t begin, end;
};

// Two launches that touch the same bytes, one of them writing, are ordered; others need not be.
// Everything here is computed anew.
void check_order(const CudaPlan& plan, size_t* free_pairs) {
  const std::vector<CudaLaunch>& launches = plan.launches;
  std::vector<std::set<uint32_t>> before(launches.size());
  for (uint32_t i = 0; i < launches.size(); ++i)
    for (const uint32_t j : launches[i].after) {
      REQUIRE(j < i);
      before[i].insert(j);
      before[i].insert(before[j].begin(), before[j].end());
    }
  const auto range = [&](uint32_t buffer) {
    return Range{plan.arena.offsets[buffer],
                 plan.arena.offsets[buffer] + plan.lifetimes[buffer].bytes};
  };
  for (uint32_t i = 0; i < launches.size(); ++i)
    for (uint32_t j = 0; j < i; ++j) {
      bool conflict = false;
      for (const auto& a : launches[i].accesses)
        for (const auto& b : launches[j].accesses) {
          const Range x = range(a.buffer), y = range(b.buffer);
          const bool apart = x.end <= y.begin || y.end <= x.begin;
          conflict = conflict || (!apart && (a.writes || b.writes));
        }
      if (conflict) CHECK_MESSAGE(before[i].contains(j), i, " does not wait for ", j);
      *free_pairs += before[i].contains(j) ? 0 : 1;
    }
}

TEST_CASE("cuda plan: launches wait for what they need, with and without shared memory") {
  ModelMaker images(1);
  make_everything_in_groups(&images, 1);
  TinyModel text = sized_text_net(64, 100);
  size_t free_pairs = 0;
  for (const format::Model* model : {&images.model, &text.model})
    for (const bool keep : {false, true})
      for (const uint32_t batch : {1U, 3U})
        check_order(
            plan_of(*model, {.batch = batch, .tokens = 8, .keep_tensors = keep, .processors = 40}),
            &free_pairs);
  CHECK(free_pairs > 0);  // branches may run at the same time
}

TEST_CASE("cuda plan: every pointer of the parameters gets an address of its buffer") {
  ModelMaker images(1);
  make_everything_in_groups(&images, 1);
  CudaPlan plan = plan_of(images.model, {});
  constexpr uint64_t kArena = uint64_t{1} << 40, kConstants = uint64_t{1} << 41;
  plan.bind(kArena, kConstants);
  for (const runtime::CudaPatch& patch : plan.patches) {
    uint64_t address = 0;
    std::memcpy(&address, patch.field, sizeof address);
    CHECK(address % 16 == 0);
    if (patch.constant)
      CHECK((address >= kConstants && address < kConstants + plan.constant_bytes));
    else
      CHECK_EQ(address, kArena + plan.arena.offsets[patch.at]);
  }
}

TEST_CASE("cuda plan: kernel and parts of k of a convolution are those of choose_conv") {
  ModelMaker maker(1);
  const auto x = maker.input("x", DType::kU4, {1, 512, 7, 7}, {0.1F, 0});
  maker.model.outputs = {maker.conv("c", x, 3, 3,
                                    {.pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1},
                                    {.out = 512, .weights = DType::kS4, .y = DType::kU4})};
  std::set<std::pair<std::string, uint32_t>> choices;
  for (const cuda::Gpu& gpu : {cuda::Gpu{75, 40}, cuda::Gpu{80, 108}, cuda::Gpu{80, 7}})
    for (const uint32_t batch : {1U, 4U, 64U}) {
      CudaPlan plan =
          plan_of(maker.model, {.batch = batch, .arch = gpu.arch, .processors = gpu.processors});
      const CudaLaunch& launch = plan.launches.back();
      const auto* p = static_cast<const cuda::ConvParams*>(launch.params.get());
      cuda::ConvParams same;
      same.n = batch;
      same.oh = same.ow = 7;
      same.o = 512;
      same.k_steps = 3 * 3 * 512 / 64;
      const cuda::ConvChoice choice = cuda::choose_conv(gpu, 4, 4, same);
      CHECK_EQ(std::string(launch.kernel), choice.kernel->name);
      CHECK_EQ(p->splits, choice.splits);
      choices.emplace(launch.kernel, p->splits);
    }
  CHECK(choices.size() >= 4);
}

}  // namespace
}  // namespace mpq::test
