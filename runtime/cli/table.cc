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

// A bar would begin another cell, a line break another row.
std::string markdown_cell(const std::string& cell) {
  std::string escaped;
  for (const char c : cell) escaped += c == '|' ? "\\|" : std::string(1, c == '\n' ? ' ' : c);
  return escaped;
}

std::string padded(const std::string& cell, size_t width, bool right) {
  const std::string fill(width - std::min(width, cell.size()), ' ');
  return right ? fill + cell : cell + fill;
}

}  // namespace

std::string Table::render(Output output) const {
  const bool csv = output == Output::kCsv, markdown = output == Output::kMarkdown;
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& column : columns) lines[0].push_back(column.name);
  lines.insert(lines.end(), rows.begin(), rows.end());
  std::vector<size_t> widths(columns.size(), markdown ? 2 : 0);  // "-:" is the shortest rule
  for (auto& cells : lines)
    for (size_t i = 0; i < cells.size(); ++i) {
      if (markdown) cells[i] = markdown_cell(cells[i]);
      widths[i] = std::max(widths[i], cells[i].size());
    }

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
  std::string text = line(lines[0]);
  if (markdown) {
    text += "|";
    for (size_t i = 0; i < columns.size(); ++i)
      text += std::string(" ") + std::string(widths[i] - 1 + (columns[i].right ? 0 : 1), '-') +
              (columns[i].right ? ":" : "") + " |";
    text += "\n";
  }
  for (size_t i = 1; i < lines.size(); ++i) text += line(lines[i]);
  return text;
}

}  // namespace mpq::cli
