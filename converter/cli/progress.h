// Progress on stderr: one rewritten line on a terminal, a line every ten seconds otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace mpq::convert::cli {

class Progress {
 public:
  Progress(std::string what, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(uint64_t done, uint64_t total, const std::string& item);

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  bool quiet_, terminal_, open_ = false;
  Clock::time_point start_, shown_;
};

}  // namespace mpq::convert::cli
