// A model file as an annotated hex dump: every byte of header and metadata with its meaning, found
// by walking the FlatBuffer with the schema's own field names. SPEC.md holds one; a test compares.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mpq::test {

std::string annotate(std::span<const std::byte> file);

// The smallest useful file: quantize and one linear layer of 2 x 4 weights.
std::vector<std::byte> smallest_file();

// The loader's checks as a Markdown table.
std::string check_table();

// `document` with what stands between "<!-- begin NAME -->" and "<!-- end NAME -->" replaced; empty
// when a marker is missing.
std::string with_section(const std::string& document, const std::string& name,
                         const std::string& content);

// All generated sections of SPEC.md replaced.
std::string with_generated_sections(const std::string& spec);

}  // namespace mpq::test
