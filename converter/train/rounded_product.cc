#include "converter/train/rounded_product.h"

#include "converter/half.h"
#include "converter/train/loops.h"

namespace mpq::convert::train {
namespace {

MPQ_CLONES void round(const float* x, uint16_t* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = float_to_bfloat16(x[i]);
}
MPQ_CLONES void round(const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = bfloat16_to_float(float_to_bfloat16(x[i]));
}
MPQ_CLONES void widen(const uint16_t* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) y[i] = bfloat16_to_float(x[i]);
}

struct Dims {
  int64_t rows, columns;
  dnnl::memory::dims strides;
};
Dims dims_of(const Factor& factor) {
  const auto rows = static_cast<int64_t>(factor.matrix.rows),
             columns = static_cast<int64_t>(factor.matrix.columns);
  return factor.transposed ? Dims{columns, rows, {1, columns}} : Dims{rows, columns, {columns, 1}};
}

dnnl::memory memory_of(const dnnl::memory::desc& desc, const Engine& engine, const void* data) {
  return {desc, engine.engine, const_cast<void*>(data)};
}

// A matrix as it is multiplied; `wide` holds it where that is binary32.
dnnl::memory factor_of(const dnnl::memory::desc& desc, const Engine& engine,
                       const RoundedMatrix& matrix, std::vector<float>* wide) {
  if (!engine.widened) return memory_of(desc, engine, matrix.data.data());
  wide->resize(matrix.data.size());
  parallel_for(wide->size(), kGrain, [&](size_t begin, size_t end) {
    widen(matrix.data.data() + begin, wide->data() + begin, end - begin);
  });
  return memory_of(desc, engine, wide->data());
}

}  // namespace

bool multiplies_bfloat16(const dnnl::engine& engine) {
  using Desc = dnnl::memory::desc;
  constexpr auto kRounded = dnnl::memory::data_type::bf16, kSum = dnnl::memory::data_type::f32;
  const dnnl::memory::dims one = {1, 1};
  try {
    (void)dnnl::matmul::primitive_desc(
        {Desc(one, kRounded, one), Desc(one, kRounded, one), Desc(one, kSum, one)}, engine);
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

void round_to_bfloat16(std::span<const float> x, float* y) {
  parallel_for(x.size(), kGrain,
               [&](size_t begin, size_t end) { round(x.data() + begin, y + begin, end - begin); });
}

void RoundedMatrix::assign(std::span<const float> x, size_t x_columns, size_t block) {
  columns = x_columns;
  rows = (x.size() / columns + block - 1) / block * block;
  data.resize(rows * columns);
  parallel_for(x.size(), kGrain, [&](size_t begin, size_t end) {
    round(x.data() + begin, data.data() + begin, end - begin);
  });
  std::fill(data.begin() + static_cast<ptrdiff_t>(x.size()), data.end(), uint16_t{0});
}

const float* RoundedProduct::operator()(const Factor& a, const Factor& b) const {
  using Desc = dnnl::memory::desc;
  using Type = dnnl::memory::data_type;
  constexpr auto kSum = Type::f32;
  const Type type = engine_->widened ? kSum : Type::bf16;
  const Dims left = dims_of(a), right = dims_of(b);
  const Desc a_desc({left.rows, left.columns}, type, left.strides),
      b_desc({right.rows, right.columns}, type, right.strides),
      y_desc({left.rows, right.columns}, kSum, dnnl::memory::dims{right.columns, 1});
  std::vector<float>& y = engine_->product;
  y.resize(static_cast<size_t>(left.rows * right.columns));
  const dnnl::matmul product(
      dnnl::matmul::primitive_desc({a_desc, b_desc, y_desc}, engine_->engine));
  product.execute(engine_->stream,
                  {{DNNL_ARG_SRC, factor_of(a_desc, *engine_, a.matrix, &engine_->wide[0])},
                   {DNNL_ARG_WEIGHTS, factor_of(b_desc, *engine_, b.matrix, &engine_->wide[1])},
                   {DNNL_ARG_DST, memory_of(y_desc, *engine_, y.data())}});
  engine_->stream.wait();
  return y.data();
}

}  // namespace mpq::convert::train
