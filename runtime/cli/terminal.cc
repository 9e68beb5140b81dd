#include "runtime/cli/terminal.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "runtime/cli/exit_code.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

enum class Verbosity { kQuiet, kNormal, kVerbose };
Verbosity verbosity = Verbosity::kNormal;
bool color = false;
volatile std::sig_atomic_t caught = 0;

void on_signal(int signal) {
  if (caught != 0) _exit(128 + signal);
  caught = signal;
}

}  // namespace

void set_verbosity(const Args& args) {
  verbosity = args.has("quiet")     ? Verbosity::kQuiet
              : args.has("verbose") ? Verbosity::kVerbose
                                    : Verbosity::kNormal;
  const std::string when = args.text("color");
  const char* const terminal = std::getenv("TERM");
  color = when == "always" ||
          (when == "auto" && isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr &&
           terminal != nullptr && std::string_view(terminal) != "dumb");
}

void note(const std::string& text) {
  if (verbosity == Verbosity::kVerbose) std::fprintf(stderr, "mpqrun: %s\n", text.c_str());
}
void warn(const std::string& text) {
  if (verbosity != Verbosity::kQuiet) std::fprintf(stderr, "mpqrun: warning: %s\n", text.c_str());
}
void complain(const std::string& text) { std::fprintf(stderr, "mpqrun: %s\n", text.c_str()); }
bool colored() { return color; }

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}
bool interrupted() { return caught != 0; }
int interrupted_exit_code() { return caught == 0 ? 0 : 128 + caught; }

Progress::Progress(const Args& args, std::string what, uint64_t total)
    : what_(std::move(what)), total_(total) {
  const std::string when = args.text("progress");
  on_ = when != "none" && verbosity != Verbosity::kQuiet;
  one_line_ = when == "auto" && isatty(STDERR_FILENO) != 0;
}

Progress::~Progress() {
  if (drawn_ && one_line_) std::fputs("\r\033[K", stderr);
}

void Progress::update(uint64_t done, const std::string& detail) {
  constexpr double kRedraw = 0.1, kPlainLine = 10.0;
  if (!on_ || seconds_since(last_) < (one_line_ ? kRedraw : kPlainLine)) return;
  last_ = Clock::now();
  const double elapsed = seconds_since(start_);
  const double rate = static_cast<double>(done) / elapsed;
  const double left = rate > 0.0 ? static_cast<double>(total_ - done) / rate : 0.0;
  const std::string line =
      format("%s: %llu/%llu, %.1f/s, %.0f s left%s%s", what_.c_str(),
             static_cast<unsigned long long>(done), static_cast<unsigned long long>(total_), rate,
             left, detail.empty() ? "" : ", ", detail.c_str());
  std::fprintf(stderr, one_line_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace mpq::cli
