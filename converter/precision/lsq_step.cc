// Importance by learned steps (arXiv 2203.08368): at every precision the steps of all selectable
// layers are trained for a while, weights as they are; the larger the step of a layer's weights and
// inputs, the more its precision matters.
#include <map>

#include "converter/precision/gradients.h"
#include "converter/precision/imported.h"
#include "converter/train/fit.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::precision {
namespace {

constexpr uint32_t kBatch = 32;

BitsMap bits_at(const Question& question, int choice) {
  BitsMap bits;
  for (const Layer& layer : question.selection.layers) {
    const Group& group = question.selection.groups[layer.group];
    const Bits at = question.at(group, group.fixed ? question.options.fixed_bits : choice);
    bits[layer.name] = {at.weight, at.activation};
  }
  return bits;
}

Result<Graph> with_learned_steps(const Question& question, const Graph& real, train::Tape* teacher,
                                 int choice, uint32_t batch) {
  MPQ_TRY(Graph graph, train::add_quantizers(real, bits_at(question, choice), teacher));
  train::inherit_steps(question.graph, &graph);
  MPQ_TRY(train::Tape tape, train::Tape::create(std::move(graph), {.batch = batch}));
  for (train::Parameter& parameter : tape.parameters())
    parameter.trained = parameter.role == train::Role::kStep;
  train::Recipe recipe;
  recipe.steps = question.options.steps;
  recipe.batch = batch;
  recipe.schedule = {.rate = 0.01F, .decay = train::Decay::kConstant};
  recipe.seed = question.options.seed;
  recipe.frozen_norms = 1.0;
  MPQ_TRY(const train::Fitted fitted, train::fit(&tape, teacher, *question.options.images, recipe));
  (void)fitted;
  return tape.graph();
}

}  // namespace

Result<Scores> score_lsq_step(const Question& question) {
  MPQ_CHECK(check_images(question, 1));
  const Graph real = train::without_quantizers(question.graph);
  const auto batch =
      static_cast<uint32_t>(std::min<size_t>(kBatch, question.options.images->count()));
  // First steps come from a tape that has run; a teacher has the batch of what it teaches.
  MPQ_TRY(train::Tape teacher, train::Tape::create(real, {.batch = batch}));
  const size_t image = question.options.images->image_bytes();
  std::vector<float> pixels(batch * image);
  std::vector<size_t> first =
      train::shuffled(question.options.images->count(), question.options.seed, 0);
  first.resize(batch);
  train::take_images(*question.options.images, first, {}, 0, pixels);
  Harm harm(question.selection.layers.size());
  for (const int choice : question.options.bits) {
    MPQ_CHECK(teacher.forward(pixels, false));
    MPQ_TRY(const Graph graph, with_learned_steps(question, real, &teacher, choice, batch));
    std::map<std::string, const Node*> nodes;
    for (const Node& node : graph.nodes) nodes[node.name] = &node;
    for (size_t i = 0; i < harm.size(); ++i) {
      const Layer& layer = question.selection.layers[i];
      if (question.selection.groups[layer.group].fixed) continue;
      const Node& node = *nodes.at(layer.name);
      const int input = input_quantiser(graph, node);
      double steps =
          input < 0 ? 0.0
                    : std::get<FakeQuant>(graph.nodes[static_cast<size_t>(input)].op).spec.scale[0];
      for (const float step : node.weight_quant->spec.scale) steps += step;
      harm[i].push_back(steps);
    }
  }
  Scores scores;
  scores.gain = gains_of(question, harm);
  return scores;
}

}  // namespace mpq::convert::precision
