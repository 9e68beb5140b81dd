// The convert verb: what was asked, and one function per kind of input.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "converter/cli/command.h"
#include "converter/cli/network.h"
#include "converter/lower.h"
#include "text/tokenizer.h"

namespace mpq::convert::cli {

struct ConvertRequest {
  std::string input, output;
  std::string labels;  // file or image set; empty: none
  bool accumulators = false, quiet = false;
  // Networks that are quantised here.
  NetworkOptions network;
  std::string map = "uniform:8";  // a word of precision/spec.h, or a JSON file
  std::string cost_table;
  std::string calib;           // images, or texts as FORMAT:FILE
  uint32_t calib_samples = 0;  // 0: as many as the kind of input needs
  uint64_t seed = 0;
  std::string preset = "torchvision-v1";
  bool crop_only_small = false;
  std::vector<std::string> prepack;  // instruction sets
  std::string pareto, report;        // JSON files to write
  // Of a network of texts, behind its quantisation: trains it. `real` is the float network.
  std::function<Checked(const Graph& real, const text::Tokenizer& tokenizer, Graph* quantised)>
      tune;
};

// What a front door hands to the common end of the verb.
struct Converted {
  LoweredModel lowered;
  std::vector<std::string> summary;  // lines for the user
};

Result<Converted> convert_nvidia(const ConvertRequest& request, nlohmann::ordered_json* report);
Result<Converted> convert_encoder(const ConvertRequest& request, nlohmann::ordered_json* report);
// A network of texts, whatever file it comes from.
Result<Converted> convert_texts(const ConvertRequest& request, Network network,
                                nlohmann::ordered_json* report);
Result<Converted> convert_onnx(const ConvertRequest& request, nlohmann::ordered_json* report);

}  // namespace mpq::convert::cli
