#include "converter/tools/grow.h"

#include <cmath>
#include <cstdio>
#include <numbers>

#include "converter/random.h"

namespace mpq::convert {
namespace {

// Box and Muller.
float normal(uint64_t* state) {
  const auto uniform = [&] {
    return (static_cast<double>(next_random(state) >> 11) + 0.5) * 0x1p-53;
  };
  const double radius = std::sqrt(-2.0 * std::log(uniform()));
  return static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * uniform()));
}

struct Grower {
  Checkpoint* checkpoint;
  float last_scale;
  uint64_t random = 1;

  bool has_block(const std::string& layer) const {
    return checkpoint->contains(layer + ".bn1.weight");
  }
  int64_t channels(const std::string& norm) const {
    const auto found = checkpoint->find(norm + ".weight");
    return found == checkpoint->end() ? 0 : static_cast<int64_t>(found->second.data.size());
  }
  void conv(const std::string& name, int64_t out, int64_t in, int64_t kernel) {
    CheckpointTensor& weight = (*checkpoint)[name + ".weight"];
    weight.shape = {out, in, kernel, kernel};
    weight.data.resize(static_cast<size_t>(out * in * kernel * kernel));
    const auto deviation = std::sqrt(2.0F / static_cast<float>(in * kernel * kernel));
    for (float& w : weight.data) w = deviation * normal(&random);
  }
  void norm(const std::string& name, int64_t count, float scale) {
    (*checkpoint)[name + ".weight"] = {{count},
                                       std::vector<float>(static_cast<size_t>(count), scale)};
    (*checkpoint)[name + ".bias"] = {{count}, std::vector<float>(static_cast<size_t>(count), 0.0F)};
  }
  // A block like `model`, which is one of its stage: it reads and writes what that one writes.
  void block(const std::string& layer, const std::string& model) {
    const bool bottleneck = channels(model + ".bn3") != 0;
    const int64_t inner = channels(model + ".bn1"),
                  outer = channels(model + (bottleneck ? ".bn3" : ".bn2"));
    conv(layer + ".conv1", inner, outer, bottleneck ? 1 : 3);
    norm(layer + ".bn1", inner, 1.0F);
    conv(layer + ".conv2", bottleneck ? inner : outer, inner, 3);
    norm(layer + ".bn2", bottleneck ? inner : outer, bottleneck ? 1.0F : last_scale);
    if (!bottleneck) return;
    conv(layer + ".conv3", outer, inner, 1);
    norm(layer + ".bn3", outer, last_scale);
  }
};

}  // namespace

Result<Growth> parse_growth(const std::string& text) {
  Growth growth;
  int end = 0;
  const bool parsed =
      std::sscanf(text.c_str(), "%u:%u%n", &growth.stage, &growth.blocks, &end) == 2 &&
      static_cast<size_t>(end) == text.size();
  if (!parsed || growth.stage > 99 || growth.blocks > 999)
    return Error{Status::kInvalidArgument,
                 "--grow=" + text + ": not STAGE:BLOCKS, for example 3:23"};
  return growth;
}

Checked grow(Checkpoint* checkpoint, const Growth& growth) {
  const std::string stage = "layer" + std::to_string(growth.stage);
  Grower grower{checkpoint, growth.last_scale};
  if (!grower.has_block(stage + ".0"))
    return Error{Status::kNotFound, "the checkpoint has no " + stage + ".0 to grow from"};
  uint32_t count = 1;
  while (grower.has_block(stage + "." + std::to_string(count))) ++count;
  if (count > growth.blocks)
    return Error{Status::kInvalidArgument, stage + " has " + std::to_string(count) +
                                               " blocks already, more than " +
                                               std::to_string(growth.blocks)};
  for (; count < growth.blocks; ++count)
    grower.block(stage + "." + std::to_string(count), stage + ".0");
  return Ok{};
}

}  // namespace mpq::convert
