#include <cstring>
#include <map>

#include "kernels/isa_config.h"
#include "tests/runtime/support.h"

namespace mpq::test {
namespace {

using runtime::make_plan;
using runtime::Plan;

Plan plan_of(const format::Model& model, const runtime::PlanOptions& options) {
  auto plan = make_plan(model, options);
  if (!plan.ok()) FAIL(plan.error().message);
  return *std::move(plan);
}

std::map<std::string, std::string> kernels_by_node(const Plan& plan) {
  std::map<std::string, std::string> names;
  for (const runtime::Step& step : plan.steps) names[step.name] = step.kernel;
  return names;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

TEST_CASE("plan: each instruction set gets its own kernels, also on a machine that lacks it") {
  ModelMaker maker(1);
  make_everything(&maker);
  const auto scalar = kernels_by_node(plan_of(maker.model, {}));
  for (const auto& entry : scalar)
    CHECK_MESSAGE(ends_with(entry.second, "_ref"), entry.first << ": " << entry.second);
#if MPQ_HAVE_AVX512VNNI
  const auto vnni =
      kernels_by_node(plan_of(maker.model, {.isa = kernels::kIsaAvx2 | kernels::kIsaAvx512Vnni}));
  for (const char* node : {"image", "stem", "pool", "body", "wide", "mix", "sum", "last", "logits"})
    CHECK_MESSAGE(ends_with(vnni.at(node), "_avx512vnni"), node << ": " << vnni.at(node));
#else
  std::printf("SKIPPED: plan for avx512vnni: not built\n");
#endif
}

TEST_CASE("plan: a step says which instruction set its kernel needs") {
  ModelMaker maker(1);
  make_everything(&maker);
  const Plan plan = plan_of(maker.model, {.isa = kernels::kIsaAvx2});
  for (const runtime::Step& step : plan.steps)
    CHECK_MESSAGE((step.kernel_isa & ~kernels::kIsaAvx2) == 0, step.kernel);
}

TEST_CASE("plan: steps carry bits, products and bytes of their nodes") {
  ModelMaker maker(1);
  make_everything(&maker);
  const Plan plan = plan_of(maker.model, {.batch = 2});
  const auto stem = std::find_if(plan.steps.begin(), plan.steps.end(),
                                 [](const runtime::Step& s) { return s.name == "stem"; });
  REQUIRE(stem != plan.steps.end());
  CHECK(stem->input_bits == 8);
  CHECK(stem->weight_bits == 8);
  CHECK(stem->output_bits == 4);
  CHECK(stem->macs == 2ULL * (9 * 8) * 20 * (3 * 5 * 5));  // batch, pixels, channels, k
  CHECK(stem->activation_bytes == 2ULL * (17 * 15 * 3 + 9 * 8 * 20));
}

TEST_CASE("plan: a layer that is not worth two threads on fast kernels may be on slow ones") {
#if MPQ_HAVE_AMX
  ModelMaker maker(2);
  const auto x = maker.input("x", DType::kU8, {1, 64, 5, 8});
  const auto y =
      maker.conv("layer", x, 1, 1, {}, {.out = 256, .weights = DType::kS8, .y = DType::kU8});
  maker.model.outputs = {y};
  const auto parts = [&](kernels::IsaMask isa) {
    for (const runtime::Step& step : plan_of(maker.model, {.threads = 2, .isa = isa}).steps)
      if (step.macs > 0) return step.parts.size();
    return size_t{0};
  };
  constexpr kernels::IsaMask kVnni = kernels::kIsaAvx2 | kernels::kIsaAvx512Vnni;
  CHECK(parts(kVnni) == 2);
  CHECK(parts(kVnni | kernels::kIsaAmx) == 1);
#else
  std::printf("SKIPPED: plan for amx: not built\n");
#endif
}

TEST_CASE("plan: two plans of one model are equal in everything but addresses") {
  ModelMaker maker(1);
  make_everything(&maker);
  const Plan a = plan_of(maker.model, {.batch = 3, .threads = 2});
  const Plan b = plan_of(maker.model, {.batch = 3, .threads = 2});
  CHECK(a.arena.offsets == b.arena.offsets);
  CHECK(a.arena.bytes == b.arena.bytes);
  CHECK(kernels_by_node(a) == kernels_by_node(b));
}

TEST_CASE("plan: memory is reused between layers unless tensors are kept") {
  ModelMaker maker(1);
  make_everything(&maker);
  const Plan shared = plan_of(maker.model, {});
  const Plan kept = plan_of(maker.model, {.keep_tensors = true});
  CHECK(shared.arena.bytes < kept.arena.bytes);
}

TEST_CASE("plan: a batch too large for any machine is a limit, not an overflow") {
  ModelMaker maker(1);
  const auto x = maker.input("x", DType::kU8, {1, 1 << 20, 1 << 10, 1 << 10}, {0.1F, 0});
  maker.model.outputs = {maker.node("pool", format::MaxPoolAttrs{}, {x}, DType::kU8,
                                    {1, 1 << 20, 1 << 10, 1 << 10}, {0.1F, 0})};
  const auto plan = make_plan(maker.model, {.batch = 65536});
  REQUIRE_FALSE(plan.ok());
  CHECK(plan.error().code == Status::kLimit);
  CHECK(plan.error().message.find("tensor x") != std::string::npos);
}

TEST_CASE("plan: huge but consistent models fail before memory is taken") {
  // 2^30 elements fit the plan's own limit; the session's memory limit then refuses them.
  ModelMaker maker(1);
  const auto x = maker.input("x", DType::kU8, {1, 1 << 10, 1 << 10, 1 << 10}, {0.1F, 0});
  maker.model.outputs = {maker.node("pool", format::MaxPoolAttrs{}, {x}, DType::kU8,
                                    {1, 1 << 10, 1 << 10, 1 << 10}, {0.1F, 0})};
  const format::AlignedBytes file = file_of(maker.model);
  const auto session = runtime::Session::create(open_model(file), {});
  REQUIRE_FALSE(session.ok());
  CHECK(session.error().code == Status::kLimit);
}

TEST_CASE("planes: images of one pixel are pixels of one row") {
  const auto layout = runtime::planes_layout({.n = 5, .c = 70, .h = 1, .w = 1}, {});
  CHECK(layout.planes.cb == 64);
  CHECK(layout.planes.image == 64);
  CHECK(layout.planes.plane == 5 * 64);
  CHECK(layout.bytes == 2 * 5 * 64);
}

TEST_CASE("planes: the halo lies around every plane of every image") {
  const auto layout = runtime::planes_layout({.n = 2, .c = 20, .h = 4, .w = 3}, {1, 2, 3, 4});
  CHECK(layout.planes.cb == 32);
  CHECK(layout.planes.row == (2 + 3 + 4) * 32);
  CHECK(layout.planes.plane == (1 + 4 + 3) * layout.planes.row);
  CHECK(layout.planes.image == layout.planes.plane);
  CHECK(layout.origin == size_t(layout.planes.row) + 2 * 32);
  CHECK(layout.bytes == 2 * size_t(layout.planes.image));
}

}  // namespace mpq::test
