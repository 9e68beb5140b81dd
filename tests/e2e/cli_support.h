// Runs mpqrun as a user would, on tiny models in a temporary folder.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "format/model.h"

namespace mpq::test {

struct Outcome {
  int code = -1;  // 128 + signal when it died
  std::string out, err;
  nlohmann::ordered_json json() const { return nlohmann::ordered_json::parse(out); }
};

// The folder of this test program, removed at exit, and mpqrun's working folder.
const std::filesystem::path& folder();
// conv.fb and linear.fb (tiny_models.h) in it, three inputs of each in conv.npy and linear.npy, and
// conv_changed.fb: conv.fb with the bias of conv2 cleared.
void make_models();
std::string path_of(const std::string& name);
std::string write(const std::string& name, const std::string& bytes);
std::string read(const std::string& name);

// Runs mpqrun with the words; `environment` is "NAME=value" pairs in front. A signal can be sent to
// it after some milliseconds.
Outcome mpqrun(const std::string& words, const std::string& environment = "",
               const std::string& standard_output = "stdout");
Outcome mpqrun_signalled(const std::string& words, int signal, int after_ms);

// Outputs of the tiny models for the three inputs by the naive interpreter: [sample][output].
std::vector<std::vector<std::vector<std::byte>>> expected_outputs(const std::string& model);

bool contains(const std::string& text, const std::string& part);  // says both when it does not

}  // namespace mpq::test
