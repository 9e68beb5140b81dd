// Texts as sequences of tokens, and what a model of texts answers.
#pragma once

#include <string>
#include <vector>

#include "converter/data/text_dataset.h"
#include "runtime/cli/inputs.h"
#include "runtime/cli/report.h"
#include "runtime/cli/terminal.h"
#include "runtime/cli/verbs.h"

namespace mpq::cli {

// What the first output of a model of sequences is.
enum class TextTask {
  kEmbedding,  // a vector a sequence: two texts are compared by their cosine
  kClasses,    // scores of classes, of a text or a pair of texts
  kSpans,      // scores of beginning and ending an answer, of a question and a passage
  kRows        // a vector a token
};
TextTask text_task(const Model& model);

// One text, or two when pair is not NULL, as one sequence. A warning says what did not fit.
Result<Sample> tokenise(const Model& model, const std::string& name, const std::string& text,
                        const std::string* pair);

// "text" or "a | b", as it was written: nothing is cut yet. Files are refused.
Result<data::TextSample> words_of(const Model& model, const std::string& word);
// "text", "a | b", or a file of texts (.txt, .tsv, .jsonl). Of an embedding model, the two sides of
// a pair are two samples.
Result<std::vector<Sample>> text_samples(const Model& model, const std::string& word);
// Of a set of texts, FORMAT:PLACE; limit 0: all.
Result<std::vector<Sample>> set_samples(const Model& model, const std::string& spec, size_t limit);

Checked fill_sequences(Session* session, const std::vector<Sample>& samples, size_t first,
                       size_t count);

double cosine(const std::vector<float>& a, const std::vector<float>& b);

// A question and a passage in windows that overlap, as long as the model takes.
Result<std::vector<Sample>> passage_windows(const Model& model, const std::string& name,
                                            const std::string& question,
                                            const std::string& passage);
struct Answer {
  std::string text;  // "": the passage does not say
  double score = -1e30;
  double null_score = 1e30;  // of the first token, least over the windows
};
// Takes the best answer within one window's scores into account.
void add_window(const Sample& window, const float* scores, const std::string& passage,
                Answer* answer);

// The first output of each sample, as floats, in batches as the session has.
Result<std::vector<std::vector<float>>> outputs_of(Session* session,
                                                   const std::vector<Sample>& samples,
                                                   Progress* progress);

// eval of a model of texts.
Result<ExitCode> eval_texts(const Args& args, const Model& model);
// run of a model of texts.
Result<ExitCode> run_texts(const Args& args, const Model& model, const Report& report);

}  // namespace mpq::cli
