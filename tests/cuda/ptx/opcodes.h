// The instruction set: a dictionary whose keys are complete opcodes, all modifiers and types
// included ("setp.lt.and.s32"). What is not a key is not executed: there is no modifier to
// overlook.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/cuda/ptx/program.h"

namespace mpq::ptx {

// One way to write an instruction. Operands, in order; capitals are destinations:
//   P p  predicate            H h  16 bits     W w  32 bits     D d  64 bits
//   X x  bits[0], bits[1] or wider             a    [address]   i    integer     L    label
//   a digit makes a {vector} of the next letter; '|' joins a destination and its predicate.
struct Form {
  std::string operands;
  Execute execute = nullptr;
  uint8_t variant = 0;
  uint8_t bits[2] = {16, 16};
  Space space = Space::kGeneric;
  Flow flow = Flow::kNone;
};

class Opcodes {
 public:
  Opcodes();
  void add(const std::string& opcode, Form form) { forms_[opcode].push_back(std::move(form)); }
  const std::vector<Form>* find(const std::string& opcode) const {
    const auto found = forms_.find(opcode);
    return found == forms_.end() ? nullptr : &found->second;
  }
  // Every key.
  std::vector<std::string> names() const;

 private:
  std::unordered_map<std::string, std::vector<Form>> forms_;
};

const Opcodes& opcodes();

// Why an unknown opcode will stay unknown, or "not implemented".
std::string_view reason_absent(std::string_view opcode);

// The parts of the table, a file each, as the chapters of the ISA.
void add_integer(Opcodes&);  // integer arithmetic, logic, comparison
void add_real(Opcodes&);     // binary32 arithmetic and comparison
void add_convert(Opcodes&);  // mov, cvt, cvta
void add_memory(Opcodes&);   // ld, st, atom, red, fences, asynchronous copies
void add_warp(Opcodes&);     // shfl, vote, match, redux, ldmatrix; barriers and branches
void add_mma(Opcodes&);      // integer matrix products

// The letter of an operand of `bytes`: letter('W', 8) is 'D'.
inline char sized(char letter, size_t bytes) {
  const bool destination = letter >= 'A' && letter <= 'Z';
  const char small = bytes == 2 ? 'h' : bytes == 4 ? 'w' : 'd';
  return destination ? static_cast<char>(small - 'a' + 'A') : small;
}
// Replaces T and t by the letters of a size: typed("Ttt", 4) is "Www".
inline std::string typed(std::string_view pattern, size_t bytes) {
  std::string out;
  for (const char c : pattern) out += c == 'T' || c == 't' ? sized(c, bytes) : c;
  return out;
}

inline std::string join(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) out += part;
  return out;
}

// Rows of element-wise instructions. Op: a captureless lambda on values.
template <typename T, typename Op>
Execute unary(Op) {
  return [](Warp& w, const Inst& in, uint32_t lanes) {
    T* d = values<T>(w, in.op[0]);
    const T* a = values<T>(w, in.op[1]);
    for_lanes(lanes, [&](uint32_t i) { d[i] = Op{}(a[i]); });
  };
}
template <typename D, typename T, typename Op>
Execute binary_to(Op) {
  return [](Warp& w, const Inst& in, uint32_t lanes) {
    D* d = values<D>(w, in.op[0]);
    const T* a = values<T>(w, in.op[1]);
    const T* b = values<T>(w, in.op[2]);
    for_lanes(lanes, [&](uint32_t i) { d[i] = static_cast<D>(Op{}(a[i], b[i])); });
  };
}
template <typename T, typename Op>
Execute binary(Op op) {
  return binary_to<T, T>(op);
}
template <typename D, typename T, typename Op>
Execute ternary_to(Op) {
  return [](Warp& w, const Inst& in, uint32_t lanes) {
    D* d = values<D>(w, in.op[0]);
    const T* a = values<T>(w, in.op[1]);
    const T* b = values<T>(w, in.op[2]);
    const D* c = values<D>(w, in.op[3]);
    for_lanes(lanes, [&](uint32_t i) { d[i] = static_cast<D>(Op{}(a[i], b[i], c[i])); });
  };
}
template <typename T, typename Op>
Execute ternary(Op op) {
  return ternary_to<T, T>(op);
}

// setp.CMP{.BOOL}.type p{|q}, a, b{, c}: all forms of one comparison of values of T.
template <typename T, typename Op>
void add_setp(Opcodes& table, const std::string& comparison, const std::string& type, Op) {
  using Combine = uint32_t (*)(uint32_t, uint32_t);
  static constexpr Combine kCombine[] = {
      [](uint32_t t, uint32_t) { return t; }, [](uint32_t t, uint32_t c) { return t & c; },
      [](uint32_t t, uint32_t c) { return t | c; }, [](uint32_t t, uint32_t c) { return t ^ c; }};
  // variant: bits 0-1 kCombine, bit 2: there is a second destination.
  const Execute execute = [](Warp& w, const Inst& in, uint32_t lanes) {
    const uint32_t destinations = 1 + (in.variant >> 2);
    const T* a = values<T>(w, in.op[destinations]);
    const T* b = values<T>(w, in.op[destinations + 1]);
    uint32_t holds = 0;
    for_lanes(lanes, [&](uint32_t i) { holds |= uint32_t{Op{}(a[i], b[i])} << i; });
    const Combine combine = kCombine[in.variant & 3];
    const uint32_t c = (in.variant & 3) != 0 ? predicate(w, in, destinations + 2) : 0;
    const Slot p = in.op[0], q = in.op[1];
    set_predicate(w, p, combine(holds, c), lanes);
    if (destinations == 2) set_predicate(w, q, combine(~holds, c), lanes);
  };
  const char* names[] = {"", ".and", ".or", ".xor"};
  for (uint8_t i = 0; i < 4; ++i) {
    const std::string opcode = "setp." + comparison + names[i] + "." + type;
    const std::string sources = join({typed("tt", sizeof(T)), i != 0 ? "p" : ""});
    table.add(opcode, {.operands = join({"P", sources}), .execute = execute, .variant = i});
    table.add(opcode, {.operands = join({"P|P", sources}),
                       .execute = execute,
                       .variant = static_cast<uint8_t>(i | 4)});
  }
}

}  // namespace mpq::ptx
