// Which instruction sets a session may use: its own word, else MPQ_ISA, else all that the machine
// has.
#pragma once

#include "format/status.h"
#include "kernels/cpu.h"

namespace mpq::runtime {

// What the machine has; asked once.
kernels::IsaMask available_isa();
// An unknown word is an error that begins with `source`.
Result<kernels::IsaMask> isa_of(const char* source, const char* name);
// `name` may be null. An unknown word or one above the machine is an error.
Result<kernels::IsaMask> choose_isa(const char* name);

}  // namespace mpq::runtime
