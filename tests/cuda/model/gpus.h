// The GPUs that speed is modelled for, and what others measured on them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace mpq::test {

struct GpuModel {
  const char* name;
  uint32_t arch;        // 89 for compute capability 8.9
  uint32_t processors;  // streaming multiprocessors
  double clock_ghz;     // under load, not the boost clock of the data sheet
  double dram_gb_s;
  double l2_mb;
  double l2_bytes_a_clock;  // of all multiprocessors together
  // Of a multiprocessor from here on.
  uint32_t macs_8bit;  // a clock, by mma.sync; 4-bit ones are twice as many where they exist
  uint32_t shared_bytes_a_clock;
  uint32_t float_lanes;  // of 32 bits; integers have 64, conversions 16 everywhere
  uint32_t shared_kb, threads, blocks;

  // Whose code runs: that of the emulator and of the PTX.
  uint32_t code() const { return arch < 80 ? 75 : arch < 90 ? 80 : 90; }
  bool has_4bit() const { return arch < 90; }
};

std::span<const GpuModel> gpu_models();
// Null if there is none.
const GpuModel* find_gpu(std::string_view name);

// A figure that somebody measured and published.
struct Published {
  const char* network;  // "resnet50" or "bert-base"
  uint32_t bits;        // of weights and activations
  const char* gpu;
  uint32_t batch, tokens;  // tokens 0: images
  double seconds;          // of one run of the batch
  bool fitted;             // the clock of this GPU was chosen by it
  const char* source;
};
std::span<const Published> published();

}  // namespace mpq::test
