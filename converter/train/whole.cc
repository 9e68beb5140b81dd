#include "converter/train/whole.h"

#include <algorithm>

#include "converter/train/blocks.h"
#include "converter/train/loss.h"
#include "converter/train/quantizers.h"

namespace mpq::convert::train {
namespace {

// The outputs of all blocks but the last, whose output is the network's.
Result<std::vector<Matched>> hidden_values(const Graph& real, const Graph& graph, float share) {
  std::vector<Matched> values;
  for (const Block& block : blocks_of(graph)) {
    if (block.output == graph.outputs[0]) continue;
    MPQ_TRY(const ValueId target, real_value(real, graph, block.output));
    values.push_back({block.output, target});
  }
  share_equally(share, values);
  return values;
}

struct Pair {
  Tape *tape, *teacher;
};
Result<Distance> distance(const Pair& pair, const ImageSet& images, uint32_t batch) {
  Distance sum;
  if (images.count() == 0) return sum;
  std::vector<float> pixels(batch * images.image_bytes());
  for (size_t first = 0; first < images.count(); first += batch) {
    const size_t count = take_in_order(images, first, batch, pixels);
    MPQ_CHECK(pair.tape->forward(pixels, false));
    MPQ_CHECK(pair.teacher->forward(pixels, false));
    const std::span<const float> y = pair.tape->data(pair.tape->output()),
                                 target = pair.teacher->data(pair.teacher->output());
    const size_t classes = y.size() / batch;
    std::vector<int32_t> best;
    for (size_t i = 0; i < count; ++i) {
      const auto row = target.subspan(i * classes, classes);
      best.push_back(static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    const size_t used = count * classes;
    sum.divergence += distillation(y.first(used), target.first(used), classes, 1.0F, {}) *
                      static_cast<double>(count);
    sum.agreement += static_cast<double>(count_correct(y.first(used), classes, best));
  }
  const auto all = static_cast<double>(images.count());
  return Distance{sum.divergence / all, sum.agreement / all};
}

ImageSet part_of(const ImageSet& images, size_t begin, size_t end) {
  const auto at = [&](size_t image) {
    return images.pixels.begin() + static_cast<ptrdiff_t>(image * images.image_bytes());
  };
  ImageSet part = {images.height, images.width, {}, {}, images.mean, images.stddev};
  part.pixels.assign(at(begin), at(end));
  return part;
}

}  // namespace

Result<WholeReport> train_whole(const Graph& real, Graph* graph, const ImageSet& images,
                                const WholeOptions& options,
                                const std::function<bool(const Progress&)>& progress) {
  const size_t count = images.count();
  if (options.held_out >= count)
    return Error{Status::kInvalidArgument, std::to_string(options.held_out) + " of " +
                                               std::to_string(count) +
                                               " images held out: none is left to learn from"};
  const ImageSet learned = part_of(images, 0, count - options.held_out),
                 held_out = part_of(images, count - options.held_out, count);
  const TapeOptions how{.batch = options.recipe.batch, .bfloat16 = options.bfloat16};
  Graph inside = *graph;
  start_within(options.recipe.seed, &inside);
  MPQ_TRY(Tape tape, Tape::create(std::move(inside), how));
  MPQ_TRY(Tape teacher, Tape::create(real, how));
  Recipe recipe = options.recipe;
  recipe.frozen_norms = 1.0;
  MPQ_TRY(recipe.hidden, hidden_values(real, *graph, options.hidden_share));
  WholeReport report;
  const Pair pair{&tape, &teacher};
  MPQ_TRY(report.before, distance(pair, held_out, how.batch));
  MPQ_TRY(const Fitted fitted, fit(&tape, &teacher, learned, recipe, progress));
  MPQ_TRY(report.after, distance(pair, held_out, how.batch));
  report.steps = fitted.steps;
  report.loss = fitted.loss;
  report.kept = options.held_out == 0 || report.after.divergence < report.before.divergence;
  if (report.kept) *graph = tape.graph();
  return report;
}

}  // namespace mpq::convert::train
