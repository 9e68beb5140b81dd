// The person or the script on the other side: progress, notes and signals. All on stderr; results
// alone go to stdout.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/cli/args.h"

namespace mpq::cli {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void set_verbosity(const Args& args);
void note(const std::string& text);      // with -v
void warn(const std::string& text);      // without -q: "mpqrun: warning: ..."
void complain(const std::string& text);  // always: "mpqrun: ..."
bool colored();                          // stdout is a terminal that wants colour

// SIGINT or SIGTERM: loops finish the current item, the results so far are printed, the exit code
// says so. A second signal ends the process at once.
void catch_signals();
bool interrupted();
int interrupted_exit_code();  // 130 or 143; 0 when not interrupted

// A terminal sees one line that changes; a file sees a line every ten seconds.
class Progress {
 public:
  Progress(const Args& args, std::string what, uint64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void update(uint64_t done, const std::string& detail = "");

 private:
  std::string what_;
  uint64_t total_ = 0;
  bool on_ = true, one_line_ = false, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace mpq::cli
