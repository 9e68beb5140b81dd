#include <doctest/doctest.h>

#include <set>

#include "tests/format/bad_lists.h"

namespace mpq::test {

const std::vector<BadFile>& bad_files() {
  static const std::vector<BadFile> files = [] {
    std::vector<BadFile> list;
    add_bad_structure(&list);
    add_bad_meaning(&list);
    return list;
  }();
  return files;
}

namespace {

using namespace format;

TEST_CASE("bad files: each is refused with its status, place and number") {
  for (const BadFile& bad : bad_files()) {
    CAPTURE(bad.name);
    const auto model = bad.make().read();
    REQUIRE(!model.ok());
    const std::string& message = model.error().message;
    CAPTURE(message);
    CHECK(model.error().code == info(bad.check).status);
    CHECK(message.ends_with(std::string("[") + info(bad.check).id + "]"));
    CHECK(message.find(bad.says) != std::string::npos);
    CHECK(message.size() <= 1024);
  }
}

TEST_CASE("bad files: every check refuses at least one") {
  std::set<int> covered;
  for (const BadFile& bad : bad_files()) covered.insert(static_cast<int>(bad.check));
  for (int i = 0; i < check_count(); ++i) {
    const char* id = info(static_cast<Check>(i)).id;
    CAPTURE(id);
    CHECK(covered.contains(i));
  }
  CHECK(bad_files().size() >= 150);
}

}  // namespace
}  // namespace mpq::test
