#include "tests/cuda/plugin/both.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>

#include "format/aligned.h"
#include "format/reader.h"

namespace mpq::test {
namespace {

std::string wrong(mpq_status status, const char* what) {
  return status == MPQ_OK ? "" : std::string(what) + ": " + mpq_last_error();
}

#define MPQ_SAY(expression) \
  if (std::string said = (expression); !said.empty()) return said

// Names of activations but inputs: the API lists nodes by their first output only.
std::string names_of(const char* path, std::vector<std::string>* names) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(file)), {});
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  const format::AlignedBytes bytes(std::span<const std::byte>(first, text.size()));
  const auto model = format::read(bytes.bytes(), {});
  if (!model.ok()) return model.error().message;
  for (const format::Node& node : model->nodes)
    for (const format::TensorId id : node.outputs)
      if (id != format::kNoTensor) names->push_back(model->tensors[id].name);
  return {};
}

}  // namespace

Both::~Both() {
  mpq_session_destroy(gpu_);
  mpq_session_destroy(cpu_);
  mpq_model_close(model_);
}

std::string Both::open(const char* path, uint32_t batch, uint32_t tokens, mpq_status* status) {
  MPQ_SAY(names_of(path, &names_));
  *status = mpq_model_open(path, nullptr, &model_);
  MPQ_SAY(wrong(*status, path));
  batch_ = batch;
  tokens_ = tokens != 0 ? tokens : mpq_model_sequence_length(model_);
  mpq_options options;
  MPQ_INIT(&options);
  options.batch = batch;
  options.max_tokens = mpq_model_sequence_length(model_) != 0 ? batch * tokens_ : 0;
  options.keep_tensors = 1;
  options.threads = 1;
  *status = mpq_session_create(model_, &options, &cpu_);
  MPQ_SAY(wrong(*status, "cpu"));
  options.device = "cuda";
  *status = mpq_session_create(model_, &options, &gpu_);
  return wrong(*status, "cuda");
}

std::string Both::set_sequences(std::mt19937* random) {
  std::vector<uint32_t> lengths(batch_ == 1 ? 1 : 1 + (*random)() % batch_);
  for (uint32_t& length : lengths) length = batch_ == 1 ? tokens_ : 1 + (*random)() % tokens_;
  std::vector<int32_t> ids, types;
  for (const uint32_t length : lengths)
    for (uint32_t t = 0; t < length; ++t) {
      ids.push_back(static_cast<int32_t>((*random)() % mpq_model_vocabulary_size(model_)));
      types.push_back(static_cast<int32_t>((*random)() % 2));
    }
  const int32_t* const given = mpq_model_input_count(model_) > 1 ? types.data() : nullptr;
  for (mpq_session* session : {cpu_, gpu_})
    MPQ_SAY(
        wrong(mpq_session_set_sequences(session, ids.data(), given, lengths.data(), lengths.size()),
              "sequences"));
  return {};
}

std::string Both::set_inputs(uint32_t seed, const std::vector<uint8_t>& first) {
  std::mt19937 random(seed);
  if (mpq_model_sequence_length(model_) != 0) return set_sequences(&random);
  for (size_t i = 0; i < mpq_model_input_count(model_); ++i) {
    mpq_tensor_info info;
    MPQ_INIT(&info);
    MPQ_SAY(wrong(mpq_session_input_info(cpu_, i, &info), "input"));
    std::vector<uint8_t> bytes(info.bytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    for (size_t j = 0; info.dtype == MPQ_F32 && j < info.elements; ++j) {
      const float value = static_cast<float>(random() % 4001) / 1000.0F - 2.0F;
      std::memcpy(&bytes[4 * j], &value, 4);
    }
    if (i == 0 && first.size() > bytes.size()) return "the image is larger than the input";
    if (i == 0) std::copy(first.begin(), first.end(), bytes.begin());
    for (mpq_session* session : {cpu_, gpu_})
      MPQ_SAY(wrong(mpq_session_set_input(session, i, bytes.data(), bytes.size()), "input"));
  }
  return {};
}

std::string Both::run_cpu() {
  MPQ_SAY(wrong(mpq_session_run(cpu_), "cpu"));
  expected_.clear();
  for (const std::string& name : names_) {
    mpq_tensor_info info;
    MPQ_INIT(&info);
    MPQ_SAY(wrong(mpq_session_tensor_info(cpu_, name.c_str(), &info), "cpu"));
    expected_.emplace_back(info.bytes);
    MPQ_SAY(wrong(mpq_session_get_tensor(cpu_, name.c_str(), expected_.back().data(), info.bytes),
                  "cpu"));
  }
  return {};
}

std::string Both::run_gpu(double* seconds) {
  const auto begin = std::chrono::steady_clock::now();
  const mpq_status status = mpq_session_run(gpu_);
  if (seconds != nullptr)
    *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return wrong(status, "cuda");
}

std::string Both::compare(Compared* all) {
  for (size_t i = 0; i < names_.size(); ++i) {
    const std::vector<uint8_t>& a = expected_[i];
    std::vector<uint8_t> b(a.size());
    MPQ_SAY(wrong(mpq_session_get_tensor(gpu_, names_[i].c_str(), b.data(), b.size()), "cuda"));
    ++all->tensors;
    all->bytes += a.size();
    if (a == b) continue;
    const auto at =
        static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
    if (++all->different == 1)
      all->first = names_[i] + ": byte " + std::to_string(at) + " of " + std::to_string(a.size()) +
                   " is " + std::to_string(b[at]) + ", not " + std::to_string(a[at]);
  }
  return {};
}

}  // namespace mpq::test
