// Mutation of the loader: with any one check switched off, some bad file is no longer refused as it
// should be. Each trial is a child process: without its check, reading a bad file may well crash.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "format/checks.h"
#include "tests/format/bad_lists.h"

namespace {

using namespace mpq;
using namespace mpq::format;
using namespace mpq::test;

bool refused_as_expected(const BadFile& bad) {
  const auto model = bad.make().read();
  return !model.ok() &&
         model.error().message.ends_with(std::string("[") + info(bad.check).id + "]");
}

// In a child, with `off` switched off: still refused for the same reason?
bool survives(const BadFile& bad, int off) {
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);  // a sanitizer's report of the expected crash
    alarm(20);
    switch_off(off);
    _exit(refused_as_expected(bad) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int main() {
  std::vector<BadFile> files;
  add_bad_structure(&files);
  add_bad_meaning(&files);
  int failures = 0;
  for (const BadFile& bad : files) {
    if (survives(bad, -1)) continue;
    std::printf("not refused by %s with all checks on: %s\n", info(bad.check).id, bad.name.c_str());
    ++failures;
  }
  int killed = 0;
  for (int check = 0; check < check_count(); ++check) {
    bool noticed = false;
    for (const BadFile& bad : files)
      noticed = noticed || (static_cast<int>(bad.check) == check && !survives(bad, check));
    killed += noticed ? 1 : 0;
    if (!noticed)
      std::printf("no file notices that %s is off\n", info(static_cast<Check>(check)).id);
  }
  std::printf("%zu bad files; %d of %d mutations noticed\n", files.size(), killed, check_count());
  return failures == 0 && killed == check_count() ? EXIT_SUCCESS : EXIT_FAILURE;
}
