// Functions of real numbers: how far from binary64, and the same bits in every width.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/math/map.h"
#include "tests/kernels/harness.h"

namespace mpq::test {
namespace {

using kernels::Function;
using kernels::map_kernels;
using kernels::MapKernel;

enum class Error : uint8_t { kAbsolute, kRelative, kUlps };  // kAbsolute: per max(1, |x|)
struct Definition {
  Function function;
  const char* name;
  double (*exact)(double);
  double tolerance;  // the largest error against it
  Error error;
  bool nonpositive = false;  // its domain
};
double exact_exp(double x) { return std::exp(x < -87.0 ? -87.0 : x); }
double exact_parts(double x) { return 255.0 * std::exp2(std::fmax(x / std::log(2.0), -20.0)); }
double exact_gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double exact_gelu_tanh(double x) {
  return 0.5 * x *
         (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
constexpr Definition kDefinitions[] = {
    {Function::kExpNonpositive, "exp", exact_exp, 1.1, Error::kUlps, true},
    {Function::kPartsOf255, "parts_of_255", exact_parts, 4.5e-6, Error::kRelative, true},
    {Function::kTanh, "tanh", std::tanh, 1.3e-7, Error::kAbsolute},
    {Function::kGelu, "gelu", exact_gelu, 1e-7, Error::kAbsolute},
    {Function::kGeluTanh, "gelu_tanh", exact_gelu_tanh, 1e-7, Error::kAbsolute},
};

// Every exponent and sign, mantissas a prime apart: about 2^20 numbers. Some take those below 0.
std::vector<float> inputs(const Definition& d) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 4093) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (!std::isfinite(value)) continue;
    x.push_back(d.nonpositive ? -std::fabs(value) : value);
  }
  for (int i = -20000; i <= 20000; ++i) {  // where the functions bend
    const float value = static_cast<float>(i) * 0.00093F;
    x.push_back(d.nonpositive ? -std::fabs(value) : value);
  }
  return x;
}

const MapKernel& reference() { return map_kernels().back(); }

std::vector<float> apply(const MapKernel& row, Function function, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  row.run[static_cast<int>(function)](x.data(), y.data(), x.size());
  return y;
}

double error(const Definition& d, float x, float y) {
  const double exact = d.exact(x), distance = std::fabs(y - exact);
  if (d.error == Error::kAbsolute)
    return distance / std::max(1.0, std::fabs(static_cast<double>(x)));
  if (d.error == Error::kRelative) return distance / exact;
  const auto rounded = static_cast<float>(exact);
  return distance / (std::nextafterf(rounded, INFINITY) - rounded);
}
double largest_error(const Definition& d, const std::vector<float>& x,
                     const std::vector<float>& y) {
  double largest = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = error(d, x[i], y[i]);
    if (!(e <= largest)) largest = e;
  }
  return largest;
}

TEST_CASE("math: every function is as near to binary64 as it says") {
  for (const Definition& d : kDefinitions) {
    const std::vector<float> x = inputs(d);
    std::vector<float> y = apply(reference(), d.function, x);
    const double largest = largest_error(d, x, y);
    MESSAGE(std::string(d.name), ": largest error ", largest,
            std::string(d.error == Error::kUlps ? " ulp" : ""), ", ", x.size(), " numbers");
    CHECK(largest <= d.tolerance);
    // Planted: one result is a little off.
    const size_t at = x.size() - 20000;  // near 0.0
    y[at] +=
        d.error == Error::kAbsolute ? 3e-6F : y[at] * (d.error == Error::kUlps ? 4e-7F : 2e-5F);
    CHECK(largest_error(d, x, y) > d.tolerance);
  }
}

TEST_CASE("math: every row gives the reference's bits, not-a-number and infinities aside") {
  for (const MapKernel& row : map_kernels()) {
    if (!can_run(row.name, row.isa)) continue;
    for (const Definition& d : kDefinitions) {
      const std::vector<float> x = inputs(d);
      const std::vector<float> expected = apply(reference(), d.function, x),
                               y = apply(row, d.function, x);
      CHECK_MESSAGE(std::memcmp(expected.data(), y.data(), y.size() * sizeof(float)) == 0, row.name,
                    " ", d.name);
    }
  }
}

TEST_CASE("math: any number of elements, in place, and nothing behind them") {
  for (const MapKernel& row : map_kernels()) {
    if (!can_run(row.name, row.isa)) continue;
    for (size_t n = 0; n < 70; ++n) {
      std::vector<float> x(n + 1), expected(n + 1);
      for (size_t i = 0; i <= n; ++i) x[i] = expected[i] = 0.37F * static_cast<float>(i) - 9.0F;
      reference().run[static_cast<int>(Function::kGelu)](expected.data(), expected.data(), n);
      row.run[static_cast<int>(Function::kGelu)](x.data(), x.data(), n);
      CHECK(x == expected);
    }
  }
}

}  // namespace
}  // namespace mpq::test
