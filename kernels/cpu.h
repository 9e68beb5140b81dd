// Instruction sets as named bundles; detection; the words used in MPQ_ISA and --isa.
#pragma once

#include <cstdint>

namespace mpq::kernels {

using IsaMask = uint32_t;
inline constexpr IsaMask kIsaScalar = 0;      // any x86-64: asks for nothing
inline constexpr IsaMask kIsaAvx2 = 1U << 0;  // AVX2 + FMA
inline constexpr IsaMask kIsaAvx512Vnni =
    1U << 1;  // F, BW, VL, DQ, VNNI, VBMI, GFNI: Ice Lake and later, Zen 4 and later
inline constexpr IsaMask kIsaAmx = 1U << 2;  // AMX tile + int8, granted by the system

// What this machine has. Each level contains the ones below it.
IsaMask detect_isa();

// Cores that weigh kernels alike. For choices between equal kernels only: what a core can run says
// IsaMask.
enum class CpuFamily : uint8_t {
  kIntel,  // Ice Lake to Granite Rapids, with AMX or without; also every core that is not known
  kZen4,   // AMD family 19h and later: byte additions on ports that vpdpbusd does not use
};
CpuFamily cpu_family();  // of this machine; asked once

// "Intel(R) Xeon(R) Processor, family 6 model 207 stepping 2": which measurements are this
// machine's.
const char* cpu_model();

// "scalar" -> 0, "avx2", "avx512vnni", "amx": the level and all below it. False for an unknown
// word.
bool parse_isa(const char* text, IsaMask* mask);
const char* isa_name(IsaMask highest_bit);

}  // namespace mpq::kernels
