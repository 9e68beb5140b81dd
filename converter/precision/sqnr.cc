// Noise over signal, in power: what quantisation does to a layer's own tensors, whatever they are
// for. Without images of weights only.
#include "converter/precision/gradients.h"

namespace mpq::convert::precision {

Result<Scores> score_sqnr(const Question& question) {
  ObservedInputs observed;
  if (question.options.images != nullptr) {
    MPQ_TRY(observed, observe_inputs(question));
  }
  const auto ratio = [](double noise, double signal) {
    return signal > 0.0 ? noise / signal : 0.0;
  };
  Harm harm(question.selection.layers.size());
  for (const Group& group : question.selection.groups)
    for (const uint32_t index : group.layers) {
      if (group.fixed) break;
      const Layer& layer = question.selection.layers[index];
      const std::vector<float> w = real_weights(question.graph, question.graph.nodes[layer.node]);
      if (w.size() != layer.weights)
        return Error{Status::kUnsupported, layer.name + ": its weights are no constant"};
      const bool reads_first = observed.tape != nullptr && index == group.layers.front();
      const std::span<const float> x =
          reads_first ? observed.tape->data(observed.inputs[index]) : std::span<float>();
      for (const int choice : question.options.bits) {
        const Bits bits = question.at(group, choice);
        double noise = ratio(weight_noise(question, layer, bits.weight), mean_square(w));
        if (!x.empty()) noise += ratio(activation_noise(x, bits.activation), mean_square(x));
        harm[index].push_back(noise);
      }
    }
  Scores scores;
  scores.gain = gains_of(question, harm);
  return scores;
}

}  // namespace mpq::convert::precision
