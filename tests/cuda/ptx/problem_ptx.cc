#include "tests/cuda/ptx/problem_ptx.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

namespace mpq::test {

const KernelTexts& kernel_texts(uint32_t arch) {
  static std::map<uint32_t, KernelTexts> read;
  const auto found = read.find(arch);
  if (found != read.end()) return found->second;
  const char* folder = std::getenv("MPQ_PTX");
  auto texts = KernelTexts::read(folder != nullptr ? folder : ".", arch);
  REQUIRE_MESSAGE(texts.ok(), (texts.ok() ? "" : texts.error().message));
  return read.emplace(arch, std::move(*texts)).first->second;
}

std::string load_kernel(const std::string& text, std::string_view name,
                        std::unique_ptr<LoadedKernel>* loaded) {
  auto module = ptx::parse(text);
  if (!module.ok()) return module.error().message;
  ptx::Memory memory;
  auto executable = ptx::Executable::load(*module, name, memory);
  if (!executable.ok()) return executable.error().message;
  *loaded = std::make_unique<LoadedKernel>(LoadedKernel{std::move(memory), std::move(*executable)});
  return {};
}

std::string run_problem(CudaProblem& p, LoadedKernel& kernel, uint32_t arch,
                        const ptx::RunOptions& options, ptx::Counters* counters) {
  for (const Expected& e : p.expected) std::memset(e.at, e.initial, e.bytes.size());
  // Addresses are the host's own.
  std::vector<uint64_t> mapped;
  std::string wrong;
  p.device.memory.for_each_array([&](const uint8_t* begin, size_t bytes) {
    if (bytes == 0) return;
    const bool is_output = std::any_of(p.expected.begin(), p.expected.end(),
                                       [&](const Expected& e) { return e.at == begin; });
    const auto address = reinterpret_cast<uint64_t>(begin);
    if (kernel.memory.map_at(address, {const_cast<uint8_t*>(begin), bytes}, is_output))
      mapped.push_back(address);
    else
      wrong = "arrays overlap";
  });
  const mpq::test::Launch& l = p.launch;
  const ptx::Launch launch{{l.grid_x, l.grid_y, l.grid_z},
                           {l.threads, 1, 1},
                           arch < 80 ? p.shared_bytes_sm75 : p.shared_bytes,
                           p.params};
  const auto result = kernel.executable.run(launch, kernel.memory, options);
  for (const uint64_t address : mapped) kernel.memory.release(address);
  if (!wrong.empty()) return wrong;
  if (!result.ok()) return result.error().message;
  if (counters != nullptr) *counters = *result;
  return difference(p);
}

namespace {

LoadedKernel& loaded(uint32_t arch, const std::string& name) {
  static std::map<std::pair<uint32_t, std::string>, std::unique_ptr<LoadedKernel>> all;
  std::unique_ptr<LoadedKernel>& kernel = all[{arch, name}];
  if (kernel == nullptr) {
    const std::string* text = kernel_texts(arch).find(name);
    REQUIRE_MESSAGE(text != nullptr, name);
    const std::string wrong = load_kernel(*text, name, &kernel);
    REQUIRE(wrong == "");
  }
  return *kernel;
}

}  // namespace

void require_everywhere(CudaProblem& p) {
  for (const uint32_t arch : {75U, 80U, 90U})
    for (const ptx::Async async : {ptx::Async::kAtOnce, ptx::Async::kAtWait, ptx::Async::kRandom}) {
      if (arch < 80 && async == ptx::Async::kRandom) continue;  // nothing is asynchronous there
      const ptx::RunOptions options{
          .seed = async == ptx::Async::kAtOnce ? 0U : 1U + static_cast<uint64_t>(async),
          .async = async};
      const std::string wrong = run_problem(p, loaded(arch, p.launch.name), arch, options);
      INFO("compute_" << arch << " " << p.text);
      REQUIRE(wrong == "");
    }
}

}  // namespace mpq::test
