#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/cpu.h"
#include "tests/support/rng.h"

int main(int argc, char** argv) {
  using mpq::kernels::detect_isa;
  std::printf("seed %llu, isa %s\n", static_cast<unsigned long long>(mpq::test::test_seed()),
              mpq::kernels::isa_name(detect_isa()));
  return doctest::Context(argc, argv).run();
}
