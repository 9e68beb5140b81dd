#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "format/sha256.h"

namespace mpq::test {
namespace {

using namespace format;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string hash(Sha256Blocks blocks, std::string_view text) {
  Sha256 h(blocks);
  h.update(bytes_of(text));
  return to_hex(h.finish());
}

std::vector<Sha256Blocks> implementations() {
  std::vector<Sha256Blocks> list = {sha256_blocks_portable};
  if (sha256_blocks_shani() != nullptr)
    list.push_back(sha256_blocks_shani());
  else
    MESSAGE("SKIPPED: sha256 with SHA instructions: this CPU or build has none");
  return list;
}

TEST_CASE("sha256: the examples of FIPS 180-4 and NIST's vectors") {
  for (const Sha256Blocks blocks : implementations()) {
    CHECK(hash(blocks, "") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hash(blocks, "abc") ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hash(blocks, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hash(blocks,
               "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklm"
               "nopqrlmnopqrs"
               "mnopqrstnopqrstu") ==
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK(hash(blocks, std::string(1000000, 'a')) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST_CASE("sha256: both implementations agree on every length, in pieces of every size") {
  std::string text;
  uint32_t state = 7;
  for (int i = 0; i < 300; ++i) {
    state = state * 1103515245U + 12345U;
    text += static_cast<char>(state >> 24);
  }
  for (size_t length = 0; length <= text.size(); ++length) {
    const std::string whole = hash(sha256_blocks_portable, text.substr(0, length));
    for (const Sha256Blocks blocks : implementations()) {
      Sha256 h(blocks);
      const size_t piece = length % 71 + 1;
      for (size_t i = 0; i < length; i += piece)
        h.update(bytes_of(text).subspan(i, std::min(piece, length - i)));
      REQUIRE(to_hex(h.finish()) == whole);
    }
  }
}

}  // namespace
}  // namespace mpq::test
