#include "runtime/cli/texts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "runtime/cli/terminal.h"
#include "runtime/cli/text.h"

namespace mpq::cli {
namespace {

using Tokens = std::vector<mpq_token>;

// All tokens of a text: the model's limit does not count. *cut: of those that did not fit in
// `limit` tokens (0: the model's).
Result<Tokens> tokens_of(const Model& model, const std::string& text, const std::string* pair,
                         size_t* cut) {
  size_t count = 0;
  Tokens tokens(model.sequence_length());
  MPQ_CHECK(check(mpq_model_tokenize(model.get(), text.data(), text.size(),
                                     pair == nullptr ? nullptr : pair->data(),
                                     pair == nullptr ? 0 : pair->size(), 0, tokens.data(),
                                     tokens.size(), &count, cut),
                  model.path()));
  tokens.resize(std::min(count, tokens.size()));
  return tokens;
}

std::string shortened(const std::string& text) {
  constexpr size_t kLongest = 60;
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

Checked check_takes_text(const Model& model) {
  if (mpq_model_takes_text(model.get()) != 0) return Ok{};
  return Error{Status::kUnsupported,
               model.path() + ": has no vocabulary, so it takes no text; only random tokens"};
}

// "a | b" -> {"a", "b"}; one text when there is no bar with spaces.
std::vector<std::string> sides_of(const std::string& word) {
  const size_t bar = word.find(" | ");
  if (bar == std::string::npos) return {std::string(trim(word))};
  return {std::string(trim(word.substr(0, bar))), std::string(trim(word.substr(bar + 3)))};
}

Result<std::vector<Sample>> samples_of(const Model& model, const data::TextSample& sample,
                                       const std::string& name) {
  std::vector<Sample> samples;
  const bool apart = text_task(model) == TextTask::kEmbedding;
  const std::string* const pair = sample.pair.empty() ? nullptr : &sample.pair;
  MPQ_TRY(Sample first, tokenise(model, name, sample.text, apart ? nullptr : pair));
  samples.push_back(std::move(first));
  if (apart && pair != nullptr) {
    MPQ_TRY(Sample second, tokenise(model, name, *pair, nullptr));
    samples.push_back(std::move(second));
  }
  return samples;
}

}  // namespace

TextTask text_task(const Model& model) {
  const std::vector<mpq_node_info> nodes = model.nodes();
  const std::vector<TensorInfo> outputs = model.outputs();
  if (nodes.empty() || outputs.empty()) return TextTask::kRows;
  const auto is_pool = [](const mpq_node_info& node) {
    return std::strcmp(node.op, "sequence_pool") == 0;
  };
  const auto pool = std::find_if(nodes.begin(), nodes.end(), is_pool);
  if (pool != nodes.end())
    return outputs[0].name == pool->output ? TextTask::kEmbedding : TextTask::kClasses;
  return outputs[0].shape.back() == 2 ? TextTask::kSpans : TextTask::kRows;
}

Result<Sample> tokenise(const Model& model, const std::string& name, const std::string& text,
                        const std::string* pair) {
  if (trim(text).empty() && pair == nullptr)
    return Error{Status::kInvalidArgument, name + ": the text is empty"};
  Sample sample;
  sample.name = name;
  size_t cut = 0;
  MPQ_TRY(sample.tokens, tokens_of(model, text, pair, &cut));
  if (cut != 0)
    warn(format("%s: cut to %u tokens, %zu did not fit", shortened(name).c_str(),
                model.sequence_length(), cut));
  return sample;
}

Result<data::TextSample> words_of(const Model& model, const std::string& word) {
  MPQ_CHECK(check_takes_text(model));
  std::error_code ignored;
  if (std::filesystem::is_regular_file(word, ignored))
    return Error{Status::kInvalidArgument,
                 word +
                     ": is a file, but the model reads text; give a sentence, or a file of them "
                     "(.txt, .tsv, .jsonl)"};
  const std::vector<std::string> sides = sides_of(word);
  data::TextSample sample;
  sample.text = sides[0];
  if (sides.size() > 1) sample.pair = sides[1];
  return sample;
}

Result<std::vector<Sample>> text_samples(const Model& model, const std::string& word) {
  MPQ_CHECK(check_takes_text(model));
  std::error_code ignored;
  const bool file =
      ends_with_any(word, {".txt", ".tsv", ".jsonl"}) && std::filesystem::exists(word, ignored);
  if (file || data::is_text_dataset(word))
    return set_samples(model, file ? word.substr(word.rfind('.') + 1) + ":" + word : word, 0);
  MPQ_TRY(const data::TextSample sample, words_of(model, word));
  return samples_of(model, sample, word);
}

Result<std::vector<Sample>> set_samples(const Model& model, const std::string& spec, size_t limit) {
  MPQ_CHECK(check_takes_text(model));
  MPQ_TRY(const data::TextDataset set, data::open_text_dataset(spec));
  std::vector<Sample> samples;
  const size_t count = limit == 0 ? set.samples.size() : std::min(limit, set.samples.size());
  for (size_t i = 0; i < count; ++i) {
    MPQ_TRY(std::vector<Sample> more,
            samples_of(model, set.samples[i], shortened(set.samples[i].text)));
    std::move(more.begin(), more.end(), std::back_inserter(samples));
  }
  return samples;
}

Checked fill_sequences(Session* session, const std::vector<Sample>& samples, size_t first,
                       size_t count) {
  std::vector<int32_t> ids, types;
  std::vector<uint32_t> lengths;
  for (size_t i = 0; i < count; ++i) {
    const Tokens& tokens = samples[(first + i) % samples.size()].tokens;
    for (const mpq_token& token : tokens) {
      ids.push_back(token.id);
      types.push_back(token.type);
    }
    lengths.push_back(static_cast<uint32_t>(tokens.size()));
  }
  return session->set_sequences(ids, types, lengths);
}

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : 0.0;
}

Result<std::vector<Sample>> passage_windows(const Model& model, const std::string& name,
                                            const std::string& question,
                                            const std::string& passage) {
  constexpr size_t kStride = 128;  // tokens that neighbouring windows share
  const std::string nothing;
  size_t cut = 0;
  MPQ_TRY(const Tokens frame, tokens_of(model, nothing, &nothing, &cut));
  MPQ_TRY(const Tokens asked, tokens_of(model, question, nullptr, &cut));
  // The passage in pieces that fit, cut between words.
  Tokens all;
  for (size_t begin = 0; begin < passage.size();) {
    const std::string rest = passage.substr(begin);
    MPQ_TRY(const Tokens part, tokens_of(model, rest, nullptr, &cut));
    size_t end = part.size() - 1;  // the separator
    if (cut != 0)
      while (end > 2 && part[end - 1].begin == part[end - 2].end) --end;
    if (end < 2) break;
    for (size_t i = 1; i < end; ++i) {
      mpq_token token = part[i];
      token.type = 1;
      token.text = 1;
      token.begin += static_cast<uint32_t>(begin);
      token.end += static_cast<uint32_t>(begin);
      all.push_back(token);
    }
    if (cut == 0) break;
    begin = all.back().end;
  }
  const size_t question_tokens = asked.size() - 2, fixed = frame.size() + question_tokens;
  if (fixed + 2 > model.sequence_length())
    return Error{Status::kInvalidArgument,
                 format("%s: the question has %zu tokens, the model "
                        "takes %u with the passage",
                        shortened(name).c_str(), question_tokens, model.sequence_length())};
  const size_t room = model.sequence_length() - fixed;
  const size_t step = room > kStride ? room - kStride : std::max<size_t>(room / 2, 1);
  std::vector<Sample> windows;
  for (size_t begin = 0; begin == 0 || begin < all.size(); begin += step) {
    const size_t end = std::min(begin + room, all.size());
    Sample window;
    window.name = name;
    window.tokens.push_back(frame.front());
    window.tokens.insert(window.tokens.end(), asked.begin() + 1, asked.end() - 1);
    window.tokens.insert(window.tokens.end(), frame.begin() + 1, frame.end() - 1);
    window.tokens.insert(window.tokens.end(), all.begin() + static_cast<ptrdiff_t>(begin),
                         all.begin() + static_cast<ptrdiff_t>(end));
    window.tokens.push_back(frame.back());
    windows.push_back(std::move(window));
    if (end == all.size()) break;
  }
  return windows;
}

void add_window(const Sample& window, const float* scores, const std::string& passage,
                Answer* answer) {
  constexpr size_t kLongest = 30;  // tokens of an answer
  const Tokens& tokens = window.tokens;
  answer->null_score = std::min(answer->null_score, double{scores[0]} + double{scores[1]});
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].text != 1) continue;
    for (size_t j = i; j < std::min(tokens.size(), i + kLongest) && tokens[j].text == 1; ++j) {
      const double score = double{scores[2 * i]} + double{scores[2 * j + 1]};
      if (score <= answer->score) continue;
      answer->score = score;
      answer->text = passage.substr(tokens[i].begin, tokens[j].end - tokens[i].begin);
    }
  }
}

Result<std::vector<std::vector<float>>> outputs_of(Session* session,
                                                   const std::vector<Sample>& samples,
                                                   Progress* progress) {
  std::vector<std::vector<float>> outputs;
  for (size_t first = 0; first < samples.size() && !interrupted(); first += session->batch()) {
    const size_t count = std::min<size_t>(session->batch(), samples.size() - first);
    MPQ_CHECK(fill_sequences(session, samples, first, count));
    MPQ_CHECK(session->run());
    const mpq_dtype dtype = session->outputs()[0].dtype;
    if (dtype != MPQ_F32)
      return Error{Status::kUnsupported,
                   session->where() + ": output 0 is " + mpq_dtype_string(dtype) + ", not f32"};
    for (uint32_t i = 0; i < count; ++i) {
      MPQ_TRY(const std::span<const std::byte> part, session->sample_output(0, i));
      std::vector<float> values(part.size() / sizeof(float));
      std::memcpy(values.data(), part.data(), part.size());
      outputs.push_back(std::move(values));
    }
    progress->update(first + count);
  }
  return outputs;
}

}  // namespace mpq::cli
