#include "converter/cli/texts.h"

#include "converter/data/text_dataset.h"
#include "converter/random.h"

namespace mpq::convert::cli {

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
  const bool types = graph.inputs.size() > 1;
  SequenceData sequences;
  for (const size_t i : choose(texts.size(), count, seed)) {
    const text::Encoding encoding =
        texts[i].pair == nullptr
            ? tokenizer.encode(*texts[i].text, graph.sequence_length)
            : tokenizer.encode(*texts[i].text, *texts[i].pair, graph.sequence_length);
    sequences.add(encoding.ids, types ? encoding.types : std::vector<int32_t>());
  }
  return sequences;
}

}  // namespace mpq::convert::cli
