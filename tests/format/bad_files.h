// Crafted bad files: at least one for each check of the loader, with the error that it must give.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "format/aligned.h"
#include "format/checks.h"
#include "format/reader.h"

namespace mpq::test {

struct File {
  format::AlignedBytes storage;
  size_t skip = 0;  // bytes not given to the reader, at the start
  format::ReadOptions options;

  Result<format::Model> read() const {
    return format::read(storage.bytes().subspan(skip), options);
  }
};

struct BadFile {
  std::string name;     // what is wrong
  format::Check check;  // that refuses it
  std::string says;     // part of the message: object and number
  std::function<File()> make;
};

const std::vector<BadFile>& bad_files();

}  // namespace mpq::test
