// Products of matrices rounded to bfloat16, summed in binary32 by oneDNN.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converter/train/step.h"

namespace mpq::convert::train {

// Whether oneDNN multiplies bfloat16 on this CPU: it does from AVX-512 up. Elsewhere what is
// rounded is multiplied in binary32: the same products, no gain in time.
bool multiplies_bfloat16(const dnnl::engine& engine);

// Each number as bfloat16 has it: nearest, ties to even.
void round_to_bfloat16(std::span<const float> x, float* y);

// Row-major. Rows of 0 fill the last block of rows: oneDNN compiles a kernel for each number of
// rows, and the number of tokens is another one in every run.
struct RoundedMatrix {
  static constexpr size_t kAnyRows = 1, kTokenRows = 32;  // a block

  size_t rows = 0, columns = 0;
  std::vector<uint16_t> data;

  void assign(std::span<const float> x, size_t x_columns, size_t block);
};

struct Factor {
  const RoundedMatrix& matrix;
  bool transposed = false;
};

class RoundedProduct {
 public:
  explicit RoundedProduct(Engine* engine) : engine_(engine) {}
  // a b, row-major, with the rows that fill a's block. Good until the next product of the engine.
  const float* operator()(const Factor& a, const Factor& b) const;

 private:
  Engine* engine_;
};

}  // namespace mpq::convert::train
