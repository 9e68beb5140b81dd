#include "tests/cuda/ptx/test_support.h"

#include <doctest/doctest.h>

#include <cstring>

namespace mpq::test {

using ptx::Dim3;
using ptx::Memory;

namespace {

std::vector<std::string>& used() {
  static std::vector<std::string> list;
  return list;
}

char bits_letter(char c) { return c == 'h' ? 'h' : c == 'w' ? 'r' : c == 'd' ? 'd' : 'p'; }
const char* bits_name(char c) { return c == 'h' ? "b16" : c == 'd' ? "b64" : "b32"; }

}  // namespace

const std::vector<std::string>& opcodes_used() { return used(); }

std::string kernel_text(const std::string& parameters, const std::string& body, uint32_t target) {
  return ".version 9.0\n.target sm_" + std::to_string(target) +
         "\n.address_size 64\n.extern .shared .align 16 .b8 dyn[];\n.visible .entry k(" +
         parameters +
         ")\n{\n.reg .pred %p<32>;\n.reg .b16 %h<32>;\n.reg .b32 %r<64>;\n.reg .f32 %f<32>;\n"
         ".reg .b64 %d<64>;\n" +
         body + "\nret;\n}\n";
}

std::string run_text(const std::string& text, Memory& memory, Dim3 grid, Dim3 block,
                     const std::vector<uint64_t>& parameters, const ptx::RunOptions& options,
                     uint32_t shared_bytes, ptx::Counters* counters) {
  auto module = ptx::parse(text);
  if (!module.ok()) return module.error().message;
  for (const ptx::Kernel& k : module->kernels)
    for (const ptx::Statement& s : k.statements) used().push_back(s.opcode);
  auto loaded = ptx::Executable::load(*module, "k", memory);
  if (!loaded.ok()) return loaded.error().message;
  ptx::Launch launch{grid, block, shared_bytes, {}};
  launch.parameters.resize(parameters.size() * 8);
  std::memcpy(launch.parameters.data(), parameters.data(), launch.parameters.size());
  auto result = loaded->run(launch, memory, options);
  if (!result.ok()) return result.error().message;
  if (counters != nullptr) *counters = *result;
  return {};
}

std::vector<uint32_t> run_words(const std::string& body, const std::vector<uint32_t>& input,
                                size_t outputs, uint32_t threads, uint32_t target) {
  Memory memory;
  std::vector<uint32_t> in = input, out(outputs, 0xdeadbeef);
  const auto bytes = [](std::vector<uint32_t>& v) {
    return std::span<uint8_t>(reinterpret_cast<uint8_t*>(v.data()), v.size() * 4);
  };
  const uint64_t x = memory.map(bytes(in)), y = memory.map(bytes(out));
  const std::string text = kernel_text(
      ".param .u64 x, .param .u64 y",
      "ld.param.u64 %d62, [x];\nld.param.u64 %d63, [y];\nmov.u32 %r63, %tid.x;\n" + body, target);
  const std::string wrong = run_text(text, memory, {}, {threads, 1, 1}, {x, y}, {}, 4096);
  REQUIRE_MESSAGE(wrong == "", body);
  return out;
}

std::vector<uint64_t> execute(const std::string& opcode, const std::string& operands,
                              const std::vector<Operands>& samples) {
  constexpr uint32_t kThreads = 256;
  std::vector<Operands> in = samples;
  in.resize((samples.size() + kThreads - 1) / kThreads * kThreads, samples.front());
  std::vector<uint64_t> out(in.size(), 0);
  Memory memory;
  const uint64_t x = memory.map(
      std::span<uint8_t>(reinterpret_cast<uint8_t*>(in.data()), in.size() * sizeof(Operands)));
  const uint64_t y =
      memory.map(std::span<uint8_t>(reinterpret_cast<uint8_t*>(out.data()), out.size() * 8));
  std::string body =
      "ld.param.u64 %d62, [x];\nld.param.u64 %d63, [y];\nmov.u32 %r60, %tid.x;\nmov.u32 %r61, "
      "%ctaid.x;\nshl.b32 %r61, %r61, 8;\nadd.u32 %r60, %r60, %r61;\nmul.wide.u32 %d60, %r60, "
      "32;\nadd.u64 %d62, %d62, %d60;\nmul.wide.u32 %d61, %r60, 8;\nadd.u64 %d63, %d63, %d61;\n";
  const auto destination = static_cast<char>(operands[0] - 'A' + 'a');
  std::string instruction = opcode + " %" + bits_letter(destination) + "10";
  for (size_t i = 1; i < operands.size(); ++i) {
    const char c = operands[i];
    const std::string from = "[%d62+" + std::to_string(8 * (i - 1)) + "];\n";
    const std::string name = "%" + std::string(1, bits_letter(c)) + std::to_string(i);
    if (c == 'p')
      body += "ld.global.b32 %r20, " + from + "setp.ne.s32 " + name + ", %r20, 0;\n";
    else
      body += "ld.global." + std::string(bits_name(c)) + " " + name + ", " + from;
    instruction += ", " + name;
  }
  body += instruction + ";\n";
  if (destination == 'p')
    body += "selp.b32 %r10, 1, 0, %p10;\nst.global.b32 [%d63], %r10;\n";
  else
    body += std::string("st.global.") + bits_name(destination) + " [%d63], %" +
            bits_letter(destination) + "10;\n";
  const std::string wrong =
      run_text(kernel_text(".param .u64 x, .param .u64 y", body), memory,
               {static_cast<uint32_t>(in.size() / kThreads), 1, 1}, {kThreads, 1, 1}, {x, y});
  REQUIRE_MESSAGE(wrong == "", opcode);
  out.resize(samples.size());
  return out;
}

}  // namespace mpq::test
