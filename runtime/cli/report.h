// Where results go: text and tables on stdout, JSON on stdout or into a file.
#pragma once

#include <string>
#include <vector>

#include "runtime/cli/engine.h"
#include "runtime/cli/host.h"
#include "runtime/cli/stats.h"
#include "runtime/cli/table.h"

namespace mpq::cli {

inline constexpr int kSchemaVersion = 1;

class Report {
 public:
  // The formats that a verb can write; others are a usage error.
  static Result<Report> create(const Args& args, std::initializer_list<Output> supported);

  Output output() const { return output_; }
  bool text() const { return output_ == Output::kText; }
  bool tables() const { return output_ != Output::kJson && output_ != Output::kJsonLines; }
  bool wants_json() const { return output_ == Output::kJson || !json_path_.empty(); }

  void print(const std::string& text) const;  // text format only
  void print_always(const std::string& text) const;
  void print(const Table& table) const;        // the table formats
  void print_line(const Json& row) const;      // JSON lines only
  Checked finish(const Json& document) const;  // JSON to where it was asked for

 private:
  Output output_ = Output::kText;
  std::string json_path_;
};

// schema_version, tool, argv, time, host and model: what every JSON document begins with.
Json json_head(const Args& args, const Model* model);
Json json_of(const Stats& seconds, bool samples);  // in nanoseconds

}  // namespace mpq::cli
