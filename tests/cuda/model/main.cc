// cuda_model: how fast the CUDA kernels ought to be, as a Markdown page. Nothing in it was measured
// on a GPU but what is called published.
//
//   cuda_model --ptx BUILD/kernels/cuda --budget budget.txt --resnet50 w4a4.fb --bert-base w4a4.fb
//   ... --layers "A100-80" resnet50 1 0   only the layers of one run: network, batch, tokens
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <span>

#include "format/reader.h"
#include "tests/cuda/model/run.h"

namespace mpq::test {
namespace {

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "cuda_model: %s\n", what.c_str());
  std::exit(1);
}
template <typename T>
T need(Result<T> result) {
  if (!result.ok()) die(result.error().message);
  return std::move(*result);
}

// A model and the bytes it borrows from.
struct Network {
  std::string name;
  std::unique_ptr<std::byte, void (*)(void*)> bytes = {nullptr, std::free};
  format::Model model, wide;  // as it is; in 8 bits

  void open(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) die(path + ": cannot be read");
    const std::vector<char> all((std::istreambuf_iterator<char>(file)), {});
    const size_t rounded = (all.size() + 63) / 64 * 64;
    bytes.reset(static_cast<std::byte*>(std::aligned_alloc(64, rounded)));
    if (bytes == nullptr) throw std::bad_alloc();
    std::memcpy(bytes.get(), all.data(), all.size());
    format::ReadOptions options;
    options.verify_segments = false;
    model = need(format::read({bytes.get(), all.size()}, options));
    wide = widened(model);
  }
};

struct Goal {
  const char* what;
  const char* network;
  const char* gpu;
  Load load;
  double most_seconds;  // of a run
};
constexpr Goal kGoals[] = {
    {"T4 offline, at least 8,500 images/s", "resnet50", "T4", {256, 0}, 256 / 8500.0},
    {"A100 offline, at least 59,000 images/s", "resnet50", "A100-80", {256, 0}, 256 / 59000.0},
    {"A100, batch 1, at most 0.40 ms", "resnet50", "A100-80", {1, 0}, 0.40e-3},
    {"A100, BERT-base, 32 x 128 tokens, at most 2.6 ms", "bert-base", "A100-80", {32, 128}, 2.6e-3},
};
constexpr const char* kGpusOfTable[] = {"T4", "A100-80", "A100-40", "L4", "RTX 4090", "H100"};

class Report {
 public:
  Report(SpeedModel* speed, std::span<const Network> networks)
      : speed_(speed), networks_(networks) {}

  void calibration() {
    std::printf(
        "## Calibration\n\nThe same model, our kernels with 8-bit codes (4-bit where it says so), "
        "beside what others measured with theirs. `fitted`: the clock of "
        "this GPU was chosen by its row; all others are predictions.\n\n"
        "| network | bits | GPU | batch | published ms | modelled ms | modelled / published | | "
        "source |\n| --- | ---: | --- | ---: | ---: | ---: | ---: | --- | --- |\n");
    double sum = 0, worst = 1;
    uint32_t n = 0;
    for (const Published& p : published()) {
      const double seconds = run(p.network, p.bits, p.gpu, {p.batch, p.tokens}).seconds;
      const double ratio = seconds / p.seconds;
      ratios_[key(p.network, p.bits, p.gpu, p.batch)] = ratio;
      std::printf("| %s | %u | %s | %s | %.3f | %.3f | %.2f | %s | %s |\n", p.network, p.bits,
                  p.gpu, of(p.batch, p.tokens).c_str(), p.seconds * 1e3, seconds * 1e3, ratio,
                  p.fitted ? "fitted" : "", p.source);
      if (p.fitted) continue;
      sum += std::log(ratio);
      worst = std::max(worst, std::max(ratio, 1 / ratio));
      ++n;
    }
    std::printf("\nOf the %u predictions: geometric mean %.2f, worst within a factor of %.2f.\n\n",
                n, std::exp(sum / n), worst);
  }

  void goals() {
    std::printf(
        "## Goals, modelled\n\n`corrected`: times published / modelled of the same network, GPU "
        "and kind of load in 8 bits, as if our kernels fell short of the model as far as others' "
        "do.\n\n| goal | modelled | met | corrected | met |\n| --- | ---: | --- | ---: | --- |\n");
    for (const Goal& g : kGoals) {
      const double seconds = run(g.network, 4, g.gpu, g.load).seconds;
      double corrected = seconds / ratio_of(g);
      std::printf("| %s | %s | %s | %s | %s |\n", g.what, speed(seconds, g.load).c_str(),
                  seconds <= g.most_seconds ? "yes" : "no", speed(corrected, g.load).c_str(),
                  corrected <= g.most_seconds ? "yes" : "no");
    }
    std::printf("\n");
  }

  void gpus() {
    std::printf(
        "## Every GPU, modelled\n\n| GPU | ResNet-50 4 bit, batch 256, images/s | 8 bit | batch 1, "
        "ms | BERT-base 4 bit, 32 x 128, ms | 8 bit |\n| --- | ---: | ---: | ---: | ---: | ---: "
        "|\n");
    for (const char* gpu : kGpusOfTable)
      std::printf("| %s | %.0f | %.0f | %.3f | %.2f | %.2f |\n", gpu,
                  256 / run("resnet50", 4, gpu, {256, 0}).seconds,
                  256 / run("resnet50", 8, gpu, {256, 0}).seconds,
                  1e3 * run("resnet50", 4, gpu, {1, 0}).seconds,
                  1e3 * run("bert-base", 4, gpu, {32, 128}).seconds,
                  1e3 * run("bert-base", 8, gpu, {32, 128}).seconds);
    std::printf("\n");
  }

  void layers(const char* network, const char* gpu, const Load& load, uint32_t bits = 4) {
    const ModelledRun& r = run(network, bits, gpu, load);
    std::printf(
        "## %s, %u bit, %s, batch %s, modelled: %.3f ms\n\nMemory: %.1f MB. Blocks at once: of one "
        "multiprocessor. Peak: of the GPU's products in those bits. Clocks of a block, all of its "
        "multiprocessor's units at their peak: products, integers, floats, conversions, issue, "
        "shared memory.\n\n| layer | kernel | blocks | parts | at once | us | set by | peak | "
        "memory us | L2 us | clocks of a block |\n| --- | --- | ---: | ---: | ---: | ---: | --- | "
        "---: | ---: | ---: | --- |\n",
        network, bits, gpu, of(load.batch, load.tokens).c_str(), r.seconds * 1e3,
        r.dram_bytes * 1e-6);
    const GpuModel& g = *find_gpu(gpu);
    for (const ModelledStep& s : r.steps) {
      const Instructions& in = s.cost.instructions;
      std::printf(
          "| %s | %s | %lu | %u | %u | %.1f | %s | %.0f %% | %.1f | %.1f | %.0f %.0f %.0f %.0f "
          "%.0f %.0f |\n",
          s.step.layer.c_str(), s.step.kernel, s.step.blocks(), s.step.splits, s.time.resident,
          s.time.seconds * 1e6, s.time.bound, 100 * s.time.products, s.time.dram * 1e6,
          s.time.l2 * 1e6, (s.cost.products_8bit + s.cost.products_4bit) * 4096 / g.macs_8bit,
          in.integer / 2, in.floating * 32 / g.float_lanes, in.conversions * 2, in.issued / 4,
          s.cost.shared_passes * 128 / g.shared_bytes_a_clock);
    }
    std::printf("\n");
  }

 private:
  static std::string key(const std::string& network, uint32_t bits, const std::string& gpu,
                         uint32_t batch) {
    return network + " " + std::to_string(bits) + " " + gpu + " " + std::to_string(batch);
  }
  static std::string of(uint32_t batch, uint32_t tokens) {
    return std::to_string(batch) + (tokens != 0 ? " x " + std::to_string(tokens) : "");
  }
  static std::string speed(double seconds, const Load& load) {
    char text[64];
    if (load.batch == 256)
      std::snprintf(text, sizeof text, "%.0f images/s", load.batch / seconds);
    else
      std::snprintf(text, sizeof text, "%.3f ms", seconds * 1e3);
    return text;
  }
  // Of the same load in 8 bits, or of the nearest GPU with a published one.
  double ratio_of(const Goal& g) const {
    for (const char* gpu : {g.gpu, "A100-40"})
      if (const auto found = ratios_.find(key(g.network, 8, gpu, g.load.batch));
          found != ratios_.end())
        return found->second;
    return 1;
  }
  const ModelledRun& run(const std::string& network, uint32_t bits, const std::string& gpu,
                         const Load& load) {
    ModelledRun& r = runs_[key(network, bits, gpu, load.batch)];
    if (r.steps.empty())
      for (const Network& n : networks_)
        if (n.name == network)
          r = need(speed_->run(bits == 8 ? n.wide : n.model, *find_gpu(gpu), load));
    if (r.steps.empty()) die("no network " + network);
    return r;
  }

  SpeedModel* speed_;
  std::span<const Network> networks_;
  std::map<std::string, ModelledRun> runs_;
  std::map<std::string, double> ratios_;
};

int run_main(const std::vector<std::string>& args) {
  std::map<std::string, std::string> options;
  std::vector<std::string> layers;
  for (size_t i = 0; i < args.size(); i += 2) {
    if (args[i] == "--layers" && i + 4 < args.size()) {
      layers.assign(args.begin() + static_cast<ptrdiff_t>(i) + 1, args.end());
      break;
    }
    if (i + 1 >= args.size()) die(args[i] + " needs a value");
    options[args[i]] = args[i + 1];
  }
  SpeedModel speed(options["--ptx"], need(read_budgets(options["--budget"])), {});
  Network networks[2];
  networks[0].name = "resnet50";
  networks[1].name = "bert-base";
  for (Network& n : networks)
    if (layers.empty() || layers[1] == n.name) n.open(options["--" + n.name]);
  Report report(&speed, networks);
  const auto number = [&](size_t i) { return static_cast<uint32_t>(std::stoul(layers[i])); };
  if (!layers.empty()) {
    if (find_gpu(layers[0]) == nullptr) die("no GPU " + layers[0]);
    report.layers(layers[1].c_str(), layers[0].c_str(), {number(2), number(3)},
                  layers.size() > 4 ? number(4) : 4);
    return 0;
  }
  std::printf(
      "# The CUDA kernels' speed, modelled\n\n"
      "**No number on this page was measured on a GPU with these kernels**: `modelled` is what "
      "`tests/cuda/model` computes, `published` what others measured with theirs. Made by `make "
      "cuda-model`; the method and its assumptions: "
      "[tests/cuda/model/README.md](../../tests/cuda/model/README.md). ResNet-50 v1.5 is NVIDIA's "
      "W4A4 network, BERT-base has random weights.\n\n");
  report.calibration();
  report.goals();
  report.gpus();
  report.layers("resnet50", "A100-80", {256, 0});
  report.layers("resnet50", "A100-80", {1, 0});
  report.layers("resnet50", "T4", {256, 0});
  report.layers("bert-base", "A100-80", {32, 128});
  return 0;
}

}  // namespace
}  // namespace mpq::test

int main(int argc, char** argv) { return mpq::test::run_main({argv + 1, argv + argc}); }
