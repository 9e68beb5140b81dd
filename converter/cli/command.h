// What the verbs of mpqconvert share: exit codes, options given to every verb, registration.
#pragma once

#include <functional>
#include <string>

#include "format/status.h"

namespace CLI {
class App;
}

namespace mpq::convert::cli {

// The documented exit codes; values never change.
enum class Exit : int {
  kSuccess = 0,
  kFailure = 1,
  kUsage = 2,
  kIo = 3,
  kCorrupt = 4,
  kUnsupported = 5,
  kGate = 6,
  kLimit = 8,
  kDigest = 10,
};
Exit exit_of(Status status);

struct Global {
  bool quiet = false;
  bool json = false;  // one JSON document on stdout
};

// A verb: adds its options to `app` and returns what runs after parsing. Results go to stdout,
// everything else to stderr.
using Run = std::function<Checked()>;
Run add_convert(CLI::App* app, const Global* global);
Run add_search(CLI::App* app, const Global* global);
Run add_inspect(CLI::App* app, const Global* global);
Run add_calibrate(CLI::App* app, const Global* global);
Run add_map(CLI::App* app, const Global* global);
Run add_evaluate(CLI::App* app, const Global* global);
Run add_train(CLI::App* app, const Global* global);
Run add_finetune(CLI::App* app, const Global* global);
Run add_alps(CLI::App* app, const Global* global);
Run add_report(CLI::App* app, const Global* global);
Run add_reconstruct(CLI::App* app, const Global* global);

}  // namespace mpq::convert::cli
