// Every kernel against its reference. A kernel is accepted for a problem when, with each operand
// first against the page after it and then against the page before it:
//
//   fault        it touches no byte outside its operands
//   outside      it changes no byte but outputs: gaps between rows, halos, inputs stay as they were
//   unspecified  bytes that the contract leaves open do not matter
//   bytes        outputs equal the reference's, bit for bit
//   partition    any partition of the work, in any order, gives the same bytes
//   state        the floating-point control words are as before
//
// test_harness.cc proves with planted bad kernels that each of these checks works.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/tensor.h"
#include "tests/support/rng.h"

namespace mpq::test {

enum class Role : uint8_t {
  kInput,        // read, never written
  kUnspecified,  // never written; its value must not matter
  kOutput,       // written and compared
  kUpdated,      // read, then written over and compared
  kScratch,      // may be written; its value must not matter, before or after
};

// The memory behind one pointer argument.
struct Operand {
  std::string name;
  std::vector<uint8_t> bytes;
  std::vector<Role> roles;  // one per byte
  size_t alignment = 1;
  std::function<std::string(size_t)> coordinates;  // of a byte; optional
};

using Pointers = std::span<uint8_t* const>;  // where each operand lies in a run

struct Problem {
  std::string text;  // shape and data, for messages
  std::vector<Operand> operands;
  std::function<void(Pointers)> reference;
  // Does all the work: in one call if rng is null, else in random parts and order.
  std::function<void(Pointers, Rng* rng)> kernel;

  // Appends an operand of `count` elements, all of one role; returns its index.
  template <typename T>
  size_t add(std::string name, const std::vector<T>& values, Role role, size_t alignment = 1) {
    const auto* raw = reinterpret_cast<const uint8_t*>(values.data());
    const size_t bytes = values.size() * sizeof(T);
    operands.push_back({std::move(name),
                        {raw, raw + bytes},
                        std::vector<Role>(bytes, role),
                        alignment,
                        [](size_t at) { return "element " + std::to_string(at / sizeof(T)); }});
    return operands.size() - 1;
  }
};

struct Verdict {
  std::string check;  // which one caught it; empty when all passed
  std::string detail;
  bool ok() const { return check.empty(); }
};

Verdict check(const Problem&, Rng&);

// Cuts [0, count) at random places.
std::vector<std::pair<uint32_t, uint32_t>> random_cuts(uint32_t count, Rng&);
// Puts items in random order.
template <typename T>
void shuffle(std::vector<T>* items, Rng& rng) {
  for (size_t i = items->size(); i > 1; --i)
    std::swap((*items)[i - 1], (*items)[rng.below(static_cast<uint32_t>(i))]);
}

// Runs of an operator whose work is a WorkRange.
template <typename Run>
void run_units(uint32_t units, Rng* rng, Run run) {
  if (rng == nullptr) return run(kernels::WorkRange{0, units});
  auto cuts = random_cuts(units, *rng);
  shuffle(&cuts, *rng);
  for (const auto& [begin, end] : cuts) run(kernels::WorkRange{begin, end});
}

// Whether MPQ_TEST_REQUIRE (may be null) promises a machine that runs rows of `isa`.
bool skip_is_failure(kernels::IsaMask isa, const char* required);
// Says that a kernel cannot run here, once; fails if MPQ_TEST_REQUIRE promised that it can.
void skip_kernel(const char* name, kernels::IsaMask isa);

// Whether the machine runs a row; reports the skip if it does not.
inline bool can_run(const char* name, kernels::IsaMask isa) {
  static const kernels::IsaMask kHere = kernels::detect_isa();
  if ((isa & ~kHere) == 0) return true;
  skip_kernel(name, isa);
  return false;
}

// fn(row, rng) for each row that this machine runs, in a sub-case of its name, with the seed reset.
template <typename Row, typename Fn>
void for_each_kernel(std::span<const Row> rows, Fn fn) {
  for (const Row& row : rows) {
    SUBCASE(row.name) {
      // No return: doctest knows only the sub-cases that a run comes past.
      if (can_run(row.name, row.isa)) {
        Rng rng(test_seed());
        fn(row, rng);
      }
    }
  }
}

// Fails the running test with everything needed to repeat it.
void require_ok(const char* kernel, const Problem&, const Verdict&);

}  // namespace mpq::test
