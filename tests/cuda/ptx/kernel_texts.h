// The PTX that nvcc made of the kernels, an entry point at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "format/status.h"

namespace mpq::test {

// Texts of an architecture: what a file has before its first entry point (directives and
// variables), then one entry point.
class KernelTexts {
 public:
  // *_ARCH.ptx of a folder.
  static Result<KernelTexts> read(const std::string& folder, uint32_t arch);
  // nullptr if there is none.
  const std::string* find(std::string_view kernel) const;
  const std::map<std::string, std::string, std::less<>>& all() const { return texts_; }

 private:
  std::map<std::string, std::string, std::less<>> texts_;
};

}  // namespace mpq::test
