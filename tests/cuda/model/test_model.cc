// The model of speed against what can be said in closed form, and against planted changes of the
// GPU whose effect is known.
#include <doctest/doctest.h>

#include <cstdlib>
#include <initializer_list>

#include "tests/cuda/model/run.h"

namespace mpq::test {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  REQUIRE_MESSAGE(value != nullptr, name);
  return value;
}

const Budgets& budgets() {
  static const Budgets read = [] {
    auto b = read_budgets(variable("MPQ_BUDGET"));
    REQUIRE_MESSAGE(b.ok(), (b.ok() ? "" : b.error().message));
    return *b;
  }();
  return read;
}

// One convolution of u4 x s4, o channels of c, on h x h pixels; codes of 4 bits.
format::Model one_conv(int64_t c, int64_t o, int64_t h, int64_t r) {
  static const std::vector<std::byte> bytes(1);
  format::Model m;
  const auto tensor = [&](const char* name, DType type, Shape shape, bool constant) {
    m.tensors.push_back({name, type, std::move(shape), {}, {}});
    if (constant) m.tensors.back().data = bytes;
    return static_cast<format::TensorId>(m.tensors.size() - 1);
  };
  const auto x = tensor("x", DType::kU4, {1, c, h, h}, false);
  const auto w = tensor("w", DType::kS4, {o, c, r, r}, true);
  const auto multiplier = tensor("multiplier", DType::kF32, {o}, true);
  const auto bias = tensor("bias", DType::kF32, {o}, true);
  const auto acc_bias = tensor("acc_bias", DType::kS32, {o}, true);
  const auto y = tensor("y", DType::kU4, {1, o, h, h}, false);
  format::Conv2dAttrs a;
  a.pad_top = a.pad_left = a.pad_bottom = a.pad_right = static_cast<uint32_t>(r / 2);
  m.nodes.push_back({"conv", a, {x, w, multiplier, bias, acc_bias}, {y}});
  m.inputs = {x};
  m.outputs = {y};
  return m;
}

cuda::ConvChoice kernel_of(const char* name) {
  for (const cuda::ConvKernel& k : cuda::kConvKernels)
    if (std::string_view(name) == k.name) return {&k, 1};
  FAIL(name);
  return {};
}

BlockCost counted(Counter& counter, const Step& step, uint32_t code) {
  const auto cost = counter.count(step, code, budgets().at({step.kernel, code}).instructions);
  REQUIRE_MESSAGE(cost.ok(), (cost.ok() ? "" : cost.error().message));
  return *cost;
}

TEST_CASE("a block of a matrix product costs what its tile says") {
  Counter counter(variable("MPQ_PTX"));
  constexpr uint32_t kDepth = 512, kTile = 128;
  const format::Model m = one_conv(kDepth, 256, 32, 1);
  const cuda::ConvChoice choice = kernel_of("conv_u4s4_128x128");
  for (const uint32_t code : {75U, 80U, 90U}) {
    const Step step = steps_of(m, m.nodes[0], {1, 0}, {code, 108}, &choice, true)[0];
    const BlockCost cost = counted(counter, step, code);
    const double narrow = kTile / 16.0 * kTile / 8 * kDepth / 64;
    CHECK(cost.products_4bit == (code < 90 ? narrow : 0));
    CHECK(cost.products_8bit == (code < 90 ? 0 : 2 * narrow));
    // Codes of both sides in; three arrays of 4 bytes a channel, once a warp, each sector by two
    // loads; codes of 4 bits out, of a row 16 bytes a warp, half a sector.
    const double operands = 2.0 * kTile * kDepth / 2, arrays = 2 * 3.0 * 8 * 32 * 4,
                 out = 2 * kTile * kTile / 2.0;
    CHECK(cost.global_bytes == operands + arrays + out);
    // Each stage is written once, and read by the two warps of a column and the four of a row.
    const double stages = operands / 128, reads = 128.0 * kDepth / 2 * (4 + 2) / 128;
    CHECK(cost.shared_passes == stages + reads);
    CHECK(cost.barriers == kDepth / 128.0);
    CHECK(cost.instructions.issued > 8 * kDepth / 128.0 * 32);  // more than its products
  }
}

TEST_CASE("parts of k share the products of a tile") {
  Counter counter(variable("MPQ_PTX"));
  const format::Model m = one_conv(512, 64, 8, 1);
  cuda::ConvChoice choice = kernel_of("conv_u4s4_32x64");
  const auto count = [&](uint32_t splits) {
    choice.splits = splits;
    return counted(counter, steps_of(m, m.nodes[0], {1, 0}, {80, 108}, &choice, true)[0], 80);
  };
  const BlockCost whole = count(1), part = count(4);
  CHECK(part.products_4bit * 4 == whole.products_4bit);
  CHECK(part.global_bytes * 4 > whole.global_bytes + 4 * 32 * 64 * 4);  // sums go to memory
}

// A launch of many equal blocks that only one thing limits.
struct Launched {
  Step step;
  BlockCost cost;
  Budget budget{64, 1000};
  GpuModel gpu = *find_gpu("A100-80");
  Assumptions assumptions;
  double dram_bytes = 0;

  explicit Launched(uint32_t blocks) {
    step.grid = {blocks, 1, 1};
    step.threads = 128;
    assumptions.memory_latency = assumptions.barrier_latency = assumptions.issue_interval = 0;
  }
  // Without the time between launches.
  double work() const {
    return time_of(gpu, assumptions, step, cost, budget, dram_bytes).seconds -
           assumptions.between_launches;
  }
  const char* bound() const {
    return time_of(gpu, assumptions, step, cost, budget, dram_bytes).bound;
  }
};

TEST_CASE("half the bandwidth doubles the time of a launch that memory limits, and of no other") {
  Launched l(100000);
  l.dram_bytes = 1e9;
  l.cost.products_4bit = 10;
  CHECK(std::string_view(l.bound()) == "memory");
  CHECK(l.work() == doctest::Approx(1e9 / (2039e9 * l.assumptions.dram_efficiency)));
  const double before = l.work();
  l.gpu.dram_gb_s /= 2;
  CHECK(l.work() == doctest::Approx(2 * before));

  Launched products(100000);
  products.dram_bytes = 1e6;
  products.cost.products_4bit = 1000;
  CHECK(std::string_view(products.bound()) == "products");
  const double as_before = products.work();
  products.gpu.dram_gb_s /= 2;
  CHECK(products.work() == as_before);
  products.gpu.macs_8bit /= 2;
  CHECK(products.work() == doctest::Approx(2 * as_before));
}

TEST_CASE("every unit limits the launch that needs it most") {
  const auto check = [](const char* name, auto change, double clocks) {
    Launched l(108 * 1000);
    change(&l.cost);
    INFO(name);
    CHECK(std::string_view(l.bound()) == name);
    CHECK(l.work() == doctest::Approx(1000 * clocks / l.assumptions.unit_efficiency / 1.41e9));
  };
  check(
      "products", [](BlockCost* c) { c->products_8bit = 1000; }, 1000 * 2.0);
  check(
      "products", [](BlockCost* c) { c->products_4bit = 1000; }, 1000 * 2.0);
  check(
      "integers", [](BlockCost* c) { c->instructions.integer = 1000; }, 500);
  check(
      "floats", [](BlockCost* c) { c->instructions.floating = 1000; }, 500);
  check(
      "conversions", [](BlockCost* c) { c->instructions.conversions = 1000; }, 2000);
  check(
      "issue", [](BlockCost* c) { c->instructions.issued = 1000; }, 250);
  check(
      "shared memory", [](BlockCost* c) { c->shared_passes = 1000; }, 1000);
}

TEST_CASE("blocks come in waves, and residents in rounds") {
  Launched l(108);
  l.cost.products_4bit = 1000;
  const double one = l.work();
  l.step.grid.x = 109;
  CHECK(l.work() == doctest::Approx(2 * one));
  l.step.grid.x = 216;
  CHECK(l.work() == doctest::Approx(2 * one));
  // Latency is hidden behind other blocks, as far as there is room for them.
  Launched waits(108);
  waits.assumptions.barrier_latency = 100;
  waits.cost.barriers = 100;
  const double alone = waits.work();
  CHECK(alone == doctest::Approx(100 * 100 / 1.41e9));
  const uint32_t room = resident_blocks(waits.gpu, waits.step, waits.budget);
  waits.step.grid.x = 108 * room;
  CHECK(waits.work() == doctest::Approx(alone));
  waits.step.grid.x = 108 * room + 1;
  CHECK(waits.work() == doctest::Approx(2 * alone));
}

TEST_CASE("registers, shared memory and threads limit the blocks of a multiprocessor") {
  const GpuModel& a100 = *find_gpu("A100-80");
  Step step;
  step.threads = 128;
  CHECK(resident_blocks(a100, step, {32, 0}) == 16);  // threads
  CHECK(resident_blocks(a100, step, {128, 0}) == 4);  // 65536 / (128 x 128)
  CHECK(resident_blocks(a100, step, {121, 0}) == 4);  // handed out by the 256
  CHECK(resident_blocks(a100, step, {120, 0}) == 4);
  CHECK(resident_blocks(a100, step, {96, 0}) == 5);
  step.shared_bytes = 40 * 1024;
  CHECK(resident_blocks(a100, step, {32, 0}) == 4);  // 164 KB, 41 each
  step.threads = 32;
  step.shared_bytes = 0;
  CHECK(resident_blocks(a100, step, {16, 0}) == 32);
  CHECK(resident_blocks(*find_gpu("T4"), step, {16, 0}) == 16);
}

TEST_CASE("the caches keep what was touched last, whole") {
  Caches caches(100);
  CHECK(caches.touch({1, 60}) == 60);
  CHECK(caches.touch({1, 60}) == 0);
  CHECK(caches.touch({2, 30}) == 30);
  CHECK(caches.touch({1, 60}) == 0);
  CHECK(caches.touch({3, 30}) == 30);  // drives out 2
  CHECK(caches.touch({1, 60}) == 0);
  CHECK(caches.touch({2, 30}) == 30);
  CHECK(caches.touch({4, 101}) == 101);
  CHECK(caches.touch({4, 101}) == 101);
}

TEST_CASE("a network of one layer: its bytes, its launch, and 8 bits in place of 4") {
  const format::Model m = one_conv(256, 256, 56, 3);
  SpeedModel speed(variable("MPQ_PTX"), budgets(), {});
  const Load load = {64, 0};
  const auto run = [&](const format::Model& model, const GpuModel& gpu) {
    const auto r = speed.run(model, gpu, load);
    REQUIRE_MESSAGE(r.ok(), (r.ok() ? "" : r.error().message));
    return *r;
  };
  const GpuModel& a100 = *find_gpu("A100-80");
  const ModelledRun narrow = run(m, a100), wide = run(widened(m), a100);
  REQUIRE(narrow.steps.size() == 1);
  CHECK(narrow.steps[0].step.macs == 64ULL * 56 * 56 * 256 * 256 * 9);
  // Input and output are too large for the cache, weights are read every time, too.
  const double codes = 2.0 * 64 * 56 * 56 * 256 / 2, weights = 256 * 256 * 9 / 2.0;
  CHECK(narrow.dram_bytes == codes + weights);
  CHECK(wide.dram_bytes == 2 * (codes + weights));
  CHECK(wide.seconds > 1.3 * narrow.seconds);
  CHECK(wide.seconds < 2.5 * narrow.seconds);
  // No faster than the GPU's products allow.
  CHECK(narrow.seconds > static_cast<double>(narrow.steps[0].step.macs) / (4096 * 108 * 1.41e9));
  // Twice the multiprocessors and twice the rest: about half the time.
  GpuModel twice = a100;
  twice.processors *= 2;
  twice.dram_gb_s *= 2;
  twice.l2_bytes_a_clock *= 2;
  const double faster = narrow.seconds / run(m, twice).seconds;
  CHECK(faster > 1.8);
  CHECK(faster < 2.1);
}

TEST_CASE("opcodes that no unit is known for are refused") {
  CHECK(units_of("fma.rn.f32") != nullptr);
  CHECK(units_of("add.s64")->integer == 2);
  CHECK(units_of("div.rn.f64") == nullptr);
  CHECK(units_of("wgmma.mma_async.sync") == nullptr);
  CHECK(find_gpu("T4")->code() == 75);
  CHECK(find_gpu("no such GPU") == nullptr);
}

}  // namespace
}  // namespace mpq::test
