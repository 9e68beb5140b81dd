// Loops over tensors: on all cores, with sums whose order does not depend on their number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "converter/parallel.h"
#include "converter/train/step.h"

namespace mpq::convert::train {

// For loops that are worth more than what every processor has.
#define MPQ_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

inline constexpr size_t kGrain = size_t{1} << 15;  // elements worth a thread

// value(i) for each element of a gradient.
template <typename Value>
void give(const Sink& sink, const Value& value) {
  float* const to = sink.grad.data();
  parallel_for(sink.grad.size(), kGrain, [&](size_t begin, size_t end) {
    if (sink.add)
      for (size_t i = begin; i < end; ++i) to[i] += value(i);
    else
      for (size_t i = begin; i < end; ++i) to[i] = value(i);
  });
}

template <typename Value>
void fill(std::span<float> to, const Value& value) {
  give({to, false}, value);
}

// body(r, c) for each row and column.
template <typename Body>
void for_rows(size_t rows, size_t width, const Body& body) {
  parallel_for(rows, kGrain / std::max<size_t>(width, 1) + 1, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      for (size_t c = 0; c < width; ++c) body(r, c);
  });
}

// Where a computation that overwrites may put a gradient: straight into the sink, or beside it.
class Overwriting {
 public:
  explicit Overwriting(const Sink& sink) : sink_(sink), beside_(sink.add ? sink.grad.size() : 0) {}
  float* data() { return sink_.add ? beside_.data() : sink_.grad.data(); }
  void finish() {
    if (sink_.add) give(sink_, [&](size_t i) { return beside_[i]; });
  }

 private:
  const Sink& sink_;
  std::vector<float> beside_;
};

// Calls body(begin, end, block) for fixed blocks of [0, count), on all cores.
template <typename Body>
void for_blocks(size_t count, size_t block, const Body& body) {
  const size_t blocks = (count + block - 1) / block;
  parallel_for(blocks, 1, [&](size_t first, size_t last) {
    for (size_t b = first; b < last; ++b) body(b * block, std::min(count, (b + 1) * block), b);
  });
}

// total[c] = sum over rows of what row(r, sums) adds to sums[0 .. width): blocks of rows in
// binary32, blocks together in binary64.
template <typename Row>
std::vector<double> sum_rows(size_t rows, size_t width, const Row& row) {
  const size_t block = std::max<size_t>(kGrain / std::max<size_t>(width, 1), 16);
  std::vector<float> partial((rows + block - 1) / block * width);
  for_blocks(rows, block, [&](size_t begin, size_t end, size_t b) {
    for (size_t r = begin; r < end; ++r) row(r, partial.data() + b * width);
  });
  std::vector<double> total(width);
  for (size_t first = 0; first < partial.size(); first += width)
    for (size_t c = 0; c < width; ++c) total[c] += partial[first + c];
  return total;
}

inline void give_sums(const Sink& sink, const std::vector<double>& sums, size_t from = 0) {
  for (size_t i = 0; i < sink.grad.size(); ++i) {
    const auto value = static_cast<float>(sums[from + i]);
    sink.grad[i] = sink.add ? sink.grad[i] + value : value;
  }
}

// The gradient of a bias: sums of dy over rows.
inline void give_bias(const Sink& sink, std::span<const float> dy) {
  const size_t width = sink.grad.size();
  if (width == 0) return;
  give_sums(sink, sum_rows(dy.size() / width, width, [&](size_t r, float* sums) {
              const float* const row = dy.data() + r * width;
              for (size_t c = 0; c < width; ++c) sums[c] += row[c];
            }));
}

}  // namespace mpq::convert::train
