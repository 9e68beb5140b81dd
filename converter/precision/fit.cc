// FIT (arXiv 2210.08502): the harm of noise in weights and activations is their Fisher information
// times the noise's mean square. The trace of the Fisher matrix is the mean over images of the
// squared length of the loss's gradient, an image at a time.
#include "converter/precision/gradients.h"

namespace mpq::convert::precision {
namespace {

double squared_length(std::span<const float> x) {
  return mean_square(x) * static_cast<double>(x.size());
}

}  // namespace

Result<FisherTraces> fisher_traces(const Question& question) {
  MPQ_TRY(LossGradient loss, LossGradient::of(question, 1, true));
  FisherTraces traces;
  traces.weights.resize(question.selection.layers.size());
  traces.inputs.resize(question.selection.groups.size());
  const double share = 1.0 / static_cast<double>(loss.batches());
  for (size_t image = 0; image < loss.batches(); ++image) {
    MPQ_CHECK(loss.run(image));
    for (size_t i = 0; i < traces.weights.size(); ++i)
      traces.weights[i] += share * squared_length(loss.tape().gradient(loss.weights(i)));
    for (size_t g = 0; g < traces.inputs.size(); ++g)
      if (loss.input(g) != kNoValue)
        traces.inputs[g] += share * squared_length(loss.tape().gradient(loss.input(g)));
  }
  return traces;
}

Result<Scores> score_fit(const Question& question) {
  MPQ_TRY(const FisherTraces traces, fisher_traces(question));
  MPQ_TRY(const ObservedInputs observed, observe_inputs(question));
  Harm harm(question.selection.layers.size());
  for (size_t g = 0; g < question.selection.groups.size(); ++g) {
    const Group& group = question.selection.groups[g];
    for (const uint32_t layer : group.layers) {
      if (group.fixed) break;
      // The layers of a group read one tensor: its noise counts once.
      const double input = layer == group.layers.front() ? traces.inputs[g] : 0.0;
      const std::span<const float> x = observed.tape->data(observed.inputs[layer]);
      for (const int choice : question.options.bits) {
        const Bits bits = question.at(group, choice);
        const Layer& of = question.selection.layers[layer];
        harm[layer].push_back(traces.weights[layer] * weight_noise(question, of, bits.weight) +
                              (input > 0.0 ? input * activation_noise(x, bits.activation) : 0.0));
      }
    }
  }
  Scores scores;
  scores.gain = gains_of(question, harm);
  return scores;
}

}  // namespace mpq::convert::precision
