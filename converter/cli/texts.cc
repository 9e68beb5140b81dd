#include "converter/cli/texts.h"

#include "converter/data/text_dataset.h"
#include "converter/random.h"

namespace mpq::convert::cli {
namespace {

// pair: null or empty for one text alone.
void add_text(const text::Tokenizer& tokenizer, const Graph& graph, const std::string& text,
              const std::string* pair, SequenceData* sequences) {
  const bool types = graph.inputs.size() > 1;
  const text::Encoding encoding = pair == nullptr || pair->empty()
                                      ? tokenizer.encode(text, graph.sequence_length)
                                      : tokenizer.encode(text, *pair, graph.sequence_length);
  sequences->add(encoding.ids, types ? encoding.types : std::vector<int32_t>());
}

}  // namespace

Result<SequenceData> load_texts(const std::string& spec, uint32_t count, uint64_t seed,
                                const text::Tokenizer& tokenizer, bool pairs, const Graph& graph) {
  MPQ_TRY(const data::TextDataset dataset, data::open_text_dataset(spec));
  struct Text {
    const std::string* text;
    const std::string* pair;
  };
  std::vector<Text> texts;
  for (const data::TextSample& sample : dataset.samples) {
    const bool joined = pairs && !sample.pair.empty();
    texts.push_back({&sample.text, joined ? &sample.pair : nullptr});
    if (!joined && !sample.pair.empty()) texts.push_back({&sample.pair, nullptr});
  }
  SequenceData sequences;
  for (const size_t i : choose(texts.size(), count, seed))
    add_text(tokenizer, graph, *texts[i].text, texts[i].pair, &sequences);
  return sequences;
}

Result<LabelledTexts> load_labelled_texts(const std::string& spec, uint32_t limit,
                                          const text::Tokenizer& tokenizer, const Graph& graph) {
  MPQ_TRY(data::TextDataset dataset, data::open_text_dataset(spec));
  if (limit != 0 && limit < dataset.samples.size()) dataset.samples.resize(limit);
  LabelledTexts all;
  all.classes = std::move(dataset.class_names);
  for (const data::TextSample& sample : dataset.samples) {
    if (sample.label < 0)
      return Error{Status::kInvalidArgument,
                   spec + ": text " + std::to_string(all.labels.size()) + " has no class"};
    add_text(tokenizer, graph, sample.text, &sample.pair, &all.texts);
    all.labels.push_back(sample.label);
  }
  return all;
}

}  // namespace mpq::convert::cli
