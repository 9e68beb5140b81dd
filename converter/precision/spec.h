// Precision maps asked for in one word, as on a command line:
//   uniform:4     uniform:4/8 (weights/activations)
//   eagl:budget=0.75,bits=4/2,cost=bmac      any method of search.h, any key of search_keys()
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "converter/precision/search.h"

namespace mpq::convert::precision {

// One option by its name; the error says what the key takes, or which key was meant.
Checked set_search_option(SearchOptions* options, const std::string& key, const std::string& value);
std::vector<std::string> search_keys();
std::vector<std::pair<std::string, std::string>> search_key_help();  // key, what it takes

// "METHOD" or "METHOD:key=value,...".
Result<SearchOptions> parse_search(const std::string& spec);

// Every selectable layer at `bits`, the first and the last one at `fixed_bits`.
format::PrecisionMap uniform_map(const Selection& selection, Bits bits, int fixed_bits = 8);

// "uniform:..." or a search.
bool is_map_spec(const std::string& text);
Result<SearchResult> make_map(const Graph& graph, const std::string& spec,
                              const CostTable& table = {}, const train::ImageSet* images = nullptr);
bool looks_at_images(const std::string& text);  // a selector that cannot do without

}  // namespace mpq::convert::precision
