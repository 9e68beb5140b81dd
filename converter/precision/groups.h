// The decision units of precision selection. Layers that read one tensor share its precision,
// because that tensor is quantised once: in a ResNet, the first convolution of a stage and its
// downsample; in BERT, query, key and value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert::precision {

// A Conv or Linear.
struct Layer {
  std::string name;
  uint32_t node = 0;  // index into Graph::nodes
  uint32_t group = 0;
  uint64_t macs = 0, weights = 0;
  uint32_t channels = 0;  // output channels
};

struct Group {
  std::vector<uint32_t> layers;  // indices, graph order
  bool fixed = false;            // the first and last layer, a head: not a matter of choice
};

struct Selection {
  std::vector<Layer> layers;  // graph order
  std::vector<Group> groups;  // in order of their first layer
  // The union of Conv and Linear nodes that read one tensor, seen through shape-only operators and
  // fake quantisation. Values need shapes.
  static Result<Selection> of(const Graph& graph);
  size_t selectable_groups() const;
  size_t selectable_layers() const;
};

}  // namespace mpq::convert::precision
