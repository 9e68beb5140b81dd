// Sequence models: every tensor of a run against the naive interpreter, whatever the instruction
// set, the threads, the neighbours and the runs before.
#include <cstring>
#include <string>

#include "runtime/mpq.h"
#include "tests/runtime/support.h"
#include "tests/support/naive_model.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using runtime::Session;
using runtime::SessionOptions;

struct Sequences {
  std::vector<int32_t> ids, types;
  std::vector<uint32_t> lengths;
};

Sequences random_sequences(ModelMaker* random, uint32_t count, uint32_t longest) {
  Sequences s;
  for (uint32_t i = 0; i < count; ++i) {
    s.lengths.push_back(static_cast<uint32_t>(random->pick(1, static_cast<int32_t>(longest))));
    for (uint32_t t = 0; t < s.lengths.back(); ++t) {
      s.ids.push_back(random->pick(0, 10));
      s.types.push_back(random->pick(0, 1));
    }
  }
  return s;
}

Checked set(Session* session, const Sequences& s) {
  return session->set_sequences(s.ids.data(), s.types.data(), s.lengths.data(), s.lengths.size());
}

std::vector<std::byte> output(const Session& session, size_t i) {
  const std::span<const std::byte> bytes = session.output(i);
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("sequences: every tensor equals the naive interpreter's") {
  const TinyModel tiny = tiny_text_net();
  const format::AlignedBytes file = file_of(tiny.model);
  const auto model = open_model(file);
  ModelMaker random(7);
  for (const kernels::IsaMask isa : machine_levels())
    for (const uint32_t threads : {1U, 2U, 3U}) {
      SessionOptions options{.batch = 5, .tokens = 30, .threads = threads, .isa = isa};
      options.keep_tensors = true;
      const auto session = make_session(model, options);
      for (int repeat = 0; repeat < 6; ++repeat) {
        const auto count = static_cast<uint32_t>(random.pick(1, 5));
        const Sequences s = random_sequences(&random, count, 6);
        REQUIRE(set(session.get(), s).ok());
        REQUIRE(session->run().ok());
        const auto expected = naive_run(model->graph(), s.ids, s.types, s.lengths);
        for (format::TensorId id = 0; id < model->graph().tensors.size(); ++id) {
          const format::Tensor& t = model->graph().tensors[id];
          if (t.is_constant()) continue;
          std::vector<std::byte> bytes(session->tensor_bytes(id));
          REQUIRE(session->read_tensor(id, bytes).ok());
          CHECK_MESSAGE(bytes == api_bytes(t, expected[id]), t.name);
        }
      }
    }
}

TEST_CASE("sequences: results do not depend on the neighbours or their number") {
  const TinyModel tiny = tiny_text_net();
  const format::AlignedBytes file = file_of(tiny.model);
  const auto model = open_model(file);
  ModelMaker random(8);
  const auto alone = make_session(model, {.batch = 1, .tokens = 6});
  const auto together = make_session(model, {.batch = 8, .tokens = 48, .threads = 2});
  const Sequences all = random_sequences(&random, 8, 6);
  REQUIRE(set(together.get(), all).ok());
  REQUIRE(together->run().ok());
  const std::vector<std::byte> answers = output(*together, 0), rows = output(*together, 1);
  size_t token = 0;
  for (size_t i = 0; i < all.lengths.size(); ++i) {
    const size_t length = all.lengths[i];
    REQUIRE(alone->set_sequences(&all.ids[token], &all.types[token], &all.lengths[i], 1).ok());
    REQUIRE(alone->run().ok());
    const std::vector<std::byte> answer = output(*alone, 0), hidden = output(*alone, 1);
    REQUIRE(answer.size() == 3 * sizeof(float));
    REQUIRE(hidden.size() == length * 8 * sizeof(float));
    CHECK(std::memcmp(answer.data(), answers.data() + i * answer.size(), answer.size()) == 0);
    CHECK(std::memcmp(hidden.data(), rows.data() + token * 32, hidden.size()) == 0);
    token += length;
  }
}

TEST_CASE("sequences: what steps say of their work is of the next run") {
  const format::AlignedBytes file = file_of(tiny_text_net().model);
  const auto model = open_model(file);
  const auto session = make_session(model, {.batch = 5, .tokens = 30});
  ModelMaker random(11);
  size_t products = 0, attentions = 0;
  for (const uint32_t count : {1U, 5U, 2U}) {
    const Sequences s = random_sequences(&random, count, 6);
    REQUIRE(set(session.get(), s).ok());
    for (const runtime::Step& step : session->plan().steps) {
      if (step.macs == 0) continue;
      ++products;
      const format::Node& node = model->graph().nodes[step.node];
      if (node.op() == format::OpCode::kAttention) {
        uint64_t pairs = 0;
        for (const uint32_t length : s.lengths) pairs += uint64_t{length} * length;
        const int64_t channels = model->graph().tensors[node.outputs[0]].shape.back();
        CHECK_EQ(step.macs, 2 * pairs * static_cast<uint64_t>(channels));
        ++attentions;
        continue;
      }
      const Shape& weights = model->graph().tensors[node.inputs[1]].shape;
      const uint32_t rows = session->plan().live_rows(node.outputs[0]);
      CHECK((rows == count || rows == s.ids.size()));
      CHECK_EQ(step.macs, static_cast<uint64_t>(rows * weights[0] * weights[1]));
    }
  }
  CHECK(products > attentions);
  CHECK(attentions > 0);
}

TEST_CASE("sequences: what is out of range is refused by name and number, and nothing changes") {
  const TinyModel tiny = tiny_text_net();
  const format::AlignedBytes file = file_of(tiny.model);
  const auto model = open_model(file);
  const auto session = make_session(model, {.batch = 2, .tokens = 8});
  const Sequences good = {{1, 2, 3}, {0, 0, 1}, {1, 2}};
  REQUIRE(set(session.get(), good).ok());
  REQUIRE(session->run().ok());
  const std::vector<std::byte> before = output(*session, 0);
  const auto says = [&](const Sequences& s, const std::string& text) {
    const Checked done = set(session.get(), s);
    REQUIRE(!done.ok());
    CHECK_MESSAGE(done.error().message.find(text) != std::string::npos, done.error().message);
  };
  says({{1, 2, 11}, {0, 0, 0}, {3}}, "token 2: id 11 of 11");
  says({{-1}, {0}, {1}}, "token 0: id -1 of 11");
  says({{1, 1}, {0, 2}, {2}}, "token 1: type 2 of 2");
  says({{}, {}, {0}}, "sequence 0: length 0 not in 1..6");
  says({std::vector<int32_t>(7), std::vector<int32_t>(7), {7}}, "length 7 not in 1..6");
  says({std::vector<int32_t>(3), std::vector<int32_t>(3), {1, 1, 1}},
       "number of sequences 3 not in 1..2");
  says({std::vector<int32_t>(10), std::vector<int32_t>(10), {5, 5}},
       "tokens of all sequences 10 not in 1..8");
  REQUIRE(session->run().ok());
  CHECK(output(*session, 0) == before);
}

TEST_CASE("sequences: a model of images takes none") {
  const TinyModel tiny = tiny_linear_net();
  const format::AlignedBytes file = file_of(tiny.model);
  const auto session = make_session(open_model(file), {});
  const Checked done = set(session.get(), {{1}, {0}, {1}});
  REQUIRE(!done.ok());
  CHECK(done.error().code == Status::kUnsupported);
}

TEST_CASE("sequences: the C API turns text into the vocabulary's tokens") {
  const TinyModel tiny = tiny_text_net();  // [PAD] [UNK] [CLS] [SEP] [MASK] a b c ##d ##e f
  const format::AlignedBytes file = file_of(tiny.model);
  mpq_model* model = nullptr;
  REQUIRE(mpq_model_open_memory(file.bytes().data(), file.bytes().size(), nullptr, &model) ==
          MPQ_OK);
  CHECK(mpq_model_vocabulary_size(model) == 11);
  CHECK(mpq_model_takes_text(model) == 1);
  CHECK(std::string(mpq_model_token(model, 8)) == "##d");
  CHECK(mpq_model_token(model, 11) == nullptr);
  mpq_token tokens[6];
  size_t count = 0, cut = 7;
  const auto tokenize = [&](const char* text, const char* pair, uint32_t limit) {
    return mpq_model_tokenize(model, text, std::strlen(text), pair,
                              pair == nullptr ? 0 : std::strlen(pair), limit, tokens, 6, &count,
                              &cut);
  };
  REQUIRE(tokenize("\xC3\x84"
                   "d x",
                   nullptr, 0) == MPQ_OK);  // "ad x" without its accent
  REQUIRE(count == 5);
  CHECK(cut == 0);
  const int32_t ids[] = {2, 5, 8, 1, 3}, texts[] = {-1, 0, 0, 0, -1};
  const uint32_t ends[] = {0, 2, 3, 5, 0};
  for (size_t i = 0; i < count; ++i) {
    CHECK(tokens[i].id == ids[i]);
    CHECK(tokens[i].text == texts[i]);
    CHECK(tokens[i].end == ends[i]);
    CHECK(tokens[i].type == 0);
  }
  REQUIRE(tokenize("a a a a", "b", 0) == MPQ_OK);  // the longest sequence has 6 tokens
  CHECK(count == 6);
  CHECK(cut == 2);
  CHECK(tokens[4].type == 1);
  CHECK(tokens[4].text == 1);
  // Too little room: the number that there would be, and nothing behind the room.
  tokens[1].id = 77;
  REQUIRE(mpq_model_tokenize(model, "a", 1, nullptr, 0, 3, tokens, 1, &count, nullptr) == MPQ_OK);
  CHECK(count == 3);
  CHECK(tokens[0].id == 2);
  CHECK(tokens[1].id == 77);
  CHECK(tokenize("a", nullptr, 7) == MPQ_INVALID_ARGUMENT);
  CHECK(std::string(mpq_last_error()).find("7 tokens; the model takes 6") != std::string::npos);
  CHECK(mpq_model_tokenize(model, nullptr, 0, nullptr, 0, 0, tokens, 6, &count, &cut) ==
        MPQ_INVALID_ARGUMENT);
  CHECK(mpq_model_tokenize(model, "a", 1, nullptr, 0, 0, nullptr, 6, &count, &cut) ==
        MPQ_INVALID_ARGUMENT);
  CHECK(mpq_model_tokenize(model, "a", 1, nullptr, 0, 0, tokens, 6, nullptr, &cut) ==
        MPQ_INVALID_ARGUMENT);
  mpq_model_close(model);
  CHECK(tokenize("a", nullptr, 0) == MPQ_BAD_HANDLE);
  CHECK(mpq_model_takes_text(model) == 0);
}

}  // namespace
}  // namespace mpq::test
