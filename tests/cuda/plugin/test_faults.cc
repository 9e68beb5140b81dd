// Is the comparison of networks able to fail? What the library might get wrong between a model and
// the driver (a copy, a launch, an order forgotten; a parameter, a grid that does not fit) is
// played by the tests' driver, one mistake at a time: outputs must differ, or the run must fail.
//   test_faults FOLDER-OF-NETWORKS
#define DOCTEST_CONFIG_IMPLEMENT
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <iterator>

#include "kernels/cuda/params.h"
#include "tests/cuda/plugin/both.h"
#include "tests/cuda/plugin/faults.h"

namespace mpq::test {
namespace {

std::string folder;
mpq_fake_cuda_plant_fn plant = nullptr;

struct Row {
  const char* network;
  DriverFault fault;
  bool at_creation = false;  // planted before the session is made
};

#define MPQ_WORD(Params, field) offsetof(cuda::Params, field)
constexpr DriverFault parameter(const char* kernel, size_t index, size_t offset, int32_t add = 1) {
  return {DriverFault::kParameter, kernel, index, offset, static_cast<uint32_t>(add)};
}
constexpr DriverFault conv(size_t index, size_t offset, int32_t add = 1) {
  return parameter("conv_", index, offset, add);
}

// residual, as the tests' driver runs it: conv 0 is the folded stem, 1 to 4 are the first block, of
// which 2 has more stages than shared memory holds, 3 is its shortcut and 4 adds it; 6 has parts of
// k.
constexpr Row kRows[] = {
    {"residual", {DriverFault::kNoUpload}},
    {"residual", {DriverFault::kNoUpload, "", 0}, true},
    {"residual", {DriverFault::kNoUpload, "", 1}, true},
    {"residual", {DriverFault::kNoUpload, "", 3}, true},
    {"residual", {DriverFault::kNoUpload, "", 4}, true},
    {"residual", {DriverFault::kNoUpload, "", 6}, true},
    {"residual", {DriverFault::kNoDownload}},
    {"residual", {DriverFault::kNoFill}, true},
    {"residual", {DriverFault::kNoOrder}},
    {"images", {DriverFault::kNoOrder}},
    {"text", {DriverFault::kNoOrder}},
    {"residual", {DriverFault::kNoLaunch, "quantize_image"}},
    {"residual", {DriverFault::kNoLaunch, "max_pool"}},
    {"residual", {DriverFault::kNoLaunch, "conv_", 3}},
    {"residual", {DriverFault::kNoLaunch, "average_pool"}},
    {"images", {DriverFault::kNoLaunch, "add_codes"}},
    {"residual", {DriverFault::kGrid, "conv_", 0}},
    {"residual", {DriverFault::kGrid, "conv_", 3}},
    {"residual", {DriverFault::kGrid, "conv_", 6}},
    {"residual", {DriverFault::kGrid, "max_pool"}},
    {"residual", {DriverFault::kShared, "conv_", 0}},
    {"residual", {DriverFault::kShared, "conv_", 2}},
    {"text", {DriverFault::kShared, "attention_"}},

    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, h), -1)},
    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, w), -1)},
    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, pad_top))},
    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, pad_left))},
    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, zero_point))},
    {"residual", parameter("quantize_image", 0, MPQ_WORD(ImageParams, fold), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, x_pitch), 16)},
    {"residual", conv(0, MPQ_WORD(ConvParams, h), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, w), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, oh), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, ow), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, r), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, s), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, k_steps), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, stride_h))},
    {"residual", conv(0, MPQ_WORD(ConvParams, stride_w))},
    {"residual", conv(0, MPQ_WORD(ConvParams, dilation_h))},
    {"residual", conv(0, MPQ_WORD(ConvParams, pad_top))},
    {"residual", conv(0, MPQ_WORD(ConvParams, pad_left))},
    {"residual", conv(0, MPQ_WORD(ConvParams, epilogue.lo))},
    {"residual", conv(0, MPQ_WORD(ConvParams, epilogue.hi), -1)},
    {"residual", conv(0, MPQ_WORD(ConvParams, epilogue.y.pitch), 16)},
    {"residual", conv(0, MPQ_WORD(ConvParams, epilogue.y.bits), 4)},
    {"residual", conv(0, MPQ_WORD(ConvParams, epilogue.out))},
    {"residual", conv(3, MPQ_WORD(ConvParams, o), -32)},
    {"residual", conv(4, MPQ_WORD(ConvParams, epilogue.residual_shift))},
    {"residual", conv(4, MPQ_WORD(ConvParams, epilogue.residual_zero_point))},
    {"residual", conv(4, MPQ_WORD(ConvParams, epilogue.residual.pitch), 16)},
    {"residual", conv(4, MPQ_WORD(ConvParams, epilogue.residual.bits), -4)},
    {"residual", conv(6, MPQ_WORD(ConvParams, splits), -1)},
    {"codes", conv(0, MPQ_WORD(ConvParams, padding_bytes), -16)},
    {"images", conv(1, MPQ_WORD(ConvParams, epilogue.second_hi), -1)},
    {"images", conv(1, MPQ_WORD(ConvParams, epilogue.second.pitch), 16)},
    {"residual", parameter("max_pool", 0, MPQ_WORD(PoolParams, kernel_h), -1)},
    {"residual", parameter("max_pool", 0, MPQ_WORD(PoolParams, stride_w), -1)},
    {"residual", parameter("max_pool", 0, MPQ_WORD(PoolParams, pad_top), -1)},
    {"residual", parameter("average_pool", 0, MPQ_WORD(PoolParams, kernel_w), -1)},
    {"images", parameter("average_pool", 0, MPQ_WORD(PoolParams, zero_point))},
    {"images", parameter("add_codes", 0, MPQ_WORD(AddParams, a_zero_point))},
    {"images", parameter("add_codes", 0, MPQ_WORD(AddParams, pixels), -1)},
    {"matrix", parameter("quantize_f32", 0, MPQ_WORD(QuantizeParams, zero_point))},
    {"codes", parameter("quantize_f32", 0, MPQ_WORD(QuantizeParams, channel))},
    {"codes", parameter("quantize_f32", 0, MPQ_WORD(QuantizeParams, row), -1)},

    {"text", {DriverFault::kNoUpload, "", 0}},
    {"text", {DriverFault::kNoUpload, "", 1}},
    {"text", {DriverFault::kNoUpload, "", 2}},
    {"text", {DriverFault::kNoDownload, "", 1}},
    {"text", {DriverFault::kNoUpdate, "", 0}},
    {"text", {DriverFault::kNoUpdate, "", 1}},
    {"text", {DriverFault::kNoUpdate, "", 2}},
    {"text", {DriverFault::kNoUpdate, "", 3}},
    {"text", {DriverFault::kNoLaunch, "activate_f32"}},
    {"text", {DriverFault::kNoLaunch, "embed"}},
    {"text", {DriverFault::kNoLaunch, "pool_sequences"}},
    {"text", {DriverFault::kGrid, "attention_"}},
    {"text", {DriverFault::kGrid, "embed"}},
    {"text", parameter("embed", 0, MPQ_WORD(EmbeddingParams, position_offset), -1)},
    {"text", parameter("layer_norm", 0, MPQ_WORD(LayerNormParams, tokens), -1)},
    {"text", parameter("layer_norm", 0, MPQ_WORD(LayerNormParams, second.pitch), 16)},
    {"text", parameter("layer_norm", 1, MPQ_WORD(LayerNormParams, epsilon), 1 << 27)},
    {"text", parameter("attention_", 0, MPQ_WORD(AttentionParams, hi), -1)},
    {"text", parameter("attention_", 0, MPQ_WORD(AttentionParams, qkv.pitch), -16)},
    {"text", parameter("attention_", 0, MPQ_WORD(AttentionParams, max_length), -1)},
    {"text", parameter("pool_sequences", 0, MPQ_WORD(SequencePoolParams, mean), -1)},
    {"text", parameter("pool_sequences", 0, MPQ_WORD(SequencePoolParams, normalise), -1)},
    {"text", parameter("activate_f32", 0, MPQ_WORD(ActivateParams, activation), -1)},
};

// What a row of the table does: the message that caught it, or nothing.
std::string caught(const Row& row) {
  const DriverFault none;
  plant(row.at_creation ? &row.fault : &none);
  Both both;
  mpq_status status = MPQ_OK;
  const std::string path = folder + "/" + row.network + ".mpq";
  std::string wrong = both.open(path.c_str(), 3, 0, &status);
  if (wrong.empty()) wrong = both.set_inputs(1);
  if (wrong.empty() && !row.at_creation) wrong = both.run_gpu();
  REQUIRE_MESSAGE((wrong.empty() || row.at_creation), wrong);
  Compared all;
  if (wrong.empty() && !row.at_creation) {
    wrong = both.set_inputs(2);
    plant(&row.fault);
  }
  if (wrong.empty()) wrong = both.run_cpu();
  if (wrong.empty()) wrong = both.run_gpu();
  if (wrong.empty()) wrong = both.compare(&all);
  plant(&none);
  return wrong.empty() ? all.first : wrong;
}

TEST_CASE("networks: without a fault nothing is caught") {
  for (const char* network : {"residual", "images", "matrix", "codes", "text"})
    CHECK_EQ(caught({network, {}}), "");
}

TEST_CASE("networks: every planted fault is caught") {
  size_t rows = 0;
  for (const Row& row : kRows) {
    INFO("row " << rows << ": " << row.network << " " << row.fault.kernel << " kind "
                << static_cast<uint32_t>(row.fault.kind) << " offset " << row.fault.offset);
    CHECK_NE(caught(row), "");
    ++rows;
  }
  std::printf("planted: %zu faults\n", rows);
}

}  // namespace
}  // namespace mpq::test

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  mpq::test::folder = argv[1];
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return 2;
  mpq::test::plant = reinterpret_cast<mpq_fake_cuda_plant_fn>(dlsym(driver, "mpq_fake_cuda_plant"));
  if (mpq::test::plant == nullptr) return 2;
  return doctest::Context().run();
}
