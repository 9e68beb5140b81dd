// The command line: one table of options, from which parsing, --help and did-you-mean follow.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "format/status.h"
#include "manual/program.h"

namespace mpq::cli {

enum class Mode : uint8_t { kRun, kBench, kProfile, kEval, kInfo, kVerify, kCompare, kDoctor };
inline constexpr int kModeCount = 8;
const char* mode_name(Mode mode);

class Args {
 public:
  // Words after the program's name. A first word that is a verb and not a file is the mode, as is
  // --verb anywhere. Environment variables MPQ_<OPTION> stand in for common options not given.
  static Result<Args> parse(const std::vector<std::string>& words);

  Mode mode() const { return mode_; }
  const std::vector<std::string>& files() const { return files_; }  // positional: models, outputs
  bool help() const { return has("help"); }

  bool has(const std::string& option) const { return values_.contains(option); }
  // The last value given, or the table's default ("" when it has none).
  std::string text(const std::string& option) const;
  std::vector<std::string> all(const std::string& option) const;
  Result<uint64_t> whole(const std::string& option) const;
  Result<double> real(const std::string& option) const;
  Result<double> percent(const std::string& option) const;  // "5" and "5%" are 0.05
  // "1,2,4", "1-4" (step 1), "1-8*2", "0-16+4" and mixtures, in the order given.
  Result<std::vector<uint32_t>> list(const std::string& option) const;

  const std::vector<std::string>& words() const { return words_; }  // as given, for reports

 private:
  Mode mode_ = Mode::kRun;
  std::vector<std::string> words_, files_;
  std::map<std::string, std::vector<std::string>> values_;
};

std::string help_text(std::optional<Mode> mode, bool all);
manual::Program manual_of();  // all of this program

}  // namespace mpq::cli
