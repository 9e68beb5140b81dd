// PTX texts as tests: one instruction on many operands, or a whole kernel on arrays.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda/ptx/machine.h"

namespace mpq::test {

// A kernel "k" with the given parameters and body; r, d, f, h, p registers of every type are there.
std::string kernel_text(const std::string& parameters, const std::string& body,
                        uint32_t target = 80);

// "" or what went wrong: parses, loads and runs kernel "k". Parameters: 8 bytes each.
std::string run_text(const std::string& text, ptx::Memory&, ptx::Dim3 grid, ptx::Dim3 block,
                     const std::vector<uint64_t>& parameters, const ptx::RunOptions& options = {},
                     uint32_t shared_bytes = 0, ptx::Counters* counters = nullptr);

// Kernel "k"(input, output) of one block: the words that `threads` threads write to the second
// array having read the first.
std::vector<uint32_t> run_words(const std::string& body, const std::vector<uint32_t>& input,
                                size_t outputs, uint32_t threads = 32, uint32_t target = 80);

struct Operands {
  uint64_t s[4] = {};
};
// The result of opcode on each sample; letters as in ptx::Form, first a destination.
std::vector<uint64_t> execute(const std::string& opcode, const std::string& operands,
                              const std::vector<Operands>& samples);

// Opcodes that some text used: the last test demands that the whole table was.
const std::vector<std::string>& opcodes_used();

}  // namespace mpq::test
