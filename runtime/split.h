// How a step's work is cut among threads. Any cut gives the same bytes; a good one is balanced and
// reads little twice.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/conv/conv.h"

namespace mpq::runtime {

struct Work {
  uint32_t units = 1, panels = 1;  // the rectangle to cut
  uint64_t macs = 0;         // of the whole, as many as a direct vector kernel makes meanwhile
  uint64_t unit_bytes = 0;   // read by the units: every cut across panels reads them again
  uint64_t panel_bytes = 0;  // read by the panels: every cut across units reads them again
};

// At most `threads` rectangles that cover [0, units) x [0, panels) exactly once. One rectangle when
// waking threads would cost more than they save.
std::vector<kernels::ConvPart> split_work(const Work& work, uint32_t threads);
// The same into a vector with room for `threads` parts: allocates nothing.
void split_work(const Work& work, uint32_t threads, std::vector<kernels::ConvPart>* parts);

}  // namespace mpq::runtime
