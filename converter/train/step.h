// One operator on the tape, forward and backward. Activations are binary32 with channels last: an
// image [N,H,W,C], a row a token [T,C], or a row a sequence [S,C]. Parameters lie as in the graph.
#pragma once

#include <dnnl.hpp>
#include <functional>
#include <span>
#include <vector>

#include "converter/eval_sequences.h"
#include "converter/graph.h"
#include "converter/train/lsq.h"

namespace mpq::convert::train {

// The extents of an image value with its batch; rows have h = w = 1.
struct Extent {
  size_t n = 0, h = 1, w = 1, c = 0;
  size_t pixels() const { return n * h * w; }
  size_t elements() const { return pixels() * c; }
};

// What may differ from run to run.
struct Run {
  bool batch_moments = true;  // batch norm: by the moments of the batch, else by the running ones
  const SequenceData* sequences = nullptr;  // of sequence graphs
  Dropped dropped = {};                     // of activations; each quantiser draws anew
};

// Where the gradient of one input goes.
struct Sink {
  std::span<float> grad;  // empty: nobody wants it
  bool add = false;       // to what another reader of the value left there; else overwrite
};

// By the node's inputs; absent ones are empty. Batch norm writes its running moments, all others
// only read.
using Inputs = std::span<const std::span<float>>;

struct Step {
  std::function<void(Inputs in, std::span<float> y, const Run& run)> forward;
  // After forward with the same operands. dy: the gradient of the loss in y.
  std::function<void(Inputs in, std::span<const float> y, std::span<const float> dy,
                     std::span<const Sink> sinks, const Run& run)>
      backward;
};

// What a step is made of. Lives as long as the tape.
struct Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  bool bfloat16 = false;  // what convolutions and linear layers multiply is rounded to it
  bool widened = false;   // and widened again: oneDNN has no products of bfloat16 on this CPU
  std::vector<float> product, wide[2];  // RoundedProduct's
};
struct StepContext {
  const Graph& graph;
  const Node& node;
  Engine& engine;
  Extent x, y;  // of input 0 and of the output, where they are images or rows of known number

  const Shape& shape(size_t input) const { return graph.values[node.inputs[input]].shape; }
  bool has(size_t input) const {
    return input < node.inputs.size() && node.inputs[input] != kNoValue;
  }
  size_t width() const { return static_cast<size_t>(graph.values[node.output].shape[1]); }
};

// A family of operators a file. May throw dnnl::error and std::bad_alloc.
Step make_conv(const StepContext& context);        // conv.cc
Step make_linear(const StepContext& context);      // linear.cc
Step make_batch_norm(const StepContext& context);  // batch_norm.cc
Step make_relu(const StepContext& context);        // elementwise.cc
Step make_clip(const StepContext& context);
Step make_tanh(const StepContext& context);
Step make_add(const StepContext& context);
Step make_flatten(const StepContext& context);
Step make_gelu(const StepContext& context);      // gelu.cc
Step make_max_pool(const StepContext& context);  // pool.cc
Step make_avg_pool(const StepContext& context);
Step make_fake_quant(const StepContext& context);  // fake_quant.cc; x, steps, offset?
Step make_embedding(const StepContext& context);   // embedding.cc
Step make_sequence_pool(const StepContext& context);
Step make_layer_norm(const StepContext& context);  // layer_norm.cc
Step make_attention(const StepContext& context);   // attention.cc

}  // namespace mpq::convert::train
