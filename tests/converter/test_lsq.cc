#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "converter/lower.h"
#include "converter/passes/pass.h"
#include "converter/train/loss.h"
#include "converter/train/lsq.h"
#include "converter/train/optimizer.h"
#include "converter/train/quantizers.h"
#include "converter/train/schedule.h"
#include "format/writer.h"
#include "graph_builder.h"
#include "tests/support/naive_model.h"

namespace mpq::convert::train {
namespace {

// The straight-through surrogate: rounding is a constant shift near x and s, so its derivatives are
// those that LSQ means, and differences of it are exact. In double, one element.
struct Surrogate {
  double x, s, offset, lo, hi;  // codes
  double zero() const { return std::clamp(std::nearbyint(-offset / s), lo, hi); }
  double value(double nx, double ns, double no) const {
    const double z = zero(), v = x / s;
    if (v <= lo - z) return lo * ns + no;  // of LSQ+: the end of the range moves with the offset
    if (v >= hi - z) return hi * ns + no;
    return ns * (nx / ns + (std::nearbyint(v) - v));
  }
  double value_without_offset(double nx, double ns) const {
    const double z = zero(), v = x / s;
    if (v <= lo - z) return (lo - z) * ns;
    if (v >= hi - z) return (hi - z) * ns;
    return ns * (nx / ns + (std::nearbyint(v) - v));
  }
};

}  // namespace

TEST_CASE("lsq: gradients are those of the straight-through surrogate") {
  GraphBuilder b(7);
  for (const int bits : {2, 4, 8})
    for (const bool is_signed : {true, false}) {
      const int32_t lo = is_signed ? -(1 << (bits - 1)) : 0, hi = lo + (1 << bits) - 1;
      const std::vector<float> x = b.random_data(5000, is_signed ? 1.0F : 2.0F),
                               dy = b.random_data(5000);
      const float step = 3.0F / static_cast<float>(1 << bits);
      std::vector<float> dx(x.size());
      const LsqGrid grid{{&step, 1}, 0, static_cast<float>(lo), static_cast<float>(hi)};
      const LsqGradients got = lsq_backward(grid, x, dy, dx, false);
      double ds = 0.0, worst = 0.0;
      for (size_t i = 0; i < x.size(); ++i) {
        const Surrogate f{x[i], step, 0.0, double(lo), double(hi)};
        const double h = 1e-6;
        ds += dy[i] *
              (f.value_without_offset(x[i], step + h) - f.value_without_offset(x[i], step - h)) /
              (2 * h);
        const double slope =
            (f.value_without_offset(x[i] + h, step) - f.value_without_offset(x[i] - h, step)) /
            (2 * h);
        worst = std::max(worst, std::abs(dx[i] - slope * dy[i]));
      }
      CHECK(got.steps[0] == doctest::Approx(ds).epsilon(1e-3));
      CHECK(worst < 1e-5);
      // Added instead of written; nobody wants dx.
      std::vector<float> twice = dx;
      (void)lsq_backward(grid, x, dy, twice, true);
      CHECK(twice[17] == 2.0F * dx[17]);
      CHECK(lsq_backward(grid, x, dy, {}, false).steps[0] == got.steps[0]);
    }
}

TEST_CASE("lsq+: gradients of step and offset are those of the straight-through surrogate") {
  GraphBuilder b(8);
  const std::vector<float> x = b.random_data(5000, 1.0F, 0.4F), dy = b.random_data(5000);
  // The offset is a whole number of steps: LSQ+ and its grid with a code for 0 are one there.
  const float step = 0.25F, offset = -1.0F;
  const int32_t zero = zero_point_of(offset, step, 0, 15);
  CHECK(zero == 4);
  const LsqGrid grid{{&step, 1}, 0, static_cast<float>(-zero), static_cast<float>(15 - zero)};
  std::vector<float> dx(x.size());
  const LsqGradients got = lsq_backward(grid, x, dy, dx, false);
  double ds = 0.0, d_offset = 0.0;
  const double h = 1e-6;
  for (size_t i = 0; i < x.size(); ++i) {
    const Surrogate f{x[i], step, offset, 0.0, 15.0};
    d_offset +=
        dy[i] * (f.value(x[i], step, offset + h) - f.value(x[i], step, offset - h)) / (2 * h);
    // With the zero point where it is.
    ds += dy[i] *
          (f.value_without_offset(x[i], step + h) - f.value_without_offset(x[i], step - h)) /
          (2 * h);
  }
  CHECK(got.steps[0] == doctest::Approx(ds).epsilon(1e-3));
  CHECK(got.offset == doctest::Approx(d_offset).epsilon(1e-3));
  CHECK(got.offset != 0.0);
}

TEST_CASE("lsq: a step a channel, ties to even, first steps and gradient scale") {
  const std::vector<float> steps = {0.5F, 2.0F};
  const std::vector<float> x = {0.25F, 0.75F, -9.0F, 1.0F, 3.0F, 99.0F}, dy(6, 1.0F);
  std::vector<float> y(6);
  const LsqGrid grid{steps, 3, -8.0F, 7.0F};
  lsq_forward(grid, x, y);
  CHECK(y == std::vector<float>{0.0F, 1.0F, -4.0F, 0.0F, 4.0F, 14.0F});
  CHECK(lsq_code(0.25F, 0.5F, -8, 7) == 0);
  const LsqGradients g = lsq_backward(grid, x, dy, {}, false);
  CHECK(g.steps[0] == doctest::Approx((0 - 0.5) + (2 - 1.5) - 8));
  CHECK(g.steps[1] == doctest::Approx((0 - 0.5) + (2 - 1.5) + 7));
  CHECK(lsq_gradient_scale(100, 7) == doctest::Approx(1.0 / std::sqrt(700.0)));
  CHECK(lsq_first_step(std::vector<float>{-1.0F, 2.0F, 3.0F}, 4) == doctest::Approx(2.0));
  CHECK(lsq_first_step(std::vector<float>{0.0F, 0.0F}, 7) == 1.0F);
  CHECK(decay_share(8) == 1.0F);
  CHECK(decay_share(4) == 1.0F);
  CHECK(decay_share(3) == 0.5F);
  CHECK(decay_share(2) == 0.25F);
}

TEST_CASE("lsq: what is dropped keeps its value, and its gradient is that of x alone") {
  GraphBuilder b(9);
  const std::vector<float> x = b.random_data(20000, 1.0F), dy = b.random_data(20000);
  const float step = 0.13F;
  const LsqGrid plain{{&step, 1}, 0, -8.0F, 7.0F};
  LsqGrid mixed = plain;
  mixed.dropped = {0.3F, 5};
  std::vector<float> y(x.size()), rounded(x.size()), dx(x.size()), inside(x.size());
  lsq_forward(mixed, x, y);
  lsq_forward(plain, x, rounded);
  const LsqGradients got = lsq_backward(mixed, x, dy, dx, false);
  std::vector<float> quantised_dy = dy;
  size_t kept = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool dropped = y[i] == x[i] && rounded[i] != x[i];
    CHECK((dropped || y[i] == rounded[i]));
    if (!dropped) continue;
    ++kept;
    quantised_dy[i] = 0.0F;
  }
  CHECK(static_cast<double>(kept) / 20000.0 == doctest::Approx(0.3).epsilon(0.05));
  const LsqGradients expected = lsq_backward(plain, x, quantised_dy, inside, false);
  CHECK(got.steps[0] == expected.steps[0]);
  CHECK(got.steps[0] != lsq_backward(plain, x, dy, {}, false).steps[0]);
  size_t wrong = 0;
  for (size_t i = 0; i < x.size(); ++i)
    wrong += dx[i] == inside[i] + (dy[i] - quantised_dy[i]) ? 0 : 1;
  CHECK(wrong == 0);
  // Another seed draws others; the same one the same.
  std::vector<float> again(x.size()), other(x.size());
  lsq_forward(mixed, x, again);
  mixed.dropped.seed = 6;
  lsq_forward(mixed, x, other);
  CHECK(again == y);
  CHECK(other != y);
  mixed.dropped.share = 1.0F;
  lsq_forward(mixed, x, other);
  CHECK(std::mismatch(other.begin(), other.end(), x.begin()).first == other.end());
}

TEST_CASE("lsq: on the tape, steps get the scaled gradient of their quantiser") {
  GraphBuilder b;
  const ValueId x = b.input({1, 4, 3, 3});
  const QuantSpec u4{.bits = 4, .scale = {0.3F}, .zero_point = 5, .lo = 0, .hi = 15};
  const Graph graph = b.finish(b.node(FakeQuant{u4}, {x}));
  auto tape = Tape::create(graph, {.batch = 2, .input_gradient = true});
  REQUIRE(tape.ok());
  REQUIRE(tape->parameters().size() == 2);
  const std::vector<float> data = b.random_data(72), dy = b.random_data(72);
  REQUIRE(tape->forward(data, true).ok());
  const Tape::Seed seed{tape->output(), dy};
  REQUIRE(tape->backward({&seed, 1}).ok());
  const float step = 0.3F;
  std::vector<float> dx(72);
  const LsqGradients g = lsq_backward({{&step, 1}, 0, -5.0F, 10.0F}, data, dy, dx, false);
  const double factor = 1.0 / std::sqrt(36.0 * 15.0);  // features of one image
  CHECK(tape->gradient(tape->parameters()[0].value)[0] == doctest::Approx(g.steps[0] * factor));
  CHECK(tape->gradient(tape->parameters()[1].value)[0] == doctest::Approx(g.offset * factor));
  const std::span<const float> got = tape->gradient(x);
  CHECK(std::equal(got.begin(), got.end(), dx.begin()));
}

TEST_CASE("loss: gradients of cross-entropy, distillation and squared error") {
  GraphBuilder b(9);
  const std::vector<float> y = b.random_data(12), teacher = b.random_data(12);
  const std::vector<int32_t> labels = {2, 0, 3};
  const auto loss = [&](int which, const std::vector<float>& at, std::span<float> gradient) {
    const LossTarget target{0.7F, gradient};
    if (which == 0) return cross_entropy(at, 4, labels, target);
    if (which == 1) return distillation(at, teacher, 4, 2.0F, target);
    return squared_error(at, teacher, target);
  };
  for (const int which : {0, 1, 2}) {
    std::vector<float> gradient(12, 1.0F);  // added to what is there
    (void)loss(which, y, gradient);
    for (size_t i = 0; i < 12; ++i) {
      std::vector<float> above = y, below = y;
      above[i] += 1e-2F;
      below[i] -= 1e-2F;
      const double slope =
          (loss(which, above, {}) - loss(which, below, {})) / (double{above[i]} - double{below[i]});
      CHECK(gradient[i] - 1.0 == doctest::Approx(slope).epsilon(2e-3).scale(0.1));
    }
  }
  CHECK(distillation(y, y, 4, 3.0F, {}) == doctest::Approx(0.0).scale(1.0));
  CHECK(cross_entropy(std::vector<float>{0, 0, 0, 0}, 4, std::vector<int32_t>{1}, {}) ==
        doctest::Approx(std::log(4.0)));
}

TEST_CASE("schedule: warm-up, cosine, linear, constant") {
  const Schedule cosine{.rate = 1.0F, .decay = Decay::kCosine, .warm_up = 0.1};
  CHECK(cosine.at(0, 100) == doctest::Approx(0.1));
  CHECK(cosine.at(9, 100) == doctest::Approx(1.0));
  CHECK(cosine.at(55, 100) == doctest::Approx(0.5).epsilon(0.02));
  CHECK(cosine.at(99, 100) < 0.01);
  const Schedule linear{.rate = 2.0F, .decay = Decay::kLinear, .last = 0.5F};
  CHECK(linear.at(0, 100) == doctest::Approx(2.0));
  CHECK(linear.at(50, 100) == doctest::Approx(1.5));
  CHECK(Schedule{.rate = 3.0F, .decay = Decay::kConstant}.at(77, 100) == 3.0F);
}

TEST_CASE("optimizer: SGD, Nesterov and AdamW follow their formulas, decay by bits") {
  GraphBuilder b;
  const ValueId x = b.input({1, 1});
  const ValueId w = b.constant({1, 1}, {0.5F}), bias = b.constant({1}, {0.25F});
  const Graph graph = b.finish(b.node(Linear{}, {x, w, bias}));
  for (const int which : {0, 1, 2}) {
    auto tape = Tape::create(graph, {.batch = 1});
    REQUIRE(tape.ok());
    OptimizerOptions options;
    options.method = which == 2 ? Method::kAdamW : Method::kSgd;
    options.nesterov = which == 1;
    options.weight_decay = 0.1F;
    tape->parameters()[0].bits = 2;  // a quarter of the decay
    Optimizer optimizer(&*tape, options);
    double p[2] = {0.5, 0.25}, m[2] = {}, v[2] = {};
    for (int t = 1; t <= 3; ++t) {
      const std::vector<float> input = {static_cast<float>(t)}, one = {1.0F};
      REQUIRE(tape->forward(input, true).ok());
      const Tape::Seed seed{tape->output(), one};
      REQUIRE(tape->backward({&seed, 1}).ok());
      REQUIRE(optimizer.step(0.1F).ok());
      const double g[2] = {static_cast<double>(t), 1.0}, decay[2] = {0.025, 0.0};
      for (int i = 0; i < 2; ++i) {
        if (which == 2) {
          m[i] = 0.9 * m[i] + 0.1 * g[i];
          v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
          const double mh = m[i] / (1 - std::pow(0.9, t)), vh = v[i] / (1 - std::pow(0.999, t));
          p[i] -= 0.1 * (mh / (std::sqrt(vh) + 1e-8) + decay[i] * p[i]);
        } else {
          const double d = g[i] + decay[i] * p[i];
          m[i] = 0.9 * m[i] + d;
          p[i] -= 0.1 * (which == 1 ? d + 0.9 * m[i] : m[i]);
        }
      }
      CHECK(tape->data(w)[0] == doctest::Approx(p[0]).epsilon(1e-5));
      CHECK(tape->data(bias)[0] == doctest::Approx(p[1]).epsilon(1e-5));
    }
    // What is not finite is named, and changes nothing.
    const float kept = tape->data(w)[0];
    REQUIRE(tape->forward(std::vector<float>{INFINITY}, true).ok());
    const std::vector<float> one = {1.0F};
    const Tape::Seed seed{tape->output(), one};
    REQUIRE(tape->backward({&seed, 1}).ok());
    const Checked failed = optimizer.step(0.1F);
    REQUIRE(!failed.ok());
    CHECK(failed.error().message.find("linear2.weight") != std::string::npos);
    CHECK(tape->data(w)[0] == kept);
  }
}

TEST_CASE("optimizer: relative moves are in codes, in steps and in sizes") {
  GraphBuilder b(4);
  const ValueId x = b.input({1, 2});
  const ValueId w = b.constant({2, 2}, {0.52F, -0.27F, 2.8F, 1.3F}),
                bias = b.constant({2}, {3.0F, 4.0F});
  Graph graph = b.finish(b.node(Linear{}, {x, w, bias}));
  graph.nodes[0].weight_quant = WeightQuant{{4, true, {0.1F, 1.0F}, 0, -8, 7}, {5, -3, 3, 1}};
  auto tape = Tape::create(graph, {.batch = 1});
  REQUIRE(tape.ok());
  OptimizerOptions options;
  options.method = Method::kAdamW;
  options.weight_decay = 0.0F;
  options.epsilon = 0.0F;
  options.step_rate = 0.5F;
  options.relative = true;
  Optimizer optimizer(&*tape, options);
  REQUIRE(tape->forward(std::vector<float>{1.0F, 1.0F}, true).ok());
  const std::vector<float> up = {1.0F, -1.0F};
  const Tape::Seed seed{tape->output(), up};
  REQUIRE(tape->backward({&seed, 1}).ok());
  REQUIRE(optimizer.step(0.2F).ok());
  // The first move of AdamW is the sign of the gradient times the rate.
  const std::span<const float> moved = tape->data(w), shifted = tape->data(bias);
  CHECK(moved[0] == doctest::Approx(0.52 - 0.2 * 0.1));
  CHECK(moved[3] == doctest::Approx(1.3 + 0.2 * 1.0));
  const double size = std::sqrt(12.5);
  CHECK(shifted[0] == doctest::Approx(3.0 - 0.1 * size));
  CHECK(shifted[1] == doctest::Approx(4.0 + 0.1 * size));
  for (const Parameter& parameter : tape->parameters())
    if (parameter.role == Role::kStep)
      for (size_t i = 0; i < 2; ++i) {
        const double first = i == 0 ? 0.1 : 1.0;
        CHECK(std::abs(tape->data(parameter.value)[i] - first) == doctest::Approx(0.1 * first));
      }
}

// What the first move by AdamW, at a rate of 0.2, takes from the weights of a layer of this width.
float first_move(int bits) {
  const int32_t half = 1 << (bits - 1);
  GraphBuilder b(4);
  const ValueId x = b.input({1, 2}), w = b.constant({1, 2}, {-0.5F, -0.5F});
  Graph graph = b.finish(b.node(Linear{}, {x, w}));
  graph.nodes[0].weight_quant = WeightQuant{{bits, true, {0.5F}, 0, -half, half - 1}, {-1, -1}};
  auto tape = Tape::create(graph, {.batch = 1});
  REQUIRE(tape.ok());
  Optimizer optimizer(&*tape, kRelativeAdamW);
  REQUIRE(tape->forward(std::vector<float>{1.0F, 1.0F}, true).ok());
  const std::vector<float> up = {1.0F};
  const Tape::Seed seed{tape->output(), up};
  REQUIRE(tape->backward({&seed, 1}).ok());
  REQUIRE(optimizer.step(0.2F).ok());
  return -0.5F - tape->data(w)[0];
}

TEST_CASE(
    "optimizer: one relative rate moves weights of 2 and of 4 bits over the same share of the "
    "range") {
  CHECK(first_move(8) == doctest::Approx(0.2 * 0.5));
  CHECK(first_move(4) == doctest::Approx(0.2 * 0.5));
  CHECK(first_move(2) == doctest::Approx(0.2 * 0.5 * 3 / 15));
}

namespace {

// Convolutions with batch norm, a shortcut with a projection, a classifier.
Graph residual_net(GraphBuilder* b) {
  const auto conv_bn = [&](ValueId x, int64_t out, int64_t in, int64_t k, uint32_t stride) {
    const auto pad = static_cast<uint32_t>(k / 2);
    const ValueId y =
        b->node(Conv{stride, stride, pad, pad, pad, pad}, {x, b->random({out, in, k, k}, 0.3F)});
    return b->node(BatchNorm{},
                   {y, b->random({out}, 0.8F), b->random({out}, 0.3F), b->random({out}, 0.1F),
                    b->constant({out}, std::vector<float>(static_cast<size_t>(out), 0.7F))});
  };
  ValueId x = b->node(Relu{}, {conv_bn(b->input({1, 3, 8, 8}), 8, 3, 3, 1)});
  for (const bool project : {true, false}) {
    const int64_t in = project ? 8 : 16;
    ValueId y = b->node(Relu{}, {conv_bn(x, 16, in, 3, project ? 2 : 1)});
    y = conv_bn(y, 16, 16, 3, 1);
    x = b->node(Relu{}, {b->node(Add{}, {y, project ? conv_bn(x, 16, in, 1, 2) : x})});
  }
  x = b->node(Flatten{}, {b->node(AvgPool{}, {x})});
  return b->finish(b->node(Linear{}, {x, b->random({5, 16}, 0.4F), b->random({5}, 0.1F)}));
}

}  // namespace

namespace {

// The second layer of the first block.
std::string inner_layer(const Graph& graph) {
  int convs = 0;
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Conv>(node.op) && ++convs == 3) return node.name;
  return "";
}

}  // namespace

TEST_CASE("quantisers: a net trained with them converts to a model of the same codes") {
  constexpr uint32_t kBatch = 8;
  constexpr size_t kImage = 3 * 8 * 8;
  GraphBuilder b(11);
  const Graph real = residual_net(&b);
  const std::vector<float> images = b.random_data(kBatch * kImage);  // channels last
  auto start = Tape::create(real, {.batch = kBatch});
  REQUIRE(start.ok());
  REQUIRE(start->forward(images, false).ok());
  for (const bool channel_steps : {false, true}) {
    BitsMap bits = uniform_bits(real, 4, 4);
    bits[inner_layer(real)] = {2, 2};
    const Result<Graph> quantised =
        add_quantizers(real, bits, &*start,
                       {.first = channel_steps ? FirstStep::kMse : FirstStep::kLsq,
                        .channel_steps = channel_steps});
    REQUIRE_MESSAGE(quantised.ok(), quantised.error().message);
    auto tape = Tape::create(*quantised, {.batch = kBatch});
    REQUIRE(tape.ok());
    Optimizer optimizer(&*tape, {});
    const std::vector<int32_t> labels = {0, 1, 2, 3, 4, 0, 1, 2};
    double first = 0.0, last = 0.0;
    for (int step = 0; step < 20; ++step) {
      REQUIRE(tape->forward(images, true).ok());
      std::vector<float> gradient(kBatch * 5);
      last = cross_entropy(tape->data(tape->output()), 5, labels, {1.0F, gradient});
      if (step == 0) first = last;
      const Tape::Seed seed{tape->output(), gradient};
      REQUIRE(tape->backward({&seed, 1}).ok());
      REQUIRE(optimizer.step(0.02F).ok());
    }
    CHECK(last < 0.7 * first);

    // The trained net, frozen, image by image: all its codes are the model's.
    REQUIRE(tape->forward(images, false).ok());
    Graph trained = tape->graph();
    REQUIRE(fold_bn(&trained).ok());
    const Result<LoweredModel> lowered = lower(trained, {.image_input = false});
    REQUIRE_MESSAGE(lowered.ok(), lowered.error().message);
    const auto bytes = format::write(lowered->model);
    REQUIRE_MESSAGE(bytes.ok(), bytes.error().message);
    const Graph at = tape->graph();
    size_t compared = 0, near_ties = 0;
    for (uint32_t image = 0; image < kBatch; ++image) {
      std::vector<float> nchw(kImage);
      for (size_t i = 0; i < kImage; ++i) nchw[i % 3 * 64 + i / 3] = images[image * kImage + i];
      const auto raw = std::as_bytes(std::span(nchw));
      const auto values = test::naive_run(lowered->model, {{raw.begin(), raw.end()}});
      for (const Node& node : at.nodes) {
        const auto* quant = std::get_if<FakeQuant>(&node.op);
        if (quant == nullptr) continue;
        const std::string& name = at.values[node.output].name;
        const auto tensor =
            std::find_if(lowered->model.tensors.begin(), lowered->model.tensors.end(),
                         [&](const format::Tensor& t) { return t.name == name; });
        REQUIRE_MESSAGE(tensor != lowered->model.tensors.end(), name);
        const auto& codes =
            values[static_cast<size_t>(tensor - lowered->model.tensors.begin())].ints;
        const Shape& shape = at.values[node.output].shape;
        const size_t plane = shape.size() == 4 ? static_cast<size_t>(shape[2] * shape[3]) : 1,
                     channels = static_cast<size_t>(shape[1]), count = plane * channels;
        REQUIRE(codes.size() == count);
        const float step = quant->spec.scale[0];
        const std::span<const float> x = tape->data(node.inputs[0]).subspan(image * count, count);
        for (size_t i = 0; i < count; ++i) {
          const size_t nchw_at = i % channels * plane + i / channels;
          const float y = tape->data(node.output)[image * count + i];
          const auto code = static_cast<int64_t>(std::nearbyint(y / step)) + quant->spec.zero_point;
          ++compared;
          if (code == codes[nchw_at]) continue;
          // One rounding of binary32 beside a tie; anything else is a bug.
          const float position = x[i] / step;
          CHECK(std::abs(position - std::floor(position) - 0.5F) < 1e-4F);
          ++near_ties;
        }
      }
      const auto output = lowered->model.outputs[0];
      for (size_t k = 0; k < 5; ++k)
        CHECK(values[output].reals[k] ==
              doctest::Approx(tape->data(tape->output())[image * 5 + k]).epsilon(1e-3).scale(1.0));
    }
    CHECK(compared > 10000);
    CHECK(near_ties == 0);
    MESSAGE(compared << " codes equal");
  }
}

TEST_CASE("quantisers: steps of a trained net are inherited, its float net is the same function") {
  GraphBuilder b(12);
  const Graph real = residual_net(&b);
  auto start = Tape::create(real, {.batch = 2});
  REQUIRE(start.ok());
  REQUIRE(start->forward(b.random_data(2 * 192), false).ok());
  const Result<Graph> trained = add_quantizers(real, uniform_bits(real, 4, 4), &*start);
  REQUIRE(trained.ok());
  const Graph plain = without_quantizers(*trained);
  CHECK(check(plain).ok());
  CHECK(plain.nodes.size() == real.nodes.size());
  BitsMap mixed = uniform_bits(real, 4, 4);
  mixed[inner_layer(real)] = {2, 2};
  Result<Graph> again = add_quantizers(plain, mixed, &*start, {.first = FirstStep::kLsq});
  REQUIRE(again.ok());
  inherit_steps(*trained, &*again);
  size_t same = 0, other = 0;
  for (const Node& node : again->nodes) {
    if (!node.weight_quant) continue;
    const auto twin = std::find_if(trained->nodes.begin(), trained->nodes.end(),
                                   [&](const Node& n) { return n.name == node.name; });
    const bool equal = twin->weight_quant->spec.scale == node.weight_quant->spec.scale;
    (equal ? same : other) += 1;
    if (!equal) CHECK(node.name == inner_layer(real));
    // Training goes on where it was, not on the codes.
    const std::vector<float>&left = trained->values[twin->inputs[1]].data,
          &found = again->values[node.inputs[1]].data;
    REQUIRE(found.size() == left.size());
    for (size_t i = 0; i < left.size(); ++i) CHECK(found[i] == doctest::Approx(left[i]));
  }
  CHECK(same == 6);
  CHECK(other == 1);

  // The same network as another tool may write it: a gain below 0, the channel's weights negated.
  Graph other_signs = *trained;
  for (const Node& bn : other_signs.nodes) {
    if (!std::holds_alternative<BatchNorm>(bn.op)) continue;
    Node& layer = other_signs.nodes[static_cast<size_t>(producer(other_signs, bn.inputs[0]))];
    WeightQuant& quant = *layer.weight_quant;
    const size_t width =
        quant.codes.size() / static_cast<size_t>(other_signs.values[layer.inputs[1]].shape[0]);
    for (size_t i = 0; i < width; ++i) {
      quant.positions[i] = -quant.positions[i];
      quant.codes[i] = static_cast<int8_t>(std::min(-quant.codes[i], quant.spec.hi));
    }
    for (const size_t k : {1, 3}) {
      float& first = other_signs.values[bn.inputs[k]].data[0];
      first = -first;
    }
  }
  Result<Graph> turned =
      add_quantizers(without_quantizers(other_signs), mixed, &*start, {.first = FirstStep::kLsq});
  REQUIRE(turned.ok());
  inherit_steps(other_signs, &*turned);
  for (size_t n = 0; n < again->nodes.size(); ++n) {
    if (!again->nodes[n].weight_quant) continue;
    const std::vector<float>&left = again->values[again->nodes[n].inputs[1]].data,
          &found = turned->values[turned->nodes[n].inputs[1]].data;
    for (size_t i = 0; i < left.size(); ++i) CHECK(found[i] == doctest::Approx(left[i]));
    for (size_t i = 0; i < left.size(); ++i)
      CHECK(turned->nodes[n].weight_quant->codes[i] == again->nodes[n].weight_quant->codes[i]);
  }
  CHECK(!add_quantizers(real, {{"conv99", {4, 4}}}, &*start).ok());
  CHECK(!add_quantizers(real, {{inner_layer(real), {3, 4}}}, &*start).ok());
  CHECK(!add_quantizers(*trained, {}, &*start).ok());
}

}  // namespace mpq::convert::train
