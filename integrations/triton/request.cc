#include "integrations/triton/request.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "integrations/triton/error.h"

namespace mpq::triton {

namespace {

using serve::Job;
using serve::TensorFacts;
using serve::WireTensor;

void must(serve::MaybeFailure failure) {
  if (failure) throw std::invalid_argument(failure->message);
}

[[noreturn]] void wrong(const WireTensor& tensor, const std::string& what) {
  throw std::invalid_argument("input " + tensor.name + ": " + what);
}

const WireTensor* find(const std::vector<WireTensor>& tensors, std::string_view name) {
  for (const WireTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

struct Datatype {
  const char* name;
  TRITONSERVER_DataType type;
};
// Of outputs.
constexpr Datatype kDatatypes[] = {{"FP32", TRITONSERVER_TYPE_FP32},
                                   {"INT32", TRITONSERVER_TYPE_INT32},
                                   {"UINT8", TRITONSERVER_TYPE_UINT8},
                                   {"INT8", TRITONSERVER_TYPE_INT8}};

TRITONSERVER_DataType datatype_of(const std::string& name) {
  for (const Datatype& datatype : kDatatypes)
    if (name == datatype.name) return datatype.type;
  return TRITONSERVER_TYPE_INVALID;
}

bool in_host_memory(TRITONSERVER_MemoryType memory) { return memory != TRITONSERVER_MEMORY_GPU; }

}  // namespace

std::vector<WireTensor> Request::tensors() {
  uint32_t count = 0;
  call(TRITONBACKEND_RequestInputCount(request_, &count));
  std::vector<WireTensor> tensors(count);
  for (uint32_t i = 0; i < count; ++i) {
    WireTensor& tensor = tensors[i];
    TRITONBACKEND_Input* input = nullptr;
    const char* name = nullptr;
    TRITONSERVER_DataType type{};
    const int64_t* shape = nullptr;
    uint32_t rank = 0, buffers = 0;
    uint64_t bytes = 0;
    call(TRITONBACKEND_RequestInputByIndex(request_, i, &input));
    call(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &rank, &bytes, &buffers));
    tensor.name = name;
    tensor.datatype = TRITONSERVER_DataTypeString(type);
    tensor.shape.assign(shape, shape + rank);
    if (!network_.batching) tensor.shape.insert(tensor.shape.begin(), 1);
    tensor.elements = 1;
    for (const int64_t dimension : tensor.shape) {  // Triton has checked them against the bytes
      if (dimension < 1) wrong(tensor, "a dimension is " + std::to_string(dimension));
      tensor.elements *= static_cast<uint64_t>(dimension);
    }
    tensor.binary = true;
    std::string* joined = nullptr;
    if (buffers > 1) joined = joined_.emplace_back(std::make_unique<std::string>()).get();
    for (uint32_t b = 0; b < buffers; ++b) {
      const void* buffer = nullptr;
      uint64_t size = 0;
      TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
      int64_t memory_id = 0;
      call(TRITONBACKEND_InputBuffer(input, b, &buffer, &size, &memory, &memory_id));
      if (!in_host_memory(memory)) wrong(tensor, "is not in the memory of the host");
      tensor.raw = {static_cast<const char*>(buffer), size};
      if (joined != nullptr) *joined += tensor.raw;
    }
    if (joined != nullptr) tensor.raw = *joined;
    const size_t element = serve::element_bytes(tensor.datatype);
    if (element != 0 && tensor.raw.size() != tensor.elements * element)
      wrong(tensor, std::to_string(tensor.raw.size()) + " bytes, expected " +
                        std::to_string(tensor.elements * element));
  }
  return tensors;
}

serve::JobPtr Request::read() {
  const std::vector<WireTensor> inputs = tensors();
  auto job = std::make_unique<Job>();
  if (!network_.facts->sequences())
    take_samples(inputs, job.get());
  else if (const WireTensor* const texts = find(inputs, "text"); texts != nullptr)
    take_texts(*texts, job.get());
  else
    take_ids(inputs, job.get());
  if (network_.facts->sequences() && job->ids.size() > network_.facts->max_tokens)
    throw std::invalid_argument(std::to_string(job->ids.size()) + " tokens in a request, at most " +
                                std::to_string(network_.facts->max_tokens));
  return job;
}

void Request::set_samples(const WireTensor& tensor, Job* job) const {
  const uint32_t most = network_.facts->config.max_batch_size;
  const auto samples = static_cast<uint64_t>(tensor.shape.empty() ? 0 : tensor.shape[0]);
  if (samples == 0 || samples > most)
    wrong(tensor, std::to_string(samples) + " samples, expected 1 to " + std::to_string(most));
  if (job->samples != 0 && job->samples != samples)
    wrong(tensor,
          std::to_string(samples) + " samples, other inputs have " + std::to_string(job->samples));
  job->samples = static_cast<uint32_t>(samples);
}

void Request::take_samples(const std::vector<WireTensor>& tensors, Job* job) const {
  for (const TensorFacts& input : network_.facts->inputs) {
    const WireTensor* const tensor = find(tensors, input.name);
    if (tensor == nullptr) throw std::invalid_argument("no input " + input.name);
    set_samples(*tensor, job);
    if (tensor->datatype != input.datatype)
      wrong(*tensor, tensor->datatype + ", expected " + input.datatype);
    if (!std::equal(input.shape.begin(), input.shape.end(), tensor->shape.begin() + 1,
                    tensor->shape.end()))
      wrong(*tensor, "not the shape of the model");
    job->inputs.push_back(std::as_bytes(std::span(tensor->raw)));
  }
}

void Request::take_texts(const WireTensor& tensor, Job* job) const {
  const serve::Facts& facts = *network_.facts;
  const int64_t sides = tensor.shape.size() == 2 ? tensor.shape[1] : 0;
  if (!facts.takes_text) wrong(tensor, "the model has no vocabulary, it takes ids");
  if (sides < 1 || sides > 2) wrong(tensor, "expected a text, or two, a sample");
  set_samples(tensor, job);
  std::vector<std::string_view> texts;
  must(serve::texts_of(tensor, &texts));
  for (size_t i = 0; i < texts.size(); i += static_cast<size_t>(sides)) {
    const auto pair = sides == 2 ? std::optional(texts[i + 1]) : std::nullopt;
    const std::vector<mpq_token> tokens = facts.model.tokenize(texts[i], pair);
    for (const mpq_token& token : tokens) {
      job->ids.push_back(token.id);
      if (facts.takes_types) job->types.push_back(token.type);
    }
    job->lengths.push_back(static_cast<uint32_t>(tokens.size()));
  }
}

void Request::take_ids(const std::vector<WireTensor>& tensors, Job* job) {
  const serve::Facts& facts = *network_.facts;
  const WireTensor* const ids = find(tensors, "input_ids");
  const WireTensor* const mask = find(tensors, "attention_mask");
  const WireTensor* const types = find(tensors, "token_type_ids");
  if (ids == nullptr) throw std::invalid_argument("no input text or input_ids");
  if (ids->shape.size() != 2 || ids->shape[1] > facts.sequence_length)
    wrong(*ids, "expected [n,1 to " + std::to_string(facts.sequence_length) + "]");
  for (const WireTensor* const other : {mask, types})
    if (other != nullptr && other->shape != ids->shape) wrong(*other, "not the shape of input_ids");
  set_samples(*ids, job);
  std::vector<int32_t> id, keep, type;
  must(serve::ids_of(*ids, &id));
  if (mask != nullptr) must(serve::ids_of(*mask, &keep));
  if (types != nullptr) must(serve::ids_of(*types, &type));
  keep.resize(id.size(), mask == nullptr ? 1 : 0);
  type.resize(id.size(), 0);
  rows_ = static_cast<size_t>(ids->shape[1]);
  for (size_t first = 0; first < id.size(); first += rows_) {
    size_t length = 0;
    while (length < rows_ && keep[first + length] != 0) ++length;
    for (size_t i = length; i < rows_; ++i)
      if (keep[first + i] != 0) length = 0;
    if (length == 0)
      throw std::invalid_argument("input attention_mask: each row is ones, then zeros");
    const auto begin = static_cast<ptrdiff_t>(first);
    const auto end = begin + static_cast<ptrdiff_t>(length);
    job->ids.insert(job->ids.end(), id.begin() + begin, id.begin() + end);
    if (facts.takes_types)
      job->types.insert(job->types.end(), type.begin() + begin, type.begin() + end);
    job->lengths.push_back(static_cast<uint32_t>(length));
  }
  // Ids and types are checked for one request alone: a wrong one must not fail its neighbours.
  const uint32_t vocabulary = mpq_model_vocabulary_size(facts.model.get());
  for (const int32_t i : job->ids)
    if (i < 0 || static_cast<uint32_t>(i) >= vocabulary)
      wrong(*ids, "id " + std::to_string(i) + ", the vocabulary has " + std::to_string(vocabulary));
  for (const int32_t t : job->types)
    if (t < 0 || t > 1) wrong(*types, "type " + std::to_string(t) + ", expected 0 or 1");
}

void Request::write(const Job& job, TRITONBACKEND_Response* response) const {
  uint32_t count = 0;
  call(TRITONBACKEND_RequestOutputCount(request_, &count));
  const uint32_t longest =
      job.lengths.empty() ? 0 : *std::max_element(job.lengths.begin(), job.lengths.end());
  const size_t rows = std::max<size_t>(rows_, longest);
  for (uint32_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    call(TRITONBACKEND_RequestOutputName(request_, i, &name));
    const auto& known = network_.facts->outputs;
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const TensorFacts& output) { return output.name == name; });
    if (found == known.end()) throw std::invalid_argument(std::string("no output ") + name);
    std::vector<int64_t> shape;
    if (network_.batching) shape.push_back(job.samples);
    if (found->per_token) shape.push_back(static_cast<int64_t>(rows));
    shape.insert(shape.end(), found->shape.begin(), found->shape.end());

    const std::vector<std::byte>& bytes = job.outputs[static_cast<size_t>(found - known.begin())];
    const size_t row = found->sample_bytes;
    const size_t size = found->per_token ? job.lengths.size() * rows * row : bytes.size();
    TRITONBACKEND_Output* output = nullptr;
    void* buffer = nullptr;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    call(TRITONBACKEND_ResponseOutput(response, &output, name, datatype_of(found->datatype),
                                      shape.data(), static_cast<uint32_t>(shape.size())));
    call(TRITONBACKEND_OutputBuffer(output, &buffer, size, &memory, &memory_id));
    if (!in_host_memory(memory))
      throw std::invalid_argument(std::string("output ") + name + ": wanted in a GPU's memory");
    if (!found->per_token) {
      std::memcpy(buffer, bytes.data(), size);
      continue;
    }
    // A row a token: zeros behind the end of each sequence.
    auto* to = static_cast<std::byte*>(buffer);
    const std::byte* from = bytes.data();
    for (const uint32_t length : job.lengths) {
      std::memcpy(to, from, length * row);
      std::memset(to + length * row, 0, (rows - length) * row);
      to += rows * row;
      from += length * row;
    }
  }
}

bool Request::succeed(const Job& job) {
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, request_);
  if (error == nullptr) {
    error = guarded([&] { write(job, response); });
    ignore(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
  }
  ignore(error);
  return error == nullptr;
}

void Request::fail(TRITONSERVER_Error* error) {
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* const none = TRITONBACKEND_ResponseNew(&response, request_);
  if (none == nullptr)
    ignore(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
  ignore(none);
  ignore(error);
}

}  // namespace mpq::triton
