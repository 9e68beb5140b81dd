#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "kernels/eltwise/eltwise.h"
#include "tests/kernels/planes_operand.h"

namespace mpq::test {
namespace {

using kernels::add_kernels;
using kernels::add_units;
using kernels::AddArgs;
using kernels::AddKernel;
using kernels::AddShape;
using kernels::WorkRange;

struct AddCase {
  AddShape shape;
  uint32_t cb = 64;
  bool second = false;
  bool all_pairs = false;  // of codes, and one of them on a tie
};
const AddShape kAllPairs = {1, 64, 16, 64};  // 2^16 elements

AddArgs random_scales(Rng& rng) {
  AddArgs a;
  a.a_zero_point = rng.pick({0, 1, 8, 128, 255});
  a.b_zero_point = rng.pick({0, 1, 8, 128, 255});
  const bool ties = rng.chance(3);
  a.a_scale = ties ? 0.5F : rng.uniform(-1.0F, 2.0F);
  a.b_scale = ties ? 0.25F : rng.chance(8) ? 3e38F : rng.uniform(-1.0F, 2.0F);
  a.bias = ties ? 0.0F : rng.uniform(-20.0F, 150.0F);
  a.lo = rng.chance(3) ? 2 : 0;
  a.hi = rng.pick({3, 15, 255});
  a.second_scale = rng.uniform(0.02F, 1.5F);
  a.second_bias = rng.uniform(-4.0F, 4.0F);
  a.second_lo = rng.chance(3) ? 1 : 0;
  a.second_hi = rng.pick({3, 15, 255});
  return a;
}

// Large scales that cancel, and a bias for which some pair of codes is between two codes to within
// far less than the sums' roundings: their order and number decide.
void put_a_pair_on_a_tie(AddArgs* args, Rng& rng) {
  args->a_scale = rng.uniform(20.0F, 60.0F);
  args->b_scale = -args->a_scale * rng.uniform(0.9F, 1.1F);
  args->b_zero_point = args->a_zero_point;  // so that equal codes nearly cancel
  args->hi = 255;
  for (;;) {
    const double a = double{args->a_scale} * (rng.between(0, 255) - args->a_zero_point);
    const double b = double{args->b_scale} * (rng.between(0, 255) - args->b_zero_point);
    if (std::fabs(a + b) > 200 || std::fabs(b) < 1000) continue;
    args->bias = static_cast<float>(rng.between(10, 50) + 0.5 - a - b);
    return;
  }
}

Problem add_problem(const AddKernel& row, const AddCase& c, Rng& rng) {
  const AddShape& s = c.shape;
  Problem p;
  p.text = "n " + std::to_string(s.n) + " c " + std::to_string(s.c) + " h " + std::to_string(s.h) +
           " w " + std::to_string(s.w) + " cb " + std::to_string(c.cb) + " second " +
           std::to_string(c.second);
  const auto any_code = [&](auto...) { return rng.chance(8) ? 255 : rng.between(0, 255); };
  const auto spec = [&] {
    PlanesSpec planes = with_random_gaps({s.n, s.c, s.h, s.w, c.cb}, rng);
    planes.halo = rng.below(2);
    return planes;
  };
  // The index of an element: its low byte is the code of a, its high byte that of b.
  const auto index = [&](uint32_t, uint32_t channel, uint32_t i, uint32_t j) {
    return static_cast<int32_t>((channel * s.h + i) * s.w + j);
  };
  const auto a_code = [&](auto... at) { return c.all_pairs ? index(at...) & 255 : any_code(); };
  const auto b_code = [&](auto... at) { return c.all_pairs ? index(at...) >> 8 : any_code(); };
  const PlanesOperand a = add_planes(&p, "a", spec(), Role::kInput, a_code);
  const PlanesOperand b = add_planes(&p, "b", spec(), Role::kInput, b_code);
  const PlanesOperand y = add_output_planes(&p, "y", spec());
  PlanesOperand second;
  if (c.second) second = add_output_planes(&p, "second y", spec());
  AddArgs args = random_scales(rng);
  if (c.all_pairs) put_a_pair_on_a_tie(&args, rng);
  args.shape = s;
  const auto bind = [=](Pointers at) {
    AddArgs bound = args;
    bound.a = a.at(at);
    bound.b = b.at(at);
    bound.y = y.at(at);
    if (c.second) bound.second = second.at(at);
    return bound;
  };
  const uint32_t units = add_units(s, c.cb);
  p.reference = [=](Pointers at) { add_kernels().back().run(bind(at), {0, units}); };
  p.kernel = [=, &row](Pointers at, Rng* parts) {
    run_units(units, parts, [&](WorkRange range) { row.run(bind(at), range); });
  };
  return p;
}

TEST_CASE("add: every kernel equals the reference") {
  for_each_kernel(add_kernels(), [](const AddKernel& row, Rng& rng) {
    const uint32_t cases = test_cases(300);
    for (uint32_t i = 0; i < cases; ++i) {
      AddCase c;
      c.shape = {1 + rng.below(3), i < 130 ? i + 1 : 1 + rng.below(200), 1 + rng.below(5),
                 1 + rng.below(20)};
      c.cb = rng.chance(2) ? kernels::channel_block(c.shape.c) : rng.pick({4U, 16U, 32U, 64U});
      c.second = rng.chance(2);
      const Problem p = add_problem(row, c, rng);
      require_ok(row.name, p, check(p, rng));
    }
  });
}

TEST_CASE("add: every kernel equals the reference on all pairs of codes") {
  for_each_kernel(add_kernels(), [](const AddKernel& row, Rng& rng) {
    for (uint32_t i = 0; i < test_cases(40); ++i) {
      const Problem p =
          add_problem(row, {.shape = kAllPairs, .second = true, .all_pairs = true}, rng);
      require_ok(row.name, p, check(p, rng));
    }
  });
}

TEST_CASE("add: the output may be an input") {
  for_each_kernel(add_kernels(), [](const AddKernel& row, Rng& rng) {
    std::vector<uint8_t> a(64 * 3), b(64 * 3), apart(64 * 3);
    for (uint8_t& code : a) code = static_cast<uint8_t>(rng.below(256));
    for (uint8_t& code : b) code = static_cast<uint8_t>(rng.below(256));
    const auto planes = [](std::vector<uint8_t>* v) {
      return kernels::Planes{.data = v->data(), .image = 192, .plane = 192, .row = 192, .cb = 64};
    };
    AddArgs args = random_scales(rng);
    args.shape = {1, 64, 1, 3};
    args.a = planes(&a);
    args.b = planes(&b);
    args.y = planes(&apart);
    row.run(args, {0, 1});
    args.y = args.a;
    row.run(args, {0, 1});
    CHECK(a == apart);
  });
}

void forget_zero_point(AddArgs* a) { a->b_zero_point = 0; }
void add_in_other_order(AddArgs* a) {
  std::swap(a->a, a->b);
  std::swap(a->a_scale, a->b_scale);
  std::swap(a->a_zero_point, a->b_zero_point);
}
void forget_second(AddArgs* a) { a->second.data = nullptr; }

template <void (*kSpoil)(AddArgs*)>
int times_caught() {
  Rng rng(test_seed());
  const AddKernel row = {"spoiled", kernels::kIsaScalar,
                         [](const AddArgs& args, const WorkRange& range) {
                           AddArgs spoiled = args;
                           kSpoil(&spoiled);
                           add_kernels().back().run(spoiled, range);
                         }};
  int caught = 0;
  for (int i = 0; i < 10; ++i) {
    const AddCase c = {.shape = kAllPairs, .second = true, .all_pairs = true};
    caught += check(add_problem(row, c, rng), rng).check == "bytes" ? 1 : 0;
  }
  return caught;
}

TEST_CASE("add: kernels that forget a zero point, the order of additions or an output are caught") {
  CHECK(times_caught<forget_zero_point>() > 5);
  CHECK(times_caught<add_in_other_order>() > 2);
  CHECK(times_caught<forget_second>() == 10);
}

TEST_CASE("add: the reference is the formula") {
  // (10 - 2) * 0.5 + (7 - 3) * 0.25 + 1.5 = 6.5 -> 6; second: 6.5 * 2 + 0.5 = 13.5 -> 14, and of v,
  // not of the code. (1 - 2) * 0.5 + (0 - 3) * 0.25 + 1.5 = 0.25 -> 1 by lo; second 1.
  uint8_t a[4] = {10, 1, 0, 0}, b[4] = {7, 0, 0, 0}, y[4] = {}, second[4] = {};
  AddArgs args = {.shape = {1, 2, 1, 1},
                  .a_zero_point = 2,
                  .b_zero_point = 3,
                  .a_scale = 0.5F,
                  .b_scale = 0.25F,
                  .bias = 1.5F,
                  .lo = 1,
                  .hi = 200,
                  .second_scale = 2.0F,
                  .second_bias = 0.5F,
                  .second_lo = 0,
                  .second_hi = 15};
  const auto planes = [](uint8_t* p) { return kernels::Planes{.data = p, .cb = 4}; };
  args.a = planes(a);
  args.b = planes(b);
  args.y = planes(y);
  args.second = planes(second);
  add_kernels().back().run(args, {0, 1});
  CHECK(y[0] == 6);
  CHECK(second[0] == 14);
  CHECK(y[1] == 1);
  CHECK(second[1] == 1);
}

}  // namespace
}  // namespace mpq::test
