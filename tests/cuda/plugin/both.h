// One model on the CPU and on a GPU, through the C API as any caller has it: the same inputs, every
// tensor compared by its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "runtime/mpq.h"

namespace mpq::test {

struct Compared {
  size_t tensors = 0, bytes = 0, different = 0;
  std::string first;  // "conv1.y: byte 3 of 8 is 1, not 2"; empty: all are equal
};

class Both {
 public:
  Both() = default;
  Both(const Both&) = delete;
  Both& operator=(const Both&) = delete;
  ~Both();
  // Sessions of up to `batch` images, or of `batch` sequences of up to `tokens` (0: as long as the
  // model takes). What is wrong, or nothing; *status says more.
  std::string open(const char* path, uint32_t batch, uint32_t tokens, mpq_status* status);
  // Pseudo-random inputs; of images, `first` instead of the first one unless it is empty. What is
  // wrong, or nothing.
  std::string set_inputs(uint32_t seed, const std::vector<uint8_t>& first = {});
  // On the CPU, whose tensors are what the GPU's are compared with.
  std::string run_cpu();
  std::string run_gpu(double* seconds = nullptr);
  std::string compare(Compared*);
  const char* device() const { return mpq_session_device(gpu_); }
  size_t launches() const { return mpq_session_step_count(gpu_); }

 private:
  std::string set_sequences(std::mt19937*);

  mpq_model* model_ = nullptr;
  mpq_session *cpu_ = nullptr, *gpu_ = nullptr;
  uint32_t batch_ = 1, tokens_ = 0;
  std::vector<std::string> names_;              // of all activations
  std::vector<std::vector<uint8_t>> expected_;  // of the CPU's last run
};

}  // namespace mpq::test
