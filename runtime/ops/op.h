// One operator of the format as the planner sees it, and what an operator may ask of the planner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "format/model.h"
#include "format/signature.h"
#include "format/status.h"
#include "runtime/plan.h"
#include "runtime/split.h"

namespace mpq::runtime {

// Builds one plan. Steps are added in order of execution; a tensor is written before it is read.
class Planner {
 public:
  Planner(const format::Model& model, const PlanOptions& options)
      : model_(model), options_(options) {}
  Result<Plan> plan();

  const format::Model& model() const { return model_; }
  const PlanOptions& options() const { return options_; }
  const format::Tensor& tensor(format::TensorId id) const { return model_.tensors[id]; }
  const Dims& dims(format::TensorId id) const { return plan_.tensors[id].dims; }
  const Halo& halo(format::TensorId id) const { return plan_.tensors[id].halo; }
  kernels::Planes planes_of(format::TensorId id) const;  // strides only
  Rows rows(format::TensorId id) const { return plan_.tensors[id].rows; }
  // Where sequences begin, as kernels want it; filled for each run.
  const uint32_t* starts() const { return plan_.starts.get(); }
  // The values of a constant input; borrowed from the model.
  template <typename T>
  const T* constant(const format::Node& n, size_t i) const {
    return reinterpret_cast<const T*>(tensor(n.inputs[i]).data.data());
  }

  // Starts the step of a node. `run` will be called with the returned arguments; they keep their
  // address.
  template <typename Args>
  Args& add_step(uint32_t node, const char* kernel, kernels::IsaMask isa, StepFn run) {
    auto args = std::make_shared<Args>();
    Args& reference = *args;
    begin_step(node, kernel, isa, run, std::move(args));
    return reference;
  }
  Step& step() { return plan_.steps.back(); }

  // The step in progress reads or writes a tensor: fills strides, and the pointer once it is known.
  // Reading in a form that the tensor does not have needs prepare_read before the step is started.
  void read(format::TensorId id, kernels::Planes* planes, ptrdiff_t shift = 0);
  void write(format::TensorId id, kernels::Planes* planes);
  void read(format::TensorId id, Form form, void* field);
  void write(format::TensorId id, Form form, void* field);
  // The step in progress reads a code of `from` only before it writes the code of `to` at the same
  // place: both may lie in the same memory if `from` is not needed any more.
  void may_overwrite(format::TensorId to, format::TensorId from);
  // Adds a step that converts, if needed.
  Checked prepare_read(format::TensorId id, Form form);

  void add_weights(WeightsRequest request);

  // The step in progress of a sequence model can run on fewer rows than it was planned for:
  // `resize` tells its arguments and returns the units of work, which are then cut into parts.
  // `work` is of all rows, which are `rows` of the run. Comes last: what the step says of itself
  // shrinks too. In other models nothing ever changes, and this does nothing.
  void on_resize(Rows rows, std::function<uint32_t(const Live&)> resize, Work work = {});

 private:
  Checked plan_dims();
  void plan_halos();
  void begin_step(uint32_t node, const char* kernel, kernels::IsaMask isa, StepFn run,
                  std::shared_ptr<void> args);
  uint32_t use(format::TensorId id, Form form, bool writes);
  Checked check_bytes() const;

  const format::Model& model_;
  const PlanOptions& options_;
  Plan plan_;
};

// The second output of a node, if there is one: codes of the value that the first is made from. Its
// fields have the same names in the attributes of operators and in the arguments of kernels.
template <typename Attrs, typename Args>
void write_second(Planner& planner, const format::Node& node, const Attrs& attrs, Args* args) {
  const format::TensorId id = format::operand(node.outputs, 1);
  if (id == format::kNoTensor) return;
  planner.write(id, &args->second);
  args->second_scale = attrs.second_scale;
  args->second_bias = attrs.second_bias;
  args->second_lo = attrs.second_lo;
  args->second_hi = attrs.second_hi;
}

struct OpDef {
  format::OpCode code;
  Checked (*plan)(Planner&, uint32_t node);
  // Pixels that the node reads around input 0; null: none.
  Halo (*halo)(const format::Model&, const format::Node&, const Dims& x, const Dims& y);
};

const OpDef& op_def(format::OpCode code);

// One per file of this folder.
Checked plan_image_quantize(Planner&, uint32_t node);
Checked plan_quantize(Planner&, uint32_t node);
Checked plan_conv2d(Planner&, uint32_t node);
Checked plan_linear(Planner&, uint32_t node);
Checked plan_max_pool(Planner&, uint32_t node);
Checked plan_avg_pool(Planner&, uint32_t node);
Checked plan_add(Planner&, uint32_t node);
Checked plan_embedding(Planner&, uint32_t node);
Checked plan_layer_norm(Planner&, uint32_t node);
Checked plan_attention(Planner&, uint32_t node);
Checked plan_sequence_pool(Planner&, uint32_t node);
Halo conv2d_halo(const format::Model&, const format::Node&, const Dims& x, const Dims& y);

}  // namespace mpq::runtime
