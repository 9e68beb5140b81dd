// The tables behind args.cc.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/cli/args.h"

namespace mpq::cli {

using ModeMask = uint32_t;
constexpr ModeMask bit(Mode mode) { return 1U << static_cast<int>(mode); }
inline constexpr ModeMask kAllModes = (1U << kModeCount) - 1;

struct Verb {
  Mode mode;
  const char* name;
  const char* summary;
  const char* example;
};

struct Option {
  const char* name;      // without dashes
  char letter;           // 0: none
  const char* value;     // placeholder; nullptr: a switch; "[FILE]": an optional value, only with =
  const char* fallback;  // default, shown in help; nullptr: none
  ModeMask modes;
  bool advanced;  // in --help-all only
  const char* help;
  const char* choices = nullptr;  // all values there are, "time|layer"; nullptr: any
};

// How the users of other tools spell it.
struct Alias {
  const char* spelling;
  const char* ours;
};

// What the first screen and the manual page begin with.
struct Example {
  const char* command;
  const char* what;
};

std::string environment_name(const Option& option);  // MPQ_THREADS stands in for --threads

std::span<const Example> examples();
std::span<const Verb> verbs();  // in Mode order
std::span<const Option> options();
std::span<const Alias> aliases();

}  // namespace mpq::cli
