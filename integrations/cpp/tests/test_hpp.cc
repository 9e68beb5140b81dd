// mpq.hpp through the shared library, on models that the build writes.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mpq.hpp>

namespace {

std::vector<std::byte> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::byte> result(bytes.size());
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

std::string tiny() { return std::getenv("MPQ_TINY"); }
std::string beside_tiny(const std::string& extension) {
  return tiny().substr(0, tiny().rfind('.')) + extension;
}

bool is_expected(std::span<const float> logits) {
  const std::vector<std::byte> expected = read(beside_tiny(".expected"));
  return logits.size_bytes() == expected.size() &&
         std::memcmp(logits.data(), expected.data(), expected.size()) == 0;
}

template <typename F>
mpq_status status_of(F&& f) {
  try {
    f();
  } catch (const mpq::StatusError& error) {
    CHECK(std::string(error.what()) != "");
    return error.status();
  }
  return MPQ_OK;
}

}  // namespace

TEST_CASE("a session answers as the naive interpreter, and so does its clone after it") {
  const std::vector<std::byte> pixels = read(beside_tiny(".input"));
  std::optional<mpq::Session> session;
  {
    const mpq::Model model(tiny());
    session.emplace(model, mpq::SessionOptions{.threads = 2});
  }  // the session keeps the model
  std::ranges::copy(pixels, session->input<std::byte>(0).begin());
  session->run();
  CHECK(is_expected(session->output<float>(0)));
  mpq::Session twin = session->clone();
  session.reset();
  std::ranges::copy(pixels, twin.input<std::byte>(0).begin());
  twin.run();
  CHECK(is_expected(twin.output<float>(0)));
}

TEST_CASE("a model from memory has the facts of its file") {
  const std::vector<std::byte> file = read(tiny());
  const mpq::Model model{std::span<const std::byte>(file)};
  CHECK(model.name() == "everything");
  CHECK(model.labels().size() == 10);
  CHECK(model.labels()[3] == "class 3");
  REQUIRE(model.image_preprocess().has_value());
  CHECK(model.image_preprocess()->crop_h == 17);
  CHECK(model.input_info(0).bytes == 17 * 15 * 3);
}

TEST_CASE("sequences of a batch give the bytes of single ones") {
  const mpq::Model model(std::getenv("MPQ_TEXT"));
  CHECK(model.takes_text());
  mpq::Session many(model, mpq::SessionOptions{.batch = 2});
  mpq::Session one(model);
  std::vector<int32_t> ids, types;
  std::vector<uint32_t> lengths;
  for (const char* text : {"a b c", "ad"}) {
    const std::vector<mpq_token> tokens = model.tokenize(text);
    lengths.push_back(static_cast<uint32_t>(tokens.size()));
    for (const mpq_token& token : tokens) ids.push_back(token.id), types.push_back(token.type);
  }
  many.set_sequences(ids, types, lengths);
  many.run();
  const std::span<const float> both = many.output<float>(0);
  size_t first = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    one.set_sequences(std::span(ids).subspan(first, lengths[i]), {}, {&lengths[i], 1});
    one.run();
    const std::span<const float> alone = one.output<float>(0);
    CHECK(std::memcmp(alone.data(), both.data() + i * alone.size(), alone.size_bytes()) == 0);
    first += lengths[i];
  }
  CHECK(model.tokenize("a", std::string_view()).size() == 4);  // [CLS] a [SEP] [SEP]
}

TEST_CASE("failures carry their status") {
  CHECK(status_of([] { mpq::Model("/absent.fb"); }) == MPQ_IO);
  CHECK(status_of([] { mpq::Model(beside_tiny(".input")); }) == MPQ_CORRUPT);
  const mpq::Model model(tiny());
  mpq::Session session(model);
  CHECK(status_of([&] { session.input<float>(0); }) == MPQ_INVALID_ARGUMENT);
  CHECK(status_of([&] { session.output<float>(9); }) == MPQ_INVALID_ARGUMENT);
  CHECK(status_of([&] { mpq::Session(model, mpq::SessionOptions{.memory_limit = 1}); }) ==
        MPQ_LIMIT);
  const mpq::Model text(std::getenv("MPQ_TEXT"));
  mpq::Session sequences(text);
  const int32_t ids[] = {1, 2};
  const uint32_t lengths[] = {3};
  CHECK(status_of([&] { sequences.set_sequences(ids, {}, lengths); }) == MPQ_INVALID_ARGUMENT);
}
