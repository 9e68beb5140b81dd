// One operator of the format as the planner of a GPU sees it, and what it may ask for.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "format/signature.h"
#include "runtime/cuda/plan.h"

namespace mpq::runtime {

// Builds one plan. Launches are added in order of execution; a tensor is written before it is read.
class CudaPlanner {
 public:
  CudaPlanner(const format::Model& model, const CudaPlanOptions& options)
      : model_(model), options_(options) {}
  Result<CudaPlan> plan();

  const format::Model& model() const { return model_; }
  const CudaPlanOptions& options() const { return options_; }
  const format::Tensor& tensor(format::TensorId id) const { return model_.tensors[id]; }
  const Dims& dims(format::TensorId id) const { return plan_.host.tensors[id].dims; }
  const CudaTensor& placed(format::TensorId id) const { return plan_.tensors[id]; }
  Rows rows(format::TensorId id) const { return plan_.host.tensors[id].rows; }
  // Where the sequences of the next run begin; keeps its address.
  const uint32_t* host_starts() const { return plan_.host.starts.get(); }

  // Starts the launch of one of kOtherKernels for a node. fit(parameters, live) fits a sequence
  // model's to the next run.
  template <typename Params, typename Fit, typename GridOf>
  Params& add_launch(uint32_t node, const char* kernel, Fit fit, GridOf grid_of) {
    for (const cuda::OtherKernel& k : cuda::kOtherKernels)
      if (std::string_view(kernel) == k.name)
        return begin<Params>(node, k.name, k.threads, k.shared_bytes, std::move(fit),
                             std::move(grid_of));
    std::abort();  // a name that kernels.h does not have
  }
  template <typename Params, typename Fit>
  Params& add_launch(uint32_t node, const char* kernel, Fit fit) {
    return add_launch<Params>(node, kernel, std::move(fit),
                              [](const Params& p) { return cuda::grid_of(p); });
  }
  template <typename Fit>
  cuda::ConvParams& add_conv_launch(uint32_t node, const cuda::ConvKernel& k, Fit fit) {
    return begin<cuda::ConvParams>(
        node, k.name, k.threads, options_.arch >= 80 ? k.shared_bytes : k.shared_bytes_sm75,
        std::move(fit), [&k](const cuda::ConvParams& p) { return cuda::grid_of(k, p); });
  }

  // The launch in progress reads or writes a tensor; the field, a pointer, gets its address.
  template <typename T>
  void read(format::TensorId id, T** field) {
    access(placed(id).buffer, false, field);
  }
  template <typename T>
  void write(format::TensorId id, T** field) {
    access(placed(id).buffer, true, field);
  }
  void read(format::TensorId id, cuda::Codes* codes);
  void write(format::TensorId id, cuda::Codes* codes);
  // Floats or sums that no tensor is, for the launch in progress to write and the next one to read.
  uint32_t add_buffer(size_t bytes);
  void access(uint32_t buffer, bool writes, void* field);
  // Memory for the sums of parts of k. It is 0 between launches, so all of them share it.
  void use_partial_sums(size_t tiles, size_t sums_bytes, cuda::ConvParams* p);
  void read_starts(const uint32_t** field) { access(plan_.starts, false, field); }

  // The field of the launch in progress gets the address of a constant, padded with 0 to `bytes`.
  void constant(size_t bytes, void* field, std::function<void(std::byte*)> fill);
  // A constant tensor of the model.
  void constant(format::TensorId id, void* field, size_t padded_elements = 0);

  Step& step() { return plan_.host.steps.back(); }
  // A tensor that its maker writes as at the API.
  void make_raw(format::TensorId id) { plan_.tensors[id].form = CudaForm::kRaw; }

 private:
  template <typename Params, typename Fit, typename GridOf>
  Params& begin(uint32_t node, const char* kernel, uint32_t threads, uint32_t shared_bytes, Fit fit,
                GridOf grid_of) {
    auto params = std::make_shared<Params>();
    Params& p = *params;
    CudaLaunch launch{.kernel = kernel, .threads = threads, .shared_bytes = shared_bytes};
    launch.params = std::move(params);
    launch.grid = [&p, grid_of = std::move(grid_of)] { return grid_of(p); };
    begin_step(node, std::move(launch),
               [&p, fit = std::move(fit)](const Live& live) { fit(p, live); });
    return p;
  }
  void begin_step(uint32_t node, CudaLaunch launch, std::function<void(const Live&)> fit);
  Checked plan_tensors();
  Checked place(format::TensorId id);
  const format::Node* folding_reader(format::TensorId image) const;
  void plan_host_memory();
  void order_launches();

  const format::Model& model_;
  const CudaPlanOptions& options_;
  CudaPlan plan_;
  std::vector<bool> touched_;  // buffers that a launch has
  uint32_t tickets_ = kNoBuffer, sums_ = kNoBuffer;
};

// The second output of a node, if there is one (ops/op.h has the same for a CPU).
template <typename Attrs, typename Params>
void write_second(CudaPlanner& planner, const format::Node& node, const Attrs& attrs, Params* p) {
  const format::TensorId id = format::operand(node.outputs, 1);
  if (id == format::kNoTensor) return;
  planner.write(id, &p->second);
  p->second_scale = attrs.second_scale;
  p->second_bias = attrs.second_bias;
  p->second_lo = attrs.second_lo;
  p->second_hi = attrs.second_hi;
}

// An error that names the layer.
Error cuda_unsupported(const format::Node& node, const std::string& what);

// Adds the launches of a node. One row an operator, in OpCode order.
Checked plan_cuda_node(CudaPlanner&, uint32_t node);
// Convolution and matrix product (conv.cc).
Checked plan_cuda_dense(CudaPlanner&, uint32_t node);

}  // namespace mpq::runtime
