// Problems (tests/cuda/problem.h) on the first GPU, through the plug-in that MPQ_CUDA_PLUGIN names.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "runtime/cuda/plugin.h"
#include "tests/cuda/problem.h"

namespace mpq::test {
namespace {

struct Gpu {
  const mpq_cuda_plugin* plugin = nullptr;
  mpq_cuda_device* device = nullptr;
  mpq_cuda_info info = {};
};

const Gpu& gpu() {
  static const Gpu opened = [] {
    Gpu g;
    const char* path = std::getenv("MPQ_CUDA_PLUGIN");
    void* const library = path != nullptr ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    const auto get =
        library == nullptr
            ? nullptr
            : reinterpret_cast<mpq_cuda_plugin_get_fn>(dlsym(library, "mpq_cuda_plugin_get"));
    g.plugin = get != nullptr ? get(MPQ_CUDA_ABI) : nullptr;
    if (g.plugin == nullptr) FAIL("MPQ_CUDA_PLUGIN names no plug-in");
    if (const char* wrong = g.plugin->open(0, &g.device)) FAIL(wrong);
    g.plugin->info(g.device, &g.info);
    return g;
  }();
  return opened;
}

// An array of the problem, and the same on the GPU.
struct Array {
  const uint8_t* host;
  size_t bytes;
  uint64_t device;
};

void must(const char* wrong) {
  if (wrong != nullptr) FAIL(wrong);
}

// Parameters hold addresses of the host: those inside an array become the GPU's.
std::vector<uint8_t> relocated(std::vector<uint8_t> params, const std::vector<Array>& arrays) {
  for (size_t at = 0; at + sizeof(uint64_t) <= params.size(); at += sizeof(uint64_t)) {
    uint64_t address = 0;
    std::memcpy(&address, &params[at], sizeof address);
    for (const Array& a : arrays) {
      const auto begin = reinterpret_cast<uint64_t>(a.host);
      if (address < begin || address >= begin + a.bytes) continue;
      address = a.device + (address - begin);
      std::memcpy(&params[at], &address, sizeof address);
      break;
    }
  }
  return params;
}

}  // namespace

// Once: what a GPU does at random it does by itself.
void require_everywhere(CudaProblem& p) {
  const Gpu& g = gpu();
  for (const Expected& e : p.expected) std::memset(e.at, e.initial, e.bytes.size());
  std::vector<Array> arrays;
  p.device.memory.for_each_array([&](const uint8_t* begin, size_t bytes) {
    if (bytes == 0) return;
    Array a = {begin, bytes, 0};
    must(g.plugin->allocate(g.device, bytes, &a.device));
    must(g.plugin->upload(g.device, a.device, begin, bytes));
    arrays.push_back(a);
  });
  const std::vector<uint8_t> params = relocated(p.params, arrays);
  const mpq_cuda_launch launch = {
      .kernel = p.launch.name,
      .grid = {p.launch.grid_x, p.launch.grid_y, p.launch.grid_z},
      .threads = p.launch.threads,
      .shared_bytes = g.info.arch < 80 ? p.shared_bytes_sm75 : p.shared_bytes,
      .params = params.data(),
      .after = nullptr,
      .after_count = 0};
  must(g.plugin->run(g.device, &launch, 1, nullptr));
  for (const Array& a : arrays) {
    const bool is_output = std::any_of(p.expected.begin(), p.expected.end(),
                                       [&](const Expected& e) { return e.at == a.host; });
    if (is_output)
      must(g.plugin->download(g.device, const_cast<uint8_t*>(a.host), a.device, a.bytes));
    must(g.plugin->release(g.device, a.device));
  }
  INFO(g.info.name << " " << p.text);
  REQUIRE(difference(p) == "");
}

}  // namespace mpq::test
