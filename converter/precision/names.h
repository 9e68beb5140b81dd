// "Did you mean": the nearest of some names.
#pragma once

#include <span>
#include <string>

namespace mpq::convert::precision {

// ", did you mean 'conv1'?" or nothing when all are far.
std::string suggestion(const std::string& wrong, std::span<const std::string> names);

}  // namespace mpq::convert::precision
