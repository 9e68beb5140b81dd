// Small text helpers of the tool.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mpq::cli {

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string lower(std::string text);
bool ends_with_any(const std::string& text, std::initializer_list<const char*> endings);

std::string bytes_text(uint64_t bytes);  // "13.4 MB" (decimal, as file managers and drives count)
std::string shape_text(const int64_t* shape, uint32_t rank);  // "1x3x224x224"

// Insertions, deletions and replacements from a to b.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace mpq::cli
