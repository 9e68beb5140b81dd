// Problems (tests/cuda/problem.h) on the PTX machine.
#pragma once

#include <string>

#include "tests/cuda/problem.h"
#include "tests/cuda/ptx/kernel_texts.h"
#include "tests/cuda/ptx/machine.h"

namespace mpq::test {

// Of the folder that MPQ_PTX names.
const KernelTexts& kernel_texts(uint32_t arch);

// A kernel ready to run on any problem: its module's variables stay in `memory`.
struct LoadedKernel {
  ptx::Memory memory;
  ptx::Executable executable;
};
// "" or what went wrong. text: of one entry point.
std::string load_kernel(const std::string& text, std::string_view name,
                        std::unique_ptr<LoadedKernel>*);

// What is wrong, or nothing. Only the outputs may be written.
std::string run_problem(CudaProblem&, LoadedKernel&, uint32_t arch, const ptx::RunOptions&,
                        ptx::Counters* counters = nullptr);

}  // namespace mpq::test
