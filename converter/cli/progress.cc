#include "converter/cli/progress.h"

#include <unistd.h>

#include <cstdio>

namespace mpq::convert::cli {
namespace {

using std::chrono::duration;
constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(10);

}  // namespace

Progress::Progress(std::string what, bool quiet)
    : what_(std::move(what)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()) {}

Progress::~Progress() {
  if (open_) std::fputc('\n', stderr);
}

void Progress::update(uint64_t done, uint64_t total, const std::string& item) {
  if (quiet_ || total == 0) return;
  const auto now = Clock::now();
  const bool last = done >= total;
  if (terminal_ ? now - shown_ < kTerminalInterval && !last
                : now - shown_ < kPlainInterval && !last)
    return;
  shown_ = now;
  const double seconds = duration<double>(now - start_).count();
  const double left =
      done == 0 ? 0.0 : seconds * static_cast<double>(total - done) / static_cast<double>(done);
  std::fprintf(stderr, "%s%s: %llu of %llu, %.0f s, %.0f s left%s%s%s", terminal_ ? "\r" : "",
               what_.c_str(), static_cast<unsigned long long>(done),
               static_cast<unsigned long long>(total), seconds, left, item.empty() ? "" : ": ",
               item.c_str(), terminal_ ? "\033[K" : "\n");
  open_ = terminal_;
}

}  // namespace mpq::convert::cli
