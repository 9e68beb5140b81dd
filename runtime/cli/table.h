// Tables on stdout as aligned text, Markdown or CSV.
#pragma once

#include <string>
#include <vector>

namespace mpq::cli {

enum class Output { kText, kJson, kJsonLines, kCsv, kMarkdown };

struct Table {
  struct Column {
    std::string name;
    bool right = true;  // numbers
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;

  std::string render(Output output) const;  // kText, kCsv or kMarkdown
};

}  // namespace mpq::cli
