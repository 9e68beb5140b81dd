// softmax(q k^T / sqrt(d) + bias[j - i]) v for each head of each sequence. The probabilities are
// kept for the way back.
#include <cmath>
#include <memory>

#include "converter/train/exponential.h"
#include "converter/train/loops.h"
#include "converter/train/product.h"

namespace mpq::convert::train {
namespace {

// One head of one sequence of n tokens; rows have the stride `width`.
struct Head {
  size_t at, n;          // first element of its columns in the first row; tokens
  const float* bias;     // of key - query = 0, or null
  float* bias_gradient;  // the same place in its gradient, or null
};

class Heads {
 public:
  explicit Heads(const StepContext& context)
      : width_(context.width()),
        heads_(std::get<Attention>(context.node.op).heads),
        d_(width_ / heads_),
        factor_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(d_)))) {}

  void forward(Inputs in, std::span<float> y, const Run& run) {
    size_t total = 0;
    for_each(in, {}, run, [&](const Head& head) { total += head.n * head.n; });
    probabilities_.resize(total);
    float* p = probabilities_.data();
    for_each(in, {}, run, [&](const Head& head) {
      const size_t n = head.n;
      product({'N', 'T', n, n, d_}, rows(in[0], head), rows(in[1], head), {p, n}, false, factor_);
      softmax(head, p);
      product({'N', 'N', n, d_, n}, {p, n}, rows(in[2], head), {y.data() + head.at, width_}, false);
      p += n * n;
    });
  }

  void backward(Inputs in, std::span<const float> dy, std::span<const Sink> sinks, const Run& run) {
    const Sink bias = sinks.size() > 3 ? sinks[3] : Sink{};
    if (!bias.add) std::fill(bias.grad.begin(), bias.grad.end(), 0.0F);
    const float* p = probabilities_.data();
    std::vector<float> ds;
    for_each(in, bias.grad, run, [&](const Head& head) {
      const size_t n = head.n;
      const Rows<const float> g = rows(dy, head);
      if (!sinks[2].grad.empty())
        product({'T', 'N', n, d_, n}, {p, n}, g, to(sinks[2], head), sinks[2].add);
      ds.resize(n * n);
      product({'N', 'T', n, n, d_}, g, rows(in[2], head), {ds.data(), n}, false);
      softmax_gradient(head, p, ds.data());
      if (!sinks[0].grad.empty())
        product({'N', 'N', n, d_, n}, {ds.data(), n}, rows(in[1], head), to(sinks[0], head),
                sinks[0].add, factor_);
      if (!sinks[1].grad.empty())
        product({'T', 'N', n, d_, n}, {ds.data(), n}, rows(in[0], head), to(sinks[1], head),
                sinks[1].add, factor_);
      p += n * n;
    });
  }

 private:
  Rows<const float> rows(std::span<const float> x, const Head& head) const {
    return {x.data() + head.at, width_};
  }
  Rows<float> to(const Sink& sink, const Head& head) const {
    return {sink.grad.data() + head.at, width_};
  }

  template <typename Body>
  void for_each(Inputs in, std::span<float> bias_gradient, const Run& run, const Body& body) const {
    const std::vector<uint32_t>& starts = run.sequences->starts;
    const bool biased = in.size() > 3 && !in[3].empty();
    const size_t row = biased ? in[3].size() / heads_ : 0;
    for (size_t s = 0; s + 1 < starts.size(); ++s)
      for (size_t h = 0; h < heads_; ++h) {
        const size_t zero = h * row + row / 2;
        body(Head{starts[s] * width_ + h * d_, starts[s + 1] - starts[s],
                  biased ? in[3].data() + zero : nullptr,
                  bias_gradient.empty() ? nullptr : bias_gradient.data() + zero});
      }
  }

  static void softmax(const Head& head, float* p) {
    const size_t n = head.n;
    parallel_for(n, kGrain / n + 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        float* const row = p + i * n;
        if (head.bias != nullptr)
          for (size_t j = 0; j < n; ++j)
            row[j] += head.bias[static_cast<ptrdiff_t>(j) - static_cast<ptrdiff_t>(i)];
        const float top = *std::max_element(row, row + n);
        float total = 0.0F;
        for (size_t j = 0; j < n; ++j) total += row[j] = exp_of(row[j] - top);
        for (size_t j = 0; j < n; ++j) row[j] /= total;
      }
    });
  }

  // dp -> ds = p (dp - sum of dp p), in place.
  static void softmax_gradient(const Head& head, const float* p, float* ds) {
    const size_t n = head.n;
    parallel_for(n, kGrain / n + 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        float sum = 0.0F;
        for (size_t j = i * n; j < (i + 1) * n; ++j) sum += ds[j] * p[j];
        for (size_t j = i * n; j < (i + 1) * n; ++j) ds[j] = p[j] * (ds[j] - sum);
      }
    });
    if (head.bias_gradient == nullptr) return;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        head.bias_gradient[static_cast<ptrdiff_t>(j) - static_cast<ptrdiff_t>(i)] += ds[i * n + j];
  }

  size_t width_, heads_, d_;
  float factor_;
  std::vector<float> probabilities_;
};

}  // namespace

Step make_attention(const StepContext& context) {
  const auto heads = std::make_shared<Heads>(context);  // of both functions
  Step step;
  step.forward = [heads](Inputs in, std::span<float> y, const Run& run) {
    heads->forward(in, y, run);
  };
  step.backward = [heads](Inputs in, std::span<const float>, std::span<const float> dy,
                          std::span<const Sink> sinks,
                          const Run& run) { heads->backward(in, dy, sinks, run); };
  return step;
}

}  // namespace mpq::convert::train
