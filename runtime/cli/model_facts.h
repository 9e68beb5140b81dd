// What can be said about a model without running it.
#pragma once

#include <map>
#include <string>

#include "runtime/cli/engine.h"
#include "runtime/cli/host.h"

namespace mpq::cli {

struct BitsShare {
  uint64_t layers = 0, weights = 0, macs = 0;
};

struct ModelFacts {
  uint64_t weights = 0, macs = 0, layers = 0;  // layers: with weights
  std::map<std::string, BitsShare> bits;       // "w4a4": weights of 4 bits on an input of 4 bits
};

ModelFacts facts_of(const Model& model);
std::string bits_text(uint32_t weight_bits, uint32_t input_bits);  // "w4a4"

// Name, path, SHA-256, sizes and histogram of bits: the "model" of every JSON document.
Json model_json(const Model& model);

}  // namespace mpq::cli
