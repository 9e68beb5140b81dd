#include "runtime/isa_choice.h"

#include <cstdlib>
#include <string>

namespace mpq::runtime {

kernels::IsaMask available_isa() {
  static const kernels::IsaMask mask = kernels::detect_isa();
  return mask;
}

Result<kernels::IsaMask> isa_of(const char* source, const char* name) {
  kernels::IsaMask mask = 0;
  if (!kernels::parse_isa(name, &mask))
    return Error{Status::kInvalidArgument, std::string(source) + ": " +
                                               std::string(name).substr(0, 32) +
                                               " is not scalar, avx2, avx512vnni or amx"};
  return mask;
}

Result<kernels::IsaMask> choose_isa(const char* name) {
  const char* source = "options.isa";
  if (name == nullptr) {
    name = std::getenv("MPQ_ISA");  // the only place where the library reads the environment
    source = "MPQ_ISA";
    if (name == nullptr || *name == '\0') return available_isa();
  }
  MPQ_TRY(const kernels::IsaMask mask, isa_of(source, name));
  if ((mask & ~available_isa()) != 0)
    return Error{Status::kUnsupportedCpu, std::string(source) + ": this machine has " +
                                              kernels::isa_name(available_isa()) + ", not " + name};
  return mask;
}

}  // namespace mpq::runtime
