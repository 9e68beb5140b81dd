// A trained classifier of texts as a folder that Hugging Face's tools, and import.h, read.
#pragma once

#include <string>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert::transformer {

// graph: of `source` (import.h, with `classes`), names unchanged. Settings and tokeniser are those
// of `source`; the table of positions has as many rows as the graph takes tokens.
Checked export_classifier(const Graph& graph, const std::string& source,
                          const std::vector<std::string>& labels, const std::string& folder);

// Makes `folder`, which must be another one than `source`: worth asking before a long training.
Checked make_target(const std::string& source, const std::string& folder);

}  // namespace mpq::convert::transformer
