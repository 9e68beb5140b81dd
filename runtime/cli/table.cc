#include "runtime/cli/table.h"

#include <algorithm>

namespace mpq::cli {

namespace {

std::string csv_cell(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string padded(const std::string& cell, size_t width, bool right) {
  const std::string fill(width - std::min(width, cell.size()), ' ');
  return right ? fill + cell : cell + fill;
}

}  // namespace

std::string Table::render(Output output) const {
  std::vector<std::string> names;
  std::vector<size_t> widths;
  for (const Column& column : columns) {
    names.push_back(column.name);
    widths.push_back(column.name.size());
  }
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());

  const bool csv = output == Output::kCsv, markdown = output == Output::kMarkdown;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text = markdown ? "|" : "";
    for (size_t i = 0; i < cells.size(); ++i) {
      if (csv)
        text += (i == 0 ? "" : ",") + csv_cell(cells[i]);
      else if (markdown)
        text += " " + padded(cells[i], widths[i], columns[i].right) + " |";
      else
        text += (i == 0 ? "" : "  ") + padded(cells[i], widths[i], columns[i].right);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = line(names);
  if (markdown) {
    text += "|";
    for (size_t i = 0; i < columns.size(); ++i)
      text += std::string(" ") + std::string(widths[i] - 1 + (columns[i].right ? 0 : 1), '-') +
              (columns[i].right ? ":" : "") + " |";
    text += "\n";
  }
  for (const auto& row : rows) text += line(row);
  return text;
}

}  // namespace mpq::cli
