#include "gradient_check.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace mpq::convert::train {
namespace {

constexpr uint32_t kBatch = 3;

std::vector<float> normal_numbers(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> data(count);
  for (float& v : data) {
    v = normal(rng);
    if (std::abs(v) < 0.05F) v = std::copysign(0.05F, v);  // kinks lie at 0
  }
  return data;
}

}  // namespace

std::map<std::string, double> gradient_errors(const Graph& graph, const GradientCheck& check) {
  auto created = Tape::create(graph, {.batch = kBatch, .input_gradient = true});
  REQUIRE_MESSAGE(created.ok(), created.error().message);
  Tape& tape = *created;
  std::vector<float> images;
  if (check.sequences == nullptr) {
    uint64_t elements = 0;
    REQUIRE(checked_elements(graph.values[graph.inputs[0]].shape, &elements));
    images = normal_numbers(elements * kBatch, 5);
  }
  const auto run = [&] {
    const Checked done = check.sequences == nullptr
                             ? tape.forward(images, check.batch_moments)
                             : tape.forward(*check.sequences, check.batch_moments);
    REQUIRE_MESSAGE(done.ok(), done.error().message);
  };
  run();
  const std::vector<float> direction = normal_numbers(tape.data(tape.output()).size(), 6);
  const auto loss = [&] {
    run();
    double sum = 0.0;
    const std::span<const float> y = tape.data(tape.output());
    for (size_t i = 0; i < y.size(); ++i) sum += double{y[i]} * double{direction[i]};
    return sum;
  };
  const Tape::Seed seed{tape.output(), direction};
  const Checked done = tape.backward({&seed, 1});
  REQUIRE_MESSAGE(done.ok(), done.error().message);
  if (check.after_backward) check.after_backward(&tape);

  std::map<std::string, double> errors;
  const auto compare = [&](const std::string& name, std::span<float> x, std::span<const float> g) {
    const std::vector<float> gradient(g.begin(), g.end());
    REQUIRE(gradient.size() == x.size());
    double worst = 0.0, largest = 1e-3;
    for (size_t i = 0; i < x.size(); ++i) {
      const float kept = x[i];
      x[i] = kept + check.width;
      const double above = loss();
      x[i] = kept - check.width;
      const double below = loss();
      const double slope = (above - below) / (double{kept + check.width} - (kept - check.width));
      x[i] = kept;
      worst =
          std::max(worst, std::isfinite(gradient[i]) ? std::abs(slope - gradient[i]) : INFINITY);
      largest = std::max(largest, std::abs(slope));
    }
    errors[name] = worst / largest;
  };
  if (!images.empty()) compare("input", images, tape.gradient(graph.inputs[0]));
  for (const Parameter& parameter : tape.parameters())
    if (parameter.trained && parameter.bits == 32)
      compare(parameter.name, tape.data(parameter.value), tape.gradient(parameter.value));
  return errors;
}

double worst_gradient_error(const Graph& graph, const GradientCheck& check) {
  double worst = 0.0;
  for (const auto& error : gradient_errors(graph, check)) {
    INFO(error.first << ": " << error.second);
    worst = std::max(worst, error.second);
  }
  return worst;
}

}  // namespace mpq::convert::train
