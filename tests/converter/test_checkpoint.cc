// The checkpoint reader on streams written byte by byte, as torch.save wrote them before 1.6.

#include <doctest/doctest.h>

#include <cstring>

#include "converter/torch/checkpoint.h"

namespace mpq::convert {
namespace {

std::string number(uint64_t value, size_t bytes) {
  return {reinterpret_cast<const char*>(&value), bytes};
}
std::string text(const std::string& s) { return "X" + number(s.size(), 4) + s; }
std::string small(int value) { return std::string("K") + static_cast<char>(value); }
const std::string kProtocol("\x80\x02", 2);

struct Stream {
  std::string magic = kProtocol + "\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.";
  std::string version = kProtocol + "M\xe9\x03.";
  std::string system = kProtocol + "}(" + text("little_endian") + "\x88u.";
  std::string dict;
  std::string keys = kProtocol + "](" + text("7") + "e.";
  std::string storage;

  Result<Checkpoint> read() const {
    const std::string all =
        magic + version + system + kProtocol + "}(" + text("w") + dict + "u." + keys + storage;
    return read_checkpoint(std::as_bytes(std::span(all)));
  }
};

// w = [[1, 2], [3, 4], [5, 6]] in float32.
Stream plain() {
  Stream s;
  s.dict = "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" +
           text("7") + text("cpu") + small(6) + "NtQ" + small(0) + small(3) + small(2) + "\x86" +
           small(2) + small(1) + "\x86" + "\x89" + "}tR";
  const float values[] = {1, 2, 3, 4, 5, 6};
  s.storage = number(6, 8) + std::string(reinterpret_cast<const char*>(values), sizeof values);
  return s;
}

std::string reason(const Stream& stream) {
  const auto checkpoint = stream.read();
  return checkpoint.ok() ? "" : checkpoint.error().message;
}
bool contains(const std::string& where, const char* part) {
  return where.find(part) != std::string::npos;
}

void replace(std::string* where, const std::string& from, const std::string& to) {
  const size_t at = where->find(from);
  REQUIRE(at != std::string::npos);
  where->replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("checkpoint: shapes, strides and types") {
  Stream s = plain();
  auto checkpoint = s.read();
  REQUIRE_MESSAGE(checkpoint.ok(), checkpoint.error().message);
  CHECK(checkpoint->at("w").shape == Shape{3, 2});
  CHECK(checkpoint->at("w").data == std::vector<float>{1, 2, 3, 4, 5, 6});
  SUBCASE("a transposed view") {
    replace(&s.dict, small(2) + small(1) + "\x86" + "\x89", small(1) + small(3) + "\x86" + "\x89");
    checkpoint = s.read();
    REQUIRE(checkpoint.ok());
    CHECK(checkpoint->at("w").data == std::vector<float>{1, 4, 2, 5, 3, 6});
  }
  SUBCASE("of PyTorch before 0.4") {
    replace(&s.dict, "_rebuild_tensor_v2", "_rebuild_tensor");
    replace(&s.dict, "\x89}tR", "tR");
    checkpoint = s.read();
    REQUIRE(checkpoint.ok());
    CHECK(checkpoint->at("w").data == std::vector<float>{1, 2, 3, 4, 5, 6});
  }
  SUBCASE("half") {
    replace(&s.dict, "FloatStorage", "HalfStorage");
    const uint16_t halves[] = {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x8000, 0x3555};
    s.storage = number(6, 8) + std::string(reinterpret_cast<const char*>(halves), sizeof halves);
    checkpoint = s.read();
    REQUIRE(checkpoint.ok());
    CHECK(checkpoint->at("w").data ==
          std::vector<float>{1, -2, 0x1p-24F, 65504, -0.0F, 0x1.554p-2F});
  }
}

TEST_CASE("checkpoint: damage is refused") {
  Stream s = plain();
  SUBCASE("magic") {
    s.magic = kProtocol + "K\x05.";
    CHECK(contains(reason(s), "not a PyTorch checkpoint"));
  }
  SUBCASE("opcodes that run code") {
    s.dict = "cos\nsystem\n(" + text("true") + "t\x81";  // NEWOBJ
    CHECK(contains(reason(s), "opcode 129 is not accepted"));
  }
  SUBCASE("a call of anything else is no tensor and is not run") {
    s.dict = "cos\nsystem\n(" + text("true") + "tR";
    CHECK(contains(reason(s), "no tensors"));
  }
  SUBCASE("the storage is shorter than the tensor") {
    replace(&s.dict, small(3) + small(2) + "\x86", small(9) + small(2) + "\x86");
    CHECK(contains(reason(s), "exceeds its storage"));
  }
  SUBCASE("an offset outside") {
    replace(&s.dict, "NtQ" + small(0), "NtQ" + small(1));
    CHECK(contains(reason(s), "reads outside its storage"));
  }
  SUBCASE("a stride outside") {
    replace(&s.dict, small(2) + small(1) + "\x86" + "\x89", small(3) + small(1) + "\x86" + "\x89");
    CHECK(contains(reason(s), "outside its storage"));
  }
  SUBCASE("a wrong element count") {
    s.storage.replace(0, 8, number(uint64_t{1} << 62, 8));
    CHECK(contains(reason(s), "has 4611686018427387904 elements, stated 6"));
  }
  SUBCASE("unknown storage") {
    replace(&s.dict, "FloatStorage", "QuantStorage");
    CHECK(contains(reason(s), "storage type 'torch QuantStorage'"));
  }
  SUBCASE("unknown memo slot") {
    s.dict = "h\x05";
    CHECK(contains(reason(s), "unknown memo slot"));
  }
}

TEST_CASE("checkpoint: every truncation is refused") {
  const Stream s = plain();
  const std::string all = s.magic + s.version + s.system + kProtocol + "}(" + text("w") + s.dict +
                          "u." + s.keys + s.storage;
  size_t accepted = 0;
  for (size_t n = 0; n < all.size(); ++n)
    accepted += read_checkpoint(std::as_bytes(std::span(all)).first(n)).ok();
  CHECK(accepted == 0);
}

}  // namespace mpq::convert
