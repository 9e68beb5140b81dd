#include "integrations/server/facts.h"

#include <algorithm>

namespace mpq::serve {

namespace {

struct Type {
  const char* name;
  size_t bytes;
};
// By mpq_dtype; codes are one byte each.
constexpr Type kTypes[] = {{"FP32", 4},  {"INT32", 4}, {"UINT8", 1}, {"INT8", 1},
                           {"UINT8", 1}, {"INT8", 1},  {"UINT8", 1}, {"INT8", 1}};

TensorFacts facts_of(const mpq_tensor_info& info) {
  TensorFacts facts;
  facts.name = info.name;
  facts.datatype = kTypes[info.dtype].name;
  facts.element_bytes = kTypes[info.dtype].bytes;
  facts.shape.assign(info.shape + 1, info.shape + info.rank);
  facts.sample_bytes = static_cast<size_t>(info.bytes / static_cast<uint64_t>(info.shape[0]));
  return facts;
}

// Which outputs have a row a token: two tokens of one sequence give them two rows.
void find_token_rows(Facts* facts) {
  Session session(facts->model, SessionOptions{.threads = 1, .max_tokens = 2, .isa = "scalar"});
  const int32_t ids[2] = {0, 0};
  const uint32_t length = std::min(2U, facts->sequence_length);
  session.set_sequences({ids, length}, {}, {&length, 1});
  for (size_t i = 0; i < facts->outputs.size(); ++i)
    facts->outputs[i].per_token = length > 1 && session.output_info(i).shape[0] == 2;
}

constexpr uint64_t kMiB = uint64_t{1} << 20, kCeiling = 64 * kMiB;
constexpr uint32_t kUsualTokens = 1024;

}  // namespace

uint64_t Facts::body_limit() const {
  constexpr uint64_t kJson = 8, kTokenBytes = 3 * 8, kTextBytes = 16;
  uint64_t sample = 0;
  for (const TensorFacts& input : inputs) sample += input.sample_bytes;
  if (sequences()) sample = sequence_length * (kTokenBytes + kTextBytes) / kJson;
  if (image) sample = std::max(sample, 2 * kMiB / kJson * 4);  // encoded: up to 8 MiB each
  return std::min(sample * config.max_batch_size * kJson + kMiB, kCeiling);
}

std::shared_ptr<const Facts> load_facts(const std::string& name, const std::string& version,
                                        const ModelConfig& config, FileBytes file,
                                        std::string* why) {
  try {
    const Model model{std::span<const std::byte>(file.bytes())};
    auto facts = std::make_shared<Facts>(Facts{.name = name,
                                               .version = version,
                                               .config = config,
                                               .file = std::move(file),  // its bytes stay in place
                                               .model = model});
    for (size_t i = 0; i < model.input_count(); ++i)
      facts->inputs.push_back(facts_of(model.input_info(i)));
    for (size_t i = 0; i < model.output_count(); ++i)
      facts->outputs.push_back(facts_of(model.output_info(i)));
    for (const std::string_view label : model.labels()) facts->labels.emplace_back(label);
    facts->image = model.image_preprocess();
    facts->sequence_length = model.sequence_length();
    facts->takes_text = model.takes_text();
    if (facts->sequences()) {
      facts->takes_types = facts->inputs.size() > 1;
      const uint32_t all = config.max_batch_size * facts->sequence_length;
      facts->max_tokens =
          config.max_batch_tokens != 0 ? config.max_batch_tokens : std::min(all, kUsualTokens);
      facts->max_tokens = std::min(std::max(facts->max_tokens, facts->sequence_length), all);
      facts->config.max_batch_tokens = facts->max_tokens;
      find_token_rows(facts.get());
    } else if (facts->inputs.empty() || facts->outputs.empty()) {
      *why = "the model has no inputs or outputs";
      return nullptr;
    }
    return facts;
  } catch (const StatusError& error) {
    *why = error.what();
  } catch (const std::bad_alloc&) {
    *why = "out of memory";
  }
  return nullptr;
}

}  // namespace mpq::serve
