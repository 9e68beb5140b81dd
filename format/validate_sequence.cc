// Sequence models: which tensors have a row a token and which a row a sequence, the tables that
// tokens index, and how text becomes ids.
#include "format/text.h"
#include "format/validate_internal.h"

namespace mpq::format {
namespace {

constexpr uint32_t kMaxSequence = 32768;  // sums of attention stay far below 2^31
constexpr size_t kMaxTokens = 1U << 20;

bool is_sequence_op(OpCode op) { return op >= OpCode::kEmbedding && op <= OpCode::kSequencePool; }

// Every activation of a sequence model is one row of [1] or [1,C] in the file.
Checked check_rows(const Model& model) {
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const Tensor& t = model.tensors[i];
    if (t.is_constant()) continue;
    MPQ_REQUIRE(kGraphSequence, t.shape.size() <= 2 && t.shape[0] == 1,
                TensorName{model, static_cast<TensorId>(i)}, ": shape ", to_string(t.shape),
                " is no row of a sequence");
  }
  return Ok{};
}

// Operands of one node are all of tokens or all of sequences; attention and pooling need tokens.
Checked check_domains(const Model& model) {
  const std::vector<bool> pooled = pooled_tensors(model);
  for (const Node& node : model.nodes) {
    bool token = false, sequence = false;
    for (const TensorId id : node.inputs)
      if (id != kNoTensor && !model.tensors[id].is_constant())
        (pooled[id] ? sequence : token) = true;
    MPQ_REQUIRE(kGraphSequence, !(token && sequence), NodeName{model, node},
                ": mixes rows of tokens and rows of sequences");
    MPQ_REQUIRE(kGraphSequence,
                !(sequence && is_sequence_op(node.op()) && node.op() != OpCode::kLayerNorm),
                NodeName{model, node}, ": reads rows of sequences, not of tokens");
  }
  return Ok{};
}

}  // namespace

Checked check_sequences(const Model& model) {
  const uint32_t length = model.sequence_length;
  MPQ_REQUIRE(kGraphSequence, length <= kMaxSequence, "sequences of ", length, " tokens, at most ",
              kMaxSequence);
  const auto embeds = std::ranges::count(model.nodes, OpCode::kEmbedding, &Node::op);
  for (const Node& node : model.nodes)
    MPQ_REQUIRE(kGraphSequence, length != 0 || !is_sequence_op(node.op()), NodeName{model, node},
                ": needs a sequence length");
  if (length == 0) return Ok{};
  MPQ_REQUIRE(kGraphSequence, embeds == 1, embeds,
              " embeddings in a sequence model, there must be one");
  MPQ_CHECK(check_rows(model));
  return check_domains(model);
}

Checked check_vocabulary(const Model& model) {
  const std::string_view tokens(reinterpret_cast<const char*>(model.vocabulary.data()),
                                model.vocabulary.size());
  MPQ_REQUIRE(kVocabulary, model.has_text_preprocess == !tokens.empty(), "vocabulary of ",
              tokens.size(), " bytes ", tokens.empty() ? "with" : "without", " text preprocessing");
  if (tokens.empty()) return Ok{};
  const auto count = static_cast<uint64_t>(std::ranges::count(tokens, '\n'));
  MPQ_REQUIRE(kVocabulary, tokens.back() == '\n' && count <= kMaxTokens, "vocabulary of ", count,
              " tokens (at most ", kMaxTokens, ") must end with a line feed");
  MPQ_REQUIRE(kVocabulary, is_clean_text(tokens, true), "vocabulary: not clean UTF-8");
  MPQ_REQUIRE(kTokenizer, model.sequence_length != 0,
              "text preprocessing without a sequence length");
  const TensorId words = embedding_of(model)->inputs[kWords];
  const auto rows = static_cast<uint64_t>(model.tensors[words].shape[0]);
  MPQ_REQUIRE(kTokenizer, count <= rows, "vocabulary of ", count, " tokens, the embedding has ",
              rows, " rows");
  const TextPreprocess& t = model.text;
  for (const uint32_t id : {t.unknown, t.begin, t.separator})
    MPQ_REQUIRE(kTokenizer, id < count, "special token ", id, " of ", count);
  for (const uint32_t id : {t.padding, t.mask})
    MPQ_REQUIRE(kTokenizer, id < count || id == kNoToken, "special token ", id, " of ", count);
  MPQ_REQUIRE(kTokenizer, t.pair_separators >= 1 && t.pair_separators <= 8, t.pair_separators,
              " separators between two texts, not 1 to 8");
  return Ok{};
}

}  // namespace mpq::format
