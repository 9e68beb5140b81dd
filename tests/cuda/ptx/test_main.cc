#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "tests/cuda/ptx/opcodes.h"
#include "tests/cuda/ptx/test_support.h"

namespace {

// Functions of the table that no test has executed. An opcode counts by what it executes, since
// spellings of one function (orders, scopes, cache hints) are the same row.
int untested() {
  using mpq::ptx::opcodes;
  const auto key = [](const mpq::ptx::Form& f) {
    return std::make_tuple(f.execute, f.variant, f.flow, f.space);
  };
  std::set<decltype(key({}))> tested;
  for (const std::string& name : mpq::test::opcodes_used())
    if (const auto* forms = opcodes().find(name))
      for (const auto& form : *forms) tested.insert(key(form));
  int missing = 0;
  for (const std::string& name : opcodes().names())
    for (const auto& form : *opcodes().find(name))
      if (!tested.contains(key(form)) && ++missing <= 40)
        std::printf("untested: %s %s\n", name.c_str(), form.operands.c_str());
  std::printf("%zu opcodes, %d forms untested\n", opcodes().names().size(), missing);
  return missing == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const int failed = doctest::Context(argc, argv).run();
  return argc > 1 || failed != 0 ? failed : untested();
}
