#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "format/writer.h"
#include "tests/format/parts.h"
#include "tests/support/corruption.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;

AlignedBytes file_of(const TinyModel& t) {
  const auto file = write(t.model);
  REQUIRE_MESSAGE(file.ok(), file.error().message);
  return AlignedBytes{std::span<const std::byte>(*file)};
}

TinyModel prepacked_net() {
  TinyModel t = tiny_linear_net();
  static const std::vector<std::byte> data(70, std::byte{5});
  t.model.prepacked = {{1, "a/1", data}, {2, "a/1", data}};
  return t;
}

TEST_CASE("corruption: every truncation is refused") {
  for (const auto make : {tiny_conv_net, tiny_linear_net, prepacked_net}) {
    AlignedBytes file = file_of(make());
    CHECK(read(file.bytes()).ok());
    size_t accepted = 0;
    for (size_t size = 0; size < file.bytes().size(); ++size)
      accepted += read(file.bytes().first(size)).ok() ? 1U : 0U;
    CHECK(accepted == 0);
  }
}

TEST_CASE("corruption: every truncation is refused when the header agrees with it") {
  for (const auto make : {tiny_conv_net, tiny_linear_net, prepacked_net}) {
    AlignedBytes file = file_of(make());
    const Header header = read_header(file.bytes());
    size_t accepted = 0;
    for (size_t size = header.metadata_size; size < file.bytes().size(); ++size) {
      poke<uint64_t>(file.bytes(), 32, size);
      seal(file.bytes());
      accepted += read(file.bytes().first(size)).ok() ? 1U : 0U;
    }
    CHECK(accepted == 0);
  }
}

TEST_CASE("corruption: every single-byte change of header and metadata is refused") {
  AlignedBytes file = file_of(prepacked_net());
  const std::span<std::byte> bytes = file.bytes();
  const size_t size = read_header(bytes).metadata_size;
  size_t accepted = 0;
  for (size_t i = 0; i < size; ++i) {
    const std::byte original = bytes[i];
    for (int delta = 1; delta < 256; ++delta) {
      bytes[i] = static_cast<std::byte>(std::to_integer<int>(original) + delta);
      accepted += read(bytes).ok() ? 1U : 0U;
    }
    bytes[i] = original;
  }
  CHECK(accepted == 0);
  CHECK(read(bytes).ok());
}

TEST_CASE("corruption: every changed byte behind the metadata is refused") {
  for (const auto make : {tiny_conv_net, prepacked_net}) {
    AlignedBytes file = file_of(make());
    const std::span<std::byte> bytes = file.bytes();
    size_t accepted = 0;
    for (size_t i = read_header(bytes).metadata_size; i < bytes.size(); ++i) {
      bytes[i] ^= std::byte{0x40};
      accepted += read(bytes).ok() ? 1U : 0U;
      bytes[i] ^= std::byte{0x40};
    }
    CHECK(accepted == 0);
  }
}

// What a reader hands out must stay inside the file and fit its shape, whatever was changed.
void check_inside(const Model& model, std::span<const std::byte> file, size_t* bad) {
  for (const Tensor& t : model.tensors) {
    if (!t.is_constant()) continue;
    uint64_t elements = 0;
    const bool inside =
        t.data.data() >= file.data() && t.data.data() + t.data.size() <= file.data() + file.size();
    const bool fits = checked_elements(t.shape, &elements) &&
                      t.data.size() == packed_bytes(elements, bits_of(t.dtype));
    *bad += inside && fits ? 0U : 1U;
  }
  for (const Node& n : model.nodes)
    for (const TensorId id : n.outputs)
      *bad += id < model.tensors.size() || id == kNoTensor ? 0U : 1U;
}

TEST_CASE("corruption: every single-byte change with a right digest is refused or sound") {
  // All values of each byte of the second; of the first, which has more operators, every fifth
  // value unless there is time (MPQ_TEST_LONG=1).
  const bool all = std::getenv("MPQ_TEST_LONG") != nullptr;
  const std::pair<TinyModel (*)(), int> nets[] = {{tiny_conv_net, all ? 1 : 5}, {prepacked_net, 1}};
  for (const auto& [make, step] : nets) {
    AlignedBytes file = file_of(make());
    const std::span<std::byte> bytes = file.bytes();
    const size_t size = read_header(bytes).metadata_size;
    size_t bad = 0;
    const CorruptionCounts counts = for_each_corruption(
        bytes, 0, size, step,
        [&](const Model& model, size_t, int) { check_inside(model, bytes, &bad); });
    CHECK(bad == 0);
    CHECK(counts.refused + counts.accepted ==
          (size - 32) * static_cast<size_t>((255 + step - 1) / step));
    MESSAGE("metadata of ", size, " bytes: ", counts.refused, " changes refused, ", counts.accepted,
            " load");
    CHECK(read(bytes).ok());
  }
}

}  // namespace
}  // namespace mpq::test
