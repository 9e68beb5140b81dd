// Ids to rows of tokens, rows of tokens to rows of sequences.
#include <cmath>

#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

// The rows of the tables that token t of a sequence adds up.
struct TokenRows {
  size_t word, position, type;
};

template <typename Body>
void for_each_token(const SequenceData& data, uint32_t first_position, const Body& body) {
  for (size_t s = 0; s < data.count(); ++s)
    for (size_t t = data.starts[s]; t < data.starts[s + 1]; ++t)
      body(t, TokenRows{static_cast<size_t>(data.ids[t]), first_position + t - data.starts[s],
                        data.types.empty() ? 0 : static_cast<size_t>(data.types[t])});
}

void clear(const Sink& sink) {
  if (!sink.add) std::fill(sink.grad.begin(), sink.grad.end(), 0.0F);
}

}  // namespace

Step make_embedding(const StepContext& context) {
  const size_t width = context.width();
  const uint32_t first = std::get<Embedding>(context.node.op).first_position;
  const bool typed = context.has(4);
  Step step;
  step.forward = [=](Inputs in, std::span<float> y, const Run& run) {
    for_each_token(*run.sequences, first, [&](size_t t, const TokenRows& rows) {
      for (size_t i = 0; i < width; ++i)
        y[t * width + i] = in[2][rows.word * width + i] + in[3][rows.position * width + i] +
                           (typed ? in[4][rows.type * width + i] : 0.0F);
    });
  };
  step.backward = [=](Inputs, std::span<const float>, std::span<const float> dy,
                      std::span<const Sink> sinks, const Run& run) {
    for (const Sink& sink : sinks.subspan(2)) clear(sink);
    const auto add = [&](const Sink& sink, size_t row, size_t t) {
      if (sink.grad.empty()) return;
      for (size_t i = 0; i < width; ++i) sink.grad[row * width + i] += dy[t * width + i];
    };
    for_each_token(*run.sequences, first, [&](size_t t, const TokenRows& rows) {
      add(sinks[2], rows.word, t);
      add(sinks[3], rows.position, t);
      if (typed) add(sinks[4], rows.type, t);
    });
  };
  return step;
}

Step make_sequence_pool(const StepContext& context) {
  const size_t width = context.width();
  const SequencePool op = std::get<SequencePool>(context.node.op);
  constexpr double kShortest = 1e-12;
  // Of a sequence: its mean (or first) row before it is normalised, and that row's length.
  const auto pooled = [=](Inputs in, const SequenceData& data, size_t s, float* row) {
    const size_t first = data.starts[s], n = op.mean ? data.starts[s + 1] - first : 1;
    double square = 0.0;
    for (size_t i = 0; i < width; ++i) {
      double sum = 0.0;
      for (size_t t = first; t < first + n; ++t) sum += in[0][t * width + i];
      row[i] = static_cast<float>(sum / static_cast<double>(n));
      square += double{row[i]} * double{row[i]};
    }
    return op.normalise ? static_cast<float>(std::max(std::sqrt(square), kShortest)) : 1.0F;
  };
  Step step;
  step.forward = [=](Inputs in, std::span<float> y, const Run& run) {
    for (size_t s = 0; s < run.sequences->count(); ++s) {
      float* const row = y.data() + s * width;
      const float length = pooled(in, *run.sequences, s, row);
      for (size_t i = 0; i < width; ++i) row[i] /= length;
    }
  };
  step.backward = [=](Inputs in, std::span<const float> y, std::span<const float> dy,
                      std::span<const Sink> sinks, const Run& run) {
    const Sink& dx = sinks[0];
    if (dx.grad.empty()) return;
    clear(dx);
    const SequenceData& data = *run.sequences;
    std::vector<float> g(width);
    for (size_t s = 0; s < data.count(); ++s) {
      const float length = pooled(in, data, s, g.data());
      const float *const out = y.data() + s * width, *const d = dy.data() + s * width;
      double along = 0.0;  // of y = v / |v|: dv = (dy - y (y dy)) / |v|
      if (op.normalise)
        for (size_t i = 0; i < width; ++i) along += double{out[i]} * double{d[i]};
      const size_t first = data.starts[s], n = op.mean ? data.starts[s + 1] - first : 1;
      const float share = 1.0F / (length * static_cast<float>(n));
      for (size_t i = 0; i < width; ++i) g[i] = (d[i] - out[i] * static_cast<float>(along)) * share;
      for (size_t t = first; t < first + n; ++t)
        for (size_t i = 0; i < width; ++i) dx.grad[t * width + i] += g[i];
    }
  };
  return step;
}

}  // namespace mpq::convert::train
