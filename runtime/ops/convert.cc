#include "runtime/ops/convert.h"

#include <algorithm>
#include <cstring>

namespace mpq::runtime {
namespace {

kernels::WorkRange all_codes(const kernels::PackArgs& a) {
  return {0, kernels::codes_units(a.shape, a.planes.cb)};
}

}  // namespace

void canonical_to_planes(const void* args, const kernels::ConvPart&,
                         const kernels::KernelContext&) {
  const auto& step = *static_cast<const ConvertStep*>(args);
  const kernels::CodesShape& s = step.codes.shape;
  const size_t count = size_t{s.n} * s.c * s.h * s.w;
  std::transform(step.codes.dense, step.codes.dense + count, step.codes.dense,
                 [&](uint8_t code) { return std::min(code, step.max_code); });
  kernels::pack_codes(step.codes, all_codes(step.codes));
}

void planes_to_canonical(const void* args, const kernels::ConvPart&,
                         const kernels::KernelContext&) {
  const auto& step = *static_cast<const ConvertStep*>(args);
  kernels::unpack_codes(step.codes, all_codes(step.codes));
}

void dense_to_canonical(const void* args, const kernels::ConvPart&, const kernels::KernelContext&) {
  const auto& step = *static_cast<const ConvertStep*>(args);
  const kernels::CodesShape& s = step.codes.shape;
  const size_t pixels = size_t{s.h} * s.w;
  constexpr size_t kBytes = sizeof(float);
  for (size_t n = 0; n < s.n; ++n)
    for (size_t c = 0; c < s.c; ++c)
      for (size_t i = 0; i < pixels; ++i)
        std::memcpy(step.destination + ((n * s.c + c) * pixels + i) * kBytes,
                    step.source + ((n * pixels + i) * s.c + c) * kBytes, kBytes);
}

Checked Planner::prepare_read(format::TensorId id, Form form) {
  TensorPlan& t = plan_.tensors[id];
  const auto has = [&](Form f) { return t.buffers[static_cast<int>(f)] != kNoBuffer; };
  if (has(form)) return Ok{};
  if (form == Form::kCanonical && has(Form::kDense) && t.dims.h * t.dims.w == 1) {  // same bytes
    t.buffers[static_cast<int>(Form::kCanonical)] = t.buffers[static_cast<int>(Form::kDense)];
    return Ok{};
  }
  struct Conversion {
    Form from, to;
    bool codes;
    const char* kernel;
    StepFn run;
  };
  static constexpr Conversion kConversions[] = {
      {Form::kCanonical, Form::kPlanes, true, "canonical_to_planes_ref", canonical_to_planes},
      {Form::kPlanes, Form::kCanonical, true, "planes_to_canonical_ref", planes_to_canonical},
      {Form::kDense, Form::kCanonical, false, "dense_to_canonical_ref", dense_to_canonical},
  };
  const bool codes = is_code(tensor(id).dtype);
  for (const Conversion& c : kConversions) {
    if (c.to != form || c.codes != codes || !has(c.from)) continue;
    auto& step = add_step<ConvertStep>(UINT32_MAX, c.kernel, kernels::kIsaScalar, c.run);
    const Dims& d = t.dims;
    step.codes.shape = {d.n, d.c, d.h, d.w};
    step.codes.strides = kernels::nchw(d.c, d.h, d.w);
    if (c.from == Form::kDense) {
      read(id, Form::kDense, &step.source);
      write(id, Form::kCanonical, &step.destination);
    } else if (c.from == Form::kPlanes) {
      read(id, &step.codes.planes);
      write(id, Form::kCanonical, &step.codes.dense);
    } else {
      step.max_code = static_cast<uint8_t>(max_code(tensor(id).dtype));
      read(id, Form::kCanonical, &step.codes.dense);
      write(id, &step.codes.planes);
    }
    Step& s = plan_.steps.back();
    s.name = tensor(id).name;
    s.op = "convert";
    s.input_bits = s.output_bits = static_cast<uint32_t>(bits_of(tensor(id).dtype));
    s.activation_bytes = 2 * d.elements() * (codes ? 1 : 4);
    on_resize(t.rows, [&step, rows = t.rows](const Live& live) {
      step.codes.shape.n = live.rows(rows);
      return 1U;
    });
    return Ok{};
  }
  return Error{Status::kUnsupported, "tensor " + tensor(id).name + ": " +
                                         to_string(tensor(id).dtype) +
                                         " is not a type that its reader takes"};
}

}  // namespace mpq::runtime
