#include "kernels/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace mpq::kernels {
namespace {

struct CpuidRegs {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegs cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegs r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

struct Signature {
  uint32_t family, model, stepping;
};

Signature read_signature() {
  const uint32_t eax = cpuid(1, 0).eax;
  const uint32_t family = (eax >> 8) & 15;
  // The family's upper part counts in family 15, the model's in 6 and 15.
  return {family == 15 ? family + ((eax >> 20) & 255) : family,
          ((eax >> 4) & 15) | (family == 6 || family == 15 ? (eax >> 12) & 0xF0 : 0), eax & 15};
}

// The brand, which is not unique on virtual machines, and the signature.
struct ModelText {
  char chars[128] = "";

  ModelText() {
    for (uint32_t i = 0; i < 3; ++i) {
      const CpuidRegs part = cpuid(0x80000002 + i, 0);
      std::memcpy(chars + i * sizeof part, &part, sizeof part);
    }
    const Signature s = read_signature();
    append(", family ", s.family);
    append(" model ", s.model);
    append(" stepping ", s.stepping);
  }

 private:
  void append(const char* text, uint32_t number) {
    char digits[12] = "";
    char* first = digits + sizeof digits - 1;
    do *--first = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    std::strcat(std::strcat(chars, text), first);
  }
};

// Which register states the system saves: a CPU flag alone does not make an instruction usable.
uint64_t read_xcr0() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Linux gives the 8 KiB of tile state only to a process that asks for it, and may refuse.
bool request_amx_tiles() {
  constexpr long kArchReqXcompPerm = 0x1023, kXfeatureXtileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtileData) == 0;
}

constexpr bool all(uint64_t value, uint64_t bits) { return (value & bits) == bits; }
constexpr uint32_t bit(uint32_t i) { return 1U << i; }

struct Level {
  const char* name;
  IsaMask isa;
};
// From low to high; each level contains the ones before it.
constexpr Level kLevels[] = {
    {"scalar", kIsaScalar}, {"avx2", kIsaAvx2}, {"avx512vnni", kIsaAvx512Vnni}, {"amx", kIsaAmx}};

}  // namespace

IsaMask detect_isa() {
  const CpuidRegs leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0);
  constexpr uint32_t kFma = bit(12), kOsxsave = bit(27), kAvx = bit(28);
  if (!all(leaf1.ecx, kFma | kOsxsave | kAvx)) return kIsaScalar;

  const uint64_t xcr0 = read_xcr0();
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6, kTileState = 0x60000;
  constexpr uint32_t kAvx2 = bit(5);
  if (!all(xcr0, kYmmState) || !all(leaf7.ebx, kAvx2)) return kIsaScalar;
  IsaMask isa = kIsaAvx2;

  constexpr uint32_t kF = bit(16), kDq = bit(17), kBw = bit(30), kVl = bit(31);  // ebx
  constexpr uint32_t kVbmi = bit(1), kGfni = bit(8), kVnni = bit(11);            // ecx
  if (!all(xcr0, kZmmState) || !all(leaf7.ebx, kF | kDq | kBw | kVl) ||
      !all(leaf7.ecx, kVbmi | kGfni | kVnni))
    return isa;
  isa |= kIsaAvx512Vnni;

  constexpr uint32_t kTile = bit(24), kTileInt8 = bit(25);  // edx
  if (all(xcr0, kTileState) && all(leaf7.edx, kTile | kTileInt8) && request_amx_tiles())
    isa |= kIsaAmx;
  return isa;
}

CpuFamily cpu_family() {
  static const CpuFamily here = [] {
    const CpuidRegs vendor = cpuid(0, 0);
    constexpr uint32_t kAuth = 0x68747541;  // "AuthenticAMD"
    return vendor.ebx == kAuth && read_signature().family >= 0x19 ? CpuFamily::kZen4
                                                                  : CpuFamily::kIntel;
  }();
  return here;
}

const char* cpu_model() {
  static const ModelText text;
  return text.chars;
}

bool parse_isa(const char* text, IsaMask* mask) {
  IsaMask sum = 0;
  for (const Level& level : kLevels) {
    sum |= level.isa;
    if (std::strcmp(text, level.name) == 0) {
      *mask = sum;
      return true;
    }
  }
  return false;
}

const char* isa_name(IsaMask highest_bit) {
  const char* name = kLevels[0].name;
  for (const Level& level : kLevels)
    if ((highest_bit & level.isa) != 0) name = level.name;
  return name;
}

}  // namespace mpq::kernels
