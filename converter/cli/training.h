// What the verbs that train share: options of a run, images in memory, progress, results.
#pragma once

#include <string>
#include <vector>

#include "converter/cli/command.h"
#include "converter/train/fit.h"
#include "format/model.h"

namespace mpq::convert::cli {

struct TrainingRequest {
  std::string dataset, test, preset = "small";
  uint32_t limit = 0, test_limit = 0;  // images; 0: all
  train::Recipe recipe;
  std::string optimizer = "sgd", decay = "cosine";
};

// --dataset, --epochs, --rate, ...: one table.
void add_training_options(CLI::App* app, TrainingRequest* request);
// The words of a request as numbers.
Checked finish_request(TrainingRequest* request);

struct LabelledImages {
  train::ImageSet set;
  std::vector<std::string> classes;
};
Result<LabelledImages> load_images(const std::string& path, uint32_t limit,
                                   const format::ImagePreprocess& image, bool quiet);

// A tape that has run on the first images of a run: what first steps are chosen from.
Result<train::Tape> observed(const Graph& graph, const train::Recipe& recipe,
                             const train::ImageSet& images);

// Trains, with progress on stderr.
Result<train::Fitted> run_fit(const std::string& what, train::Tape* tape, train::Tape* teacher,
                              const train::ImageSet& images, const train::Recipe& recipe,
                              bool quiet);

// The share of right answers of what a tape has become, in binary32 also after a run in bfloat16.
Result<double> score(const train::Tape& tape, uint32_t batch, const train::ImageSet& images);

// A trained graph as a model file: batch norm folded, lowered. map: of its layers.
Checked write_model(Graph graph, format::PrecisionMap map, const format::ImagePreprocess& image,
                    const std::string& preset, std::vector<std::string> labels,
                    const std::string& path);

// The verb train, of a folder of an encoder of texts: a classifier as such a folder.
Checked train_texts(const std::string& encoder, uint32_t max_tokens, const TrainingRequest& request,
                    const std::string& output, const Global& global);

}  // namespace mpq::convert::cli
