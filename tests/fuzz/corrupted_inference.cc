// What loads also runs: of every byte of a model's header and metadata changed (digest made right
// again), each file that still loads gives the same status and the same output bytes on every
// instruction set. MPQ_TEST_LONG=1: all 255 values of each byte, else 29. --plant: one bit of one
// output in a thousand is flipped, and the test must fail.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "format/writer.h"
#include "runtime/mpq.h"
#include "tests/support/corruption.h"
#include "tests/support/tiny_models.h"

namespace {

using namespace mpq;

struct Outcome {
  mpq_status status = MPQ_OK;
  std::vector<std::byte> outputs;
  bool operator==(const Outcome&) const = default;
};

// Values that reach the whole range of codes, not only zeros.
void fill(void* data, size_t bytes, uint32_t dtype) {
  for (size_t i = 0; dtype == MPQ_F32 && i < bytes / 4; ++i) {
    const float x = std::sin(static_cast<float>(i)) * 4.0F;
    std::memcpy(static_cast<std::byte*>(data) + 4 * i, &x, 4);
  }
  for (size_t i = 0; dtype != MPQ_F32 && i < bytes; ++i)
    static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(i * 37);
}

Outcome run(const mpq_model* model, const char* isa) {
  mpq_options options{};
  options.struct_size = sizeof options;
  options.threads = 1;
  options.isa = isa;
  options.memory_limit = 64U << 20;
  mpq_session* session = nullptr;
  Outcome outcome;
  outcome.status = mpq_session_create(model, &options, &session);
  for (size_t i = 0; outcome.status == MPQ_OK && i < mpq_model_input_count(model); ++i) {
    mpq_tensor_info info{};
    info.struct_size = sizeof info;
    void* data = nullptr;
    size_t bytes = 0;
    outcome.status = mpq_session_input_info(session, i, &info);
    if (outcome.status == MPQ_OK)
      outcome.status = mpq_session_input_buffer(session, i, &data, &bytes);
    if (outcome.status == MPQ_OK) fill(data, bytes, info.dtype);
  }
  if (outcome.status == MPQ_OK) outcome.status = mpq_session_run(session);
  for (size_t i = 0; outcome.status == MPQ_OK && i < mpq_model_output_count(model); ++i) {
    const void* data = nullptr;
    size_t bytes = 0;
    outcome.status = mpq_session_output_buffer(session, i, &data, &bytes);
    const auto* p = static_cast<const std::byte*>(data);
    if (outcome.status == MPQ_OK) outcome.outputs.insert(outcome.outputs.end(), p, p + bytes);
  }
  mpq_session_destroy(session);
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  const bool plant = argc == 2 && std::string(argv[1]) == "--plant";
  std::vector<const char*> isas;
  for (const char* isa : {"scalar", "avx2", "avx512vnni"}) {
    uint32_t mask = 0;
    if (mpq_isa_parse(isa, &mask) == MPQ_OK && (mask & ~mpq_isa_available()) == 0)
      isas.push_back(isa);
    else
      std::printf("SKIPPED: corrupted inference on %s: this machine lacks it\n", isa);
  }
  const int step = std::getenv("MPQ_TEST_LONG") != nullptr ? 1 : 9;
  uint64_t loaded = 0, ran = 0, wrong = 0;
  for (const auto make : {test::tiny_conv_net, test::tiny_linear_net}) {
    const auto written = format::write(make().model);
    if (!written.ok()) return EXIT_FAILURE;
    format::AlignedBytes file{std::span<const std::byte>(*written)};
    const std::span<std::byte> bytes = file.bytes();
    const size_t size = format::read_header(bytes).metadata_size;
    const auto accepted = [&](const format::Model&, size_t offset, int value) {
      mpq_model_options options{};
      options.struct_size = sizeof options;
      options.skip_segment_digests = 1;
      mpq_model* model = nullptr;
      ++loaded;
      if (mpq_model_open_memory(bytes.data(), bytes.size(), &options, &model) != MPQ_OK) {
        std::printf("byte %zu = %d: the reader accepts, the runtime does not: %s\n", offset, value,
                    mpq_last_error());
        ++wrong;
        return;
      }
      const Outcome first = run(model, isas[0]);
      ran += first.status == MPQ_OK ? 1U : 0U;
      for (size_t i = 1; i < isas.size(); ++i) {
        Outcome other = run(model, isas[i]);
        if (plant && loaded % 1000 == 0 && !other.outputs.empty())
          other.outputs.back() ^= std::byte{1};
        if (other == first) continue;
        if (++wrong <= 20)
          std::printf("byte %zu = %d: %s differs from %s\n", offset, value, isas[i], isas[0]);
      }
      mpq_model_close(model);
    };
    test::for_each_corruption(bytes, 0, size, step, accepted);
  }
  std::printf("%llu changed files load, %llu run, %llu differ between %zu instruction sets\n",
              static_cast<unsigned long long>(loaded), static_cast<unsigned long long>(ran),
              static_cast<unsigned long long>(wrong), isas.size());
  return wrong == 0 && ran > 1000 ? EXIT_SUCCESS : EXIT_FAILURE;
}
