// PTX text as data: what nvcc writes for compute_75 and later, parsed by the grammar of the PTX ISA
// (sections 4 to 5, "Syntax" and "State Spaces, Types, and Variables"). Nothing is interpreted
// here, and nothing is skipped: what the parser does not know is an error with its line.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"

namespace mpq::ptx {

enum class Space : uint8_t { kGeneric, kGlobal, kShared, kLocal, kConst, kParam };

// A variable of any state space but .reg.
struct Variable {
  std::string name;
  Space space = Space::kGlobal;
  uint32_t align = 1;
  uint64_t bytes = 0;              // 0 for `extern .shared x[]`: the launch says how many
  std::vector<uint8_t> initially;  // .global and .const; empty means zeros
};

struct Operand {
  enum class Kind : uint8_t {
    kRegister,  // name, perhaps negated
    kInteger,   // value
    kFloat,     // value = the bits of binary32
    kSymbol,    // name: a variable or a label; value = offset
    kAddress,   // [name + value], [value]
    kVector,    // {parts}
    kPair,      // parts[0] | parts[1]
    kSink,      // _
  };
  Kind kind = Kind::kInteger;
  std::string name;
  int64_t value = 0;
  bool negated = false;      // !%p
  bool is_register = false;  // of an address: name is a register, not a variable
  std::vector<Operand> parts;
};

struct Statement {
  std::string opcode;  // complete: "ld.global.nc.v4.u32"
  std::string guard;   // register of @%p, empty if none
  bool guard_negated = false;
  std::vector<Operand> operands;
  uint32_t line = 0;
};

// bits: 1 for .pred, else 16, 32, 64.
using Registers = std::map<std::string, uint32_t, std::less<>>;

struct Kernel {
  std::string name;
  std::vector<Variable> parameters;  // space kParam, in order
  std::vector<Variable> variables;   // kShared and kLocal
  Registers registers;
  std::vector<Statement> statements;
  std::map<std::string, size_t, std::less<>> labels;  // index of the statement that follows
  uint32_t max_threads = 0;                           // product of .maxntid, 0 if absent
};

struct Module {
  uint32_t version = 0;  // 90 for 9.0
  uint32_t target = 0;   // 80 for sm_80
  std::vector<Variable> variables;
  std::vector<Kernel> kernels;

  const Kernel* kernel(std::string_view name) const;
};

Result<Module> parse(std::string_view text);

}  // namespace mpq::ptx
