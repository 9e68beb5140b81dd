#include <doctest/doctest.h>

#include "format/aligned.h"
#include "format/reader.h"
#include "format/writer.h"
#include "mpq_generated.h"
#include "tests/format/equal.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;

void check_round_trip(const Model& model) {
  const auto file = write(model);
  REQUIRE_MESSAGE(file.ok(), file.error().message);
  const AlignedBytes bytes{std::span<const std::byte>(*file)};
  const auto back = read(bytes.bytes());
  REQUIRE_MESSAGE(back.ok(), back.error().message);
  CHECK(difference(model, *back) == "");
  for (const Tensor& t : back->tensors) CHECK(reinterpret_cast<uintptr_t>(t.data.data()) % 64 == 0);
}

TEST_CASE("round trip: every field of the tiny models comes back") {
  check_round_trip(tiny_conv_net().model);
  check_round_trip(tiny_linear_net().model);
  check_round_trip(tiny_text_net().model);
}

// Old readers take what they know: the minor version rises only with what is new.
TEST_CASE("writer: files without sequence operators stay of version 1.0") {
  const auto minor = [](const Model& model) {
    const auto file = write(model);
    REQUIRE_MESSAGE(file.ok(), file.error().message);
    return fb::GetModel(file->data())->minimum_minor();
  };
  CHECK(minor(tiny_conv_net().model) == 0);
  CHECK(minor(tiny_linear_net().model) == 0);
  CHECK(minor(tiny_text_net().model) == 1);
  TinyModel t = tiny_linear_net();
  std::get<LinearAttrs>(t.model.nodes[2].attrs).requant.activation = Activation::kGelu;
  CHECK(minor(t.model) == 1);
}

TEST_CASE("round trip: prepacked weights come back") {
  TinyModel t = tiny_linear_net();
  const std::vector<std::byte> a(100, std::byte{3}), b(7, std::byte{9});
  t.model.prepacked = {{1, "panel64/1", a}, {2, "panel64/1", b}, {1, "other/2", b}};
  check_round_trip(t.model);
}

TEST_CASE("writer: the same model gives the same bytes") {
  const auto a = write(tiny_conv_net().model), b = write(tiny_conv_net().model);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  CHECK(*a == *b);
}

TEST_CASE("writer: an invalid model is not written") {
  TinyModel t = tiny_linear_net();
  t.model.nodes[1].name = "";
  const auto file = write(t.model);
  REQUIRE(!file.ok());
  CHECK(file.error().code == Status::kCorrupt);
}

}  // namespace
}  // namespace mpq::test
