// What the tests of the runtime share.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "format/aligned.h"
#include "format/writer.h"
#include "runtime/isa_choice.h"
#include "runtime/model.h"
#include "runtime/session.h"
#include "tests/support/model_maker.h"

namespace mpq::test {

// The file of a model. The model is valid.
inline format::AlignedBytes file_of(const format::Model& model) {
  const auto bytes = format::write(model);
  if (!bytes.ok()) FAIL(bytes.error().message);
  return format::AlignedBytes(std::span<const std::byte>(*bytes));
}

// Through the file format, as a user's model comes. `file` outlives it.
inline std::shared_ptr<const runtime::Model> open_model(const format::AlignedBytes& file) {
  auto model = runtime::Model::open(runtime::File::borrow(file.bytes()), {});
  if (!model.ok()) FAIL(model.error().message);
  return *model;
}

inline std::unique_ptr<runtime::Session> make_session(std::shared_ptr<const runtime::Model> model,
                                                      const runtime::SessionOptions& options) {
  auto session = runtime::Session::create(std::move(model), options);
  if (!session.ok()) FAIL(session.error().message);
  return *std::move(session);
}

// Random input bytes as at the API: any code, moderate floats.
inline std::vector<std::byte> random_input(ModelMaker* random, const format::Tensor& tensor) {
  uint64_t count = 0;
  if (!checked_elements(tensor.shape, &count)) FAIL("shape");
  std::vector<std::byte> bytes;
  if (tensor.dtype == DType::kF32) {
    bytes.resize(count * 4);
    for (uint64_t i = 0; i < count; ++i) {
      const float value = random->real(-2.0F, 2.0F);
      std::memcpy(&bytes[i * 4], &value, 4);
    }
  } else {
    for (uint64_t i = 0; i < count; ++i)
      bytes.push_back(static_cast<std::byte>(random->pick(0, max_code(tensor.dtype))));
  }
  return bytes;
}

// The levels this machine has, scalar first. Says what it skips.
std::vector<kernels::IsaMask> machine_levels();

}  // namespace mpq::test
