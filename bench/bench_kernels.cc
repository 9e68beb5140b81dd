// Every row of every kernel table on the layers of ResNet-50 (224 x 224, batch 1), one thread, data
// warm in the cache. Results are compared with the reference after the timed loop: a fast wrong
// kernel is an error, not a number. OP/s counts 2 operations a multiply-add on the unpadded shape.
// Method: README.md.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"

namespace {

using namespace mpq::kernels;

bool cannot_run(benchmark::State& state, IsaMask isa) {
  static const IsaMask kHere = detect_isa();
  if ((isa & ~kHere) == 0) return false;
  state.SkipWithError((std::string("SKIPPED: no ") + isa_name(isa)).c_str());
  return true;
}

// 64-byte aligned bytes of pseudo-random codes.
class Bytes {
 public:
  explicit Bytes(size_t size, int32_t max_code = 0, uint32_t seed = 1) : size_(size) {
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, (size + 63) / 64 * 64 + 64)));
    for (size_t i = 0; i < size; ++i) {
      seed = seed * 1664525 + 1013904223;
      data_[i] =
          static_cast<uint8_t>((uint64_t{seed} * (static_cast<uint32_t>(max_code) + 1)) >> 32);
    }
  }
  uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_;
};

// A tensor of codes with `halo` pixels around each image.
struct Codes {
  Codes(uint32_t c, uint32_t h, uint32_t w, uint32_t halo, int32_t max_code)
      : cb(channel_block(c)),
        row(ptrdiff_t{w + 2 * halo} * cb),
        plane(row * (h + 2 * halo)),
        bytes(static_cast<size_t>(plane) * ((c + cb - 1) / cb), max_code),
        origin(halo * row + ptrdiff_t{halo} * cb) {}
  Planes planes() const {
    return {.data = bytes.data() + origin, .image = 0, .plane = plane, .row = row, .cb = cb};
  }
  // The same with the halo counted in: what a convolution with padding takes.
  Planes padded() const {
    Planes p = planes();
    p.data = bytes.data();
    return p;
  }
  uint32_t cb;
  ptrdiff_t row, plane;
  Bytes bytes;
  ptrdiff_t origin;
};

struct Layer {
  const char* name;
  uint32_t c, size, o, kernel, stride;  // size: output rows and columns
};
const Layer kLayers[] = {
    {"conv1", 3, 112, 64, 7, 2},
    {"layer1.0.conv1", 64, 56, 64, 1, 1},
    {"layer1.conv2", 64, 56, 64, 3, 1},
    {"layer1.conv3", 64, 56, 256, 1, 1},
    {"layer1.conv1", 256, 56, 64, 1, 1},
    {"layer2.0.conv1", 256, 56, 128, 1, 1},
    {"layer2.0.conv2", 128, 28, 128, 3, 2},
    {"layer2.downsample", 256, 28, 512, 1, 2},
    {"layer2.conv1", 512, 28, 128, 1, 1},
    {"layer2.conv2", 128, 28, 128, 3, 1},
    {"layer2.conv3", 128, 28, 512, 1, 1},
    {"layer3.0.conv1", 512, 28, 256, 1, 1},
    {"layer3.0.conv2", 256, 14, 256, 3, 2},
    {"layer3.downsample", 512, 14, 1024, 1, 2},
    {"layer3.conv1", 1024, 14, 256, 1, 1},
    {"layer3.conv2", 256, 14, 256, 3, 1},
    {"layer3.conv3", 256, 14, 1024, 1, 1},
    {"layer4.0.conv1", 1024, 14, 512, 1, 1},
    {"layer4.0.conv2", 512, 7, 512, 3, 2},
    {"layer4.downsample", 1024, 7, 2048, 1, 2},
    {"layer4.conv1", 2048, 7, 512, 1, 1},
    {"layer4.conv2", 512, 7, 512, 3, 1},
    {"layer4.conv3", 512, 7, 2048, 1, 1},
    {"fc", 2048, 1, 1000, 1, 1},
};

int32_t weight_range(Elem weights) {
  return weights == Elem::s2 ? 4 : weights == Elem::s4 ? 16 : 256;
}

// As the planner asks: a 1 x 1 convolution of stride 1 is one row of pixels.
ConvShape shape_of(const Layer& l) {
  ConvShape s = {.c = l.c,
                 .oh = l.size,
                 .ow = l.size,
                 .o = l.o,
                 .r = l.kernel,
                 .s = l.kernel,
                 .stride_h = l.stride,
                 .stride_w = l.stride};
  if (l.kernel == 1 && l.stride == 1) s.oh = 1, s.ow = l.size * l.size;
  return s;
}

struct ConvRun {
  ConvRun(const ConvKernel& kernel, const Layer& l)
      : shape(shape_of(l)),
        x(l.c, in_rows(), in_columns(), 0, kernel.max_activation),
        y(l.o, shape.oh, shape.ow, 0, 0),
        weights(size_t{l.o} * l.c * l.kernel * l.kernel, weight_range(kernel.weights) - 1, 7),
        packed(kernel.packed_bytes(shape, x.cb)),
        scratch(kernel.scratch_bytes(shape, x.cb)),
        acc_bias((size_t{l.o} + 63) / 64 * 64),
        multiplier(acc_bias.size()),
        bias(acc_bias.size(), 7.5F) {
    auto* codes = reinterpret_cast<int8_t*>(weights.data());
    for (size_t i = 0; i < weights.size(); ++i)
      codes[i] = static_cast<int8_t>(weights.data()[i] - weight_range(kernel.weights) / 2);
    kernel.pack(shape, x.cb, codes, packed.data());
    const float spread = static_cast<float>(kernel.max_activation) *
                         static_cast<float>(weight_range(kernel.weights)) *
                         static_cast<float>(l.c * l.kernel);
    for (uint32_t o = 0; o < l.o; ++o) multiplier[o] = 15.0F / spread;
  }
  ConvArgs args(const void* w, const Codes& out) const {
    ConvArgs a = {.shape = shape, .x = x.planes(), .weights = w, .y = out.planes()};
    a.epilogue.acc_bias = acc_bias.data();
    a.epilogue.multiplier = multiplier.data();
    a.epilogue.bias = bias.data();
    a.epilogue.hi = 15;
    return a;
  }
  void run(const ConvKernel& kernel) const {
    uint32_t units = 0, panels = 0;
    kernel.units(shape, &units, &panels);
    kernel.run(args(packed.data(), y), {0, units, 0, panels}, {scratch.data(), scratch.size()});
  }
  // First, middle and last rows of the output against the reference.
  bool right(const Layer& l) const {
    const ConvKernel& reference = conv_kernels().back();
    const Codes expected(l.o, l.size, l.size, 0, 0);
    ConvArgs a = args(weights.data(), expected);
    a.shape.oh = a.shape.ow =
        l.size;  // the same bytes as a row of pixels, but cheap to take a part of
    a.x.row = x.row / (shape.oh == l.size ? 1 : l.size);
    uint32_t units = 0, panels = 0;
    reference.units(a.shape, &units, &panels);
    for (const uint32_t row : {0U, l.size / 2, l.size - 1}) {
      reference.run(a, {row, row + 1, 0, panels}, {});
      for (uint32_t block = 0; block * y.cb < l.o; ++block)
        for (uint32_t i = 0; i < l.size; ++i) {
          const uint32_t channels = l.o - block * y.cb < y.cb ? l.o - block * y.cb : y.cb;
          const ptrdiff_t at = block * y.plane + (ptrdiff_t{row} * l.size + i) * y.cb;
          if (std::memcmp(y.bytes.data() + at, expected.bytes.data() + at, channels) != 0)
            return false;
        }
    }
    return true;
  }
  uint32_t in_rows() const { return (shape.oh - 1) * shape.stride_h + shape.r; }
  uint32_t in_columns() const { return (shape.ow - 1) * shape.stride_w + shape.s; }

  ConvShape shape;
  Codes x, y;
  Bytes weights, packed, scratch;
  std::vector<int32_t> acc_bias;
  std::vector<float> multiplier, bias;
};

void count_ops(benchmark::State& state, double ops) {
  state.counters["OP/s"] = benchmark::Counter(ops, benchmark::Counter::kIsIterationInvariantRate,
                                              benchmark::Counter::kIs1000);
}

void bench_conv(benchmark::State& state, const ConvKernel& kernel, const Layer& layer) {
  if (cannot_run(state, kernel.isa)) return;
  const ConvRun run(kernel, layer);
  for (auto _ : state) {
    run.run(kernel);
    benchmark::ClobberMemory();
  }
  if (!run.right(layer)) state.SkipWithError("result differs from the reference");
  const ConvShape& s = run.shape;
  count_ops(state, 2.0 * s.oh * s.ow * s.o * s.c * s.r * s.s);
}

bool same(const Codes& a, const Codes& b) {
  return std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

void bench_pool(benchmark::State& state, const PoolKernel& kernel) {
  if (cannot_run(state, kernel.isa)) return;
  const bool is_max = kernel.kind == PoolKind::kMax;
  const PoolShape s = is_max ? PoolShape{.c = 64,
                                         .h = 112,
                                         .w = 112,
                                         .oh = 56,
                                         .ow = 56,
                                         .kernel_h = 3,
                                         .kernel_w = 3,
                                         .stride_h = 2,
                                         .stride_w = 2,
                                         .pad_top = 1,
                                         .pad_left = 1}
                             : PoolShape{.c = 2048, .h = 7, .w = 7, .kernel_h = 7, .kernel_w = 7};
  const Codes x(s.c, s.h, s.w, 0, 255), y(s.c, s.oh, s.ow, 0, 0), expected(s.c, s.oh, s.ow, 0, 0);
  PoolArgs args = {.shape = s, .x = x.planes(), .y = y.planes(), .multiplier = 1.0F / 49};
  const WorkRange all = {0, pool_units(s, x.cb)};
  for (auto _ : state) {
    kernel.run(args, all);
    benchmark::ClobberMemory();
  }
  args.y = expected.planes();
  select_pool(kernel.kind, s, x.cb, kIsaScalar).run(args, all);
  if (!same(y, expected)) state.SkipWithError("result differs from the reference");
  count_ops(state, 1.0 * s.c * s.oh * s.ow * s.kernel_h * s.kernel_w);
}

void bench_add(benchmark::State& state, const AddKernel& kernel) {
  if (cannot_run(state, kernel.isa)) return;
  const AddShape s = {.c = 256, .h = 56, .w = 56};
  const Codes a(s.c, s.h, s.w, 0, 255), b(s.c, s.h, s.w, 1, 255), y(s.c, s.h, s.w, 0, 0),
      expected(s.c, s.h, s.w, 0, 0);
  AddArgs args = {.shape = s,
                  .a = a.planes(),
                  .b = b.planes(),
                  .y = y.planes(),
                  .a_scale = 0.4F,
                  .b_scale = 0.6F};
  const WorkRange all = {0, add_units(s, a.cb)};
  for (auto _ : state) {
    kernel.run(args, all);
    benchmark::ClobberMemory();
  }
  args.y = expected.planes();
  add_kernels().back().run(args, all);
  if (!same(y, expected)) state.SkipWithError("result differs from the reference");
  count_ops(state, 1.0 * s.c * s.h * s.w);
}

void bench_quantize(benchmark::State& state, const QuantizeKernel& kernel) {
  if (cannot_run(state, kernel.isa)) return;
  const CodesShape s = {1, 3, 224, 224};
  std::vector<float> values(size_t{s.c} * s.h * s.w);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 517) * 0.01F - 2.5F;
  const Codes y(s.c, s.h, s.w, 3, 0), expected(s.c, s.h, s.w, 3, 0);
  QuantizeArgs args = {.shape = s,
                       .x = values.data(),
                       .strides = nchw(s.c, s.h, s.w),
                       .y = y.planes(),
                       .scale = 0.02F,
                       .zero_point = 114};
  const WorkRange all = {0, codes_units(s, y.cb)};
  for (auto _ : state) {
    kernel.run(args, all);
    benchmark::ClobberMemory();
  }
  args.y = expected.planes();
  quantize_kernels().back().run(args, all);
  if (!same(y, expected)) state.SkipWithError("result differs from the reference");
  count_ops(state, static_cast<double>(values.size()));
}

void bench_image(benchmark::State& state, const ImageQuantizeKernel& kernel) {
  if (cannot_run(state, kernel.isa)) return;
  const CodesShape s = {1, 3, 224, 224};
  const Bytes pixels(size_t{s.c} * s.h * s.w, 255), table(3 * 256, 255, 5);
  const Codes y(s.c, s.h, s.w, 3, 0), expected(s.c, s.h, s.w, 3, 0);
  ImageQuantizeArgs args = {
      .shape = s, .pixels = pixels.data(), .table = table.data(), .y = y.planes()};
  const WorkRange all = {0, codes_units(s, y.cb)};
  for (auto _ : state) {
    kernel.run(args, all);
    benchmark::ClobberMemory();
  }
  args.y = expected.planes();
  image_quantize_kernels().back().run(args, all);
  if (!same(y, expected)) state.SkipWithError("result differs from the reference");
  count_ops(state, static_cast<double>(pixels.size()));
}

void add_benchmark(const std::string& name, std::function<void(benchmark::State&)> run) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(run))->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  for (const ConvKernel& kernel : conv_kernels())
    for (const Layer& layer : kLayers)
      if (kernel.isa == kIsaScalar && std::string(layer.name) != "fc") {
        continue;  // the reference takes a second a layer: one layer says how slow it is
      } else if (kernel.fits(shape_of(layer), channel_block(layer.c)))
        add_benchmark(std::string(kernel.name) + "/" + layer.name,
                      [&](benchmark::State& state) { bench_conv(state, kernel, layer); });
  for (const PoolKernel& kernel : pool_kernels())
    add_benchmark(kernel.name, [&](benchmark::State& state) { bench_pool(state, kernel); });
  for (const AddKernel& kernel : add_kernels())
    add_benchmark(kernel.name, [&](benchmark::State& state) { bench_add(state, kernel); });
  for (const QuantizeKernel& kernel : quantize_kernels())
    add_benchmark(kernel.name, [&](benchmark::State& state) { bench_quantize(state, kernel); });
  for (const ImageQuantizeKernel& kernel : image_quantize_kernels())
    add_benchmark(kernel.name, [&](benchmark::State& state) { bench_image(state, kernel); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
