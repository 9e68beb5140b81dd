// Kernels by time instead of by the costs of their rows: layers are timed where they will run, as
// steps of the whole network, because a kernel that wins alone may lose among others (the caches
// are full of their data). Never changes a result: rows are equal to the bit.
#pragma once

#include <string>

#include "format/status.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace mpq::runtime {

struct TuneReport {
  size_t layers = 0;  // distinct ones with a choice
  size_t timed = 0;   // of these, not found in the file
  size_t other = 0;   // of these, not what the costs would choose
  double seconds = 0.0;
  std::string warning;  // of a file that could not be used; "" if all is well
};

// Runs the model with `options` a few times with each row that serves a layer and is not much
// dearer than the cheapest, in turns, and chooses for every distinct layer the row whose step was
// fastest. `path` (empty: none) is a file of tune_cache.h: layers in it are not timed, the others
// are added. Takes a second or a few for networks of milliseconds, and the memory of one session a
// row while it lasts.
Result<ChooseConv> tune(const Model& model, const SessionOptions& options, const std::string& path,
                        TuneReport* report);

}  // namespace mpq::runtime
