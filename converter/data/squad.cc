// SQuAD 1.1 and 2.0: articles of paragraphs, each with questions about its text.
#include "converter/data/json.h"
#include "converter/data/text_formats.h"

namespace mpq::data {

namespace {

Error corrupt(const std::string& what) { return {Status::kCorrupt, what}; }

Result<TextSample> parse_question(const Json& json, const std::string& context) {
  const Json& id = member(json, "id");
  const Json& question = member(json, "question");
  const Json& answers = member(json, "answers");
  if (!id.is_string()) return corrupt("a question has no 'id'");
  TextSample sample{.pair = context, .id = id.get<std::string>()};
  const std::string where = "question '" + sample.id + "': ";
  if (!question.is_string()) return corrupt(where + "no 'question'");
  sample.text = question.get<std::string>();
  if (!answers.is_array()) return corrupt(where + "no list 'answers'");
  for (const Json& answer : answers) {
    const Json& text = member(answer, "text");
    if (!text.is_string()) return corrupt(where + "an answer has no 'text'");
    sample.answers.push_back(text.get<std::string>());
  }
  if (sample.answers.empty() && member(json, "is_impossible") != true)
    return corrupt(where + "has no answers and is not marked 'is_impossible'");
  return sample;
}

}  // namespace

Result<TextDataset> parse_squad(std::string_view text) {
  MPQ_TRY(const Json json, parse_json(text));
  const Json& articles = member(json, "data");
  if (!articles.is_array()) return corrupt("no list 'data' at the top, as SQuAD has");
  TextDataset set;
  for (size_t a = 0; a < articles.size(); ++a) {
    const std::string where = "article " + std::to_string(a);
    const Json& paragraphs = member(articles[a], "paragraphs");
    if (!paragraphs.is_array()) return corrupt(where + ": no list 'paragraphs'");
    for (size_t p = 0; p < paragraphs.size(); ++p) {
      const Json& context = member(paragraphs[p], "context");
      const Json& questions = member(paragraphs[p], "qas");
      if (!context.is_string() || !questions.is_array())
        return corrupt(where + ", paragraph " + std::to_string(p) + ": no 'context' or no 'qas'");
      for (const Json& question : questions) {
        MPQ_TRY(TextSample sample, parse_question(question, context.get<std::string>()));
        set.samples.push_back(std::move(sample));
      }
    }
  }
  return set;
}

}  // namespace mpq::data
