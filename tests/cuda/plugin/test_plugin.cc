// libmpq_cuda.so from the outside: without a driver, and with one that runs the PTX machine.
//   test_plugin PLUGIN      (LD_LIBRARY_PATH leads to the fake driver, or does not)
#define DOCTEST_CONFIG_IMPLEMENT
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "runtime/cuda/plugin.h"

namespace {

const mpq_cuda_plugin* plugin = nullptr;
std::string expected_reason;  // of open(); empty: it works

std::string text(const char* wrong) { return wrong == nullptr ? "" : wrong; }

TEST_CASE("the plug-in opens a device or says why not") {
  mpq_cuda_device* device = nullptr;
  const std::string wrong = text(plugin->open(0, &device));
  CHECK_MESSAGE(
      (expected_reason.empty() ? wrong.empty() : wrong.find(expected_reason) != std::string::npos),
      wrong);
  CHECK((device != nullptr) == expected_reason.empty());
  plugin->close(device);
  plugin->close(nullptr);
}

// y = a / 2 + b / 4 over codes, as the kernel that adds them takes it.
mpq::cuda::AddParams half_and_quarter(uint64_t a, uint64_t b, uint64_t y, uint32_t pixels,
                                      uint32_t channels) {
  mpq::cuda::AddParams p = {};
  p.a = {reinterpret_cast<void*>(a), channels, 8};
  p.b = {reinterpret_cast<void*>(b), channels, 8};
  p.y = {reinterpret_cast<void*>(y), channels, 8};
  p.pixels = pixels;
  p.c = channels;
  p.a_scale = 0.5F;
  p.b_scale = 0.25F;
  p.hi = 255;
  return p;
}
uint8_t half_and_quarter(uint8_t a, uint8_t b) {
  const float v = 0.5F * a + 0.25F * b;  // exact; half to even
  const auto down = static_cast<uint32_t>(v);
  const float part = v - static_cast<float>(down);
  const uint32_t code = part > 0.5F || (part == 0.5F && down % 2 != 0) ? down + 1 : down;
  return static_cast<uint8_t>(code);
}
mpq_cuda_launch launch_of(const mpq::cuda::AddParams& p, const std::vector<uint32_t>& after = {}) {
  const mpq::cuda::Grid grid = mpq::cuda::grid_of(p);
  return {"add_codes",  {grid.x, grid.y, grid.z},           mpq::cuda::kElementThreads, 0, &p,
          after.data(), static_cast<uint32_t>(after.size())};
}

TEST_CASE("the plug-in runs a kernel: codes of an addition") {
  if (!expected_reason.empty()) return;
  mpq_cuda_device* device = nullptr;
  REQUIRE(text(plugin->open(0, &device)) == "");
  mpq_cuda_info info;
  plugin->info(device, &info);
  CHECK(std::string(info.name) == "PTX machine");
  CHECK(info.arch == 90);
  const uint32_t pixels = 5, channels = 32;
  std::vector<uint8_t> a(pixels * channels), b(a.size()), y(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<uint8_t>(3 * i);
    b[i] = static_cast<uint8_t>(7 * i + 1);
  }
  uint64_t at[3] = {};
  for (uint64_t& address : at) REQUIRE(text(plugin->allocate(device, a.size(), &address)) == "");
  REQUIRE(text(plugin->upload(device, at[0], a.data(), a.size())) == "");
  REQUIRE(text(plugin->upload(device, at[1], b.data(), b.size())) == "");
  const mpq::cuda::AddParams p = half_and_quarter(at[0], at[1], at[2], pixels, channels);
  const mpq_cuda_launch launch = launch_of(p);
  uint64_t ns = 0;
  CHECK(text(plugin->run(device, &launch, 1, &ns)) == "");
  CHECK(ns > 0);
  CHECK(text(plugin->synchronize(device)) == "");
  REQUIRE(text(plugin->download(device, y.data(), at[2], y.size())) == "");
  for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == half_and_quarter(a[i], b[i]));
  mpq_cuda_launch missing = launch;
  missing.kernel = "no_such_kernel";
  CHECK(text(plugin->run(device, &missing, 1, nullptr)) == "no_such_kernel: CUDA_ERROR_NOT_FOUND");
  CHECK(text(plugin->upload(device, at[0] + 1, a.data(), a.size())) ==
        "cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE");
  for (const uint64_t address : at) CHECK(text(plugin->release(device, address)) == "");
  CHECK(text(plugin->release(device, at[0])) == "cuMemFree: CUDA_ERROR_INVALID_VALUE");
  plugin->close(device);
}

TEST_CASE("the plug-in replays a graph, in an order that its edges allow, with other parameters") {
  if (!expected_reason.empty()) return;
  mpq_cuda_device* device = nullptr;
  REQUIRE(text(plugin->open(0, &device)) == "");
  const uint32_t pixels = 3, channels = 16, count = 4;
  std::vector<uint8_t> x(pixels * channels), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(5 * i);
  uint64_t at[count + 1] = {};
  for (uint64_t& address : at) REQUIRE(text(plugin->allocate(device, x.size(), &address)) == "");
  REQUIRE(text(plugin->download(device, y.data(), at[count], y.size())) == "");
  CHECK(y == std::vector<uint8_t>(x.size()));  // memory is 0 at first
  REQUIRE(text(plugin->upload(device, at[0], x.data(), x.size())) == "");
  // A chain: at[i + 1] = at[i] / 2 + at[0] / 4. The tests' driver runs the newest first, if it may.
  std::vector<mpq::cuda::AddParams> params;
  std::vector<std::vector<uint32_t>> after;
  std::vector<mpq_cuda_launch> launches;
  for (uint32_t i = 0; i < count; ++i) {
    params.push_back(half_and_quarter(at[i], at[0], at[i + 1], pixels, channels));
    after.push_back(i == 0 ? std::vector<uint32_t>() : std::vector<uint32_t>{i - 1});
  }
  for (uint32_t i = 0; i < count; ++i) launches.push_back(launch_of(params[i], after[i]));
  const auto expected = [&](size_t i, uint8_t hi) {
    uint8_t v = x[i];
    for (uint32_t n = 0; n < count; ++n) v = std::min(half_and_quarter(v, x[i]), hi);
    return v;
  };
  mpq_cuda_graph* graph = nullptr;
  REQUIRE(text(plugin->graph_create(device, launches.data(), count, &graph)) == "");
  for (int replay = 0; replay < 2; ++replay) {
    CHECK(text(plugin->graph_run(device, graph)) == "");
    REQUIRE(text(plugin->download(device, y.data(), at[count], y.size())) == "");
    for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == expected(i, 255));
  }
  for (auto& p : params) p.hi = 40;
  CHECK(text(plugin->graph_run(device, graph)) == "");  // parameters were copied
  REQUIRE(text(plugin->download(device, y.data(), at[count], y.size())) == "");
  for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == expected(i, 255));
  CHECK(text(plugin->graph_update(device, graph, launches.data())) == "");
  CHECK(text(plugin->graph_run(device, graph)) == "");
  REQUIRE(text(plugin->download(device, y.data(), at[count], y.size())) == "");
  for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == expected(i, 40));
  plugin->graph_destroy(device, graph);

  const uint32_t later = 3;
  launches[1].after = &later;
  CHECK(text(plugin->graph_create(device, launches.data(), count, &graph)) ==
        "a launch that waits for a later one");
  CHECK(graph == nullptr);
  plugin->graph_destroy(device, nullptr);
  for (const uint64_t address : at) CHECK(text(plugin->release(device, address)) == "");
  plugin->close(device);
}

TEST_CASE("the plug-in says which interface it speaks") {
  CHECK(plugin->abi == MPQ_CUDA_ABI);
  CHECK(plugin->struct_size == sizeof(mpq_cuda_plugin));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const auto get = reinterpret_cast<mpq_cuda_plugin_get_fn>(dlsym(library, "mpq_cuda_plugin_get"));
  if (get == nullptr || get(MPQ_CUDA_ABI + 1) != nullptr) return 1;
  plugin = get(MPQ_CUDA_ABI);
  if (plugin == nullptr) return 1;
  if (argc > 2) expected_reason = argv[2];
  return doctest::Context().run();
}
