#include "integrations/server/infer.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "integrations/server/image_input.h"

namespace mpq::serve {

namespace {

constexpr size_t kMaxTensors = 64;

Failure invalid(const std::string& what) { return {400, what}; }

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t dimension : shape)
    text += (text.size() > 1 ? "," : "") + std::to_string(dimension);
  return text + "]";
}

const WireTensor* find(const std::vector<WireTensor>& tensors,
                       std::initializer_list<std::string_view> names) {
  for (const WireTensor& tensor : tensors)
    for (const std::string_view name : names)
      if (tensor.name == name) return &tensor;
  return nullptr;
}

MaybeFailure set_samples(const Facts& facts, uint64_t samples, const std::string& input, Job* job) {
  if (samples == 0 || samples > facts.config.max_batch_size)
    return invalid("input " + input + ": " + std::to_string(samples) + " samples, expected 1 to " +
                   std::to_string(facts.config.max_batch_size));
  if (job->samples != 0 && job->samples != samples)
    return invalid("input " + input + ": " + std::to_string(samples) +
                   " samples, other inputs have " + std::to_string(job->samples));
  job->samples = static_cast<uint32_t>(samples);
  return std::nullopt;
}

// Encoded images, or pixels.
MaybeFailure take_tensor(const Facts& facts, const TensorFacts& input, const WireTensor& tensor,
                         Job* job) {
  if (tensor.datatype == "BYTES" && facts.image) {
    if (MaybeFailure failure = set_samples(facts, tensor.elements, tensor.name, job))
      return failure;
    std::vector<std::string_view> images;
    if (MaybeFailure failure = texts_of(tensor, &images)) return failure;
    std::vector<std::byte>& bytes = job->owned.emplace_back();
    bytes.reserve(images.size() * input.sample_bytes);
    for (const std::string_view image : images)
      if (MaybeFailure failure = append_image(image, *facts.image, &bytes)) return failure;
    job->inputs.push_back(bytes);
  } else {
    if (tensor.datatype != input.datatype)
      return invalid("input " + tensor.name + ": " + tensor.datatype + ", expected " +
                     input.datatype);
    std::vector<int64_t> expected = {-1};
    expected.insert(expected.end(), input.shape.begin(), input.shape.end());
    if (tensor.shape.size() != expected.size() ||
        !std::equal(expected.begin() + 1, expected.end(), tensor.shape.begin() + 1))
      return invalid("input " + tensor.name + ": shape " + text_of(tensor.shape) + ", expected " +
                     text_of(expected));
    if (MaybeFailure failure =
            set_samples(facts, static_cast<uint64_t>(tensor.shape[0]), tensor.name, job))
      return failure;
    if (tensor.binary) {
      job->inputs.push_back(std::as_bytes(std::span(tensor.raw)));
    } else {
      std::vector<std::byte>& bytes = job->owned.emplace_back();
      if (MaybeFailure failure = elements_of(tensor, &bytes)) return failure;
      job->inputs.push_back(bytes);
    }
  }
  if (job->inputs.back().size() != job->samples * input.sample_bytes)
    return invalid("input " + tensor.name + ": " + std::to_string(job->inputs.back().size()) +
                   " bytes, expected " + std::to_string(job->samples * input.sample_bytes));
  return std::nullopt;
}

MaybeFailure take_text(const Facts& facts, std::string_view text,
                       std::optional<std::string_view> pair, Job* job) {
  try {
    const std::vector<mpq_token> tokens = facts.model.tokenize(text, pair);
    for (const mpq_token& token : tokens) {
      job->ids.push_back(token.id);
      if (facts.takes_types) job->types.push_back(token.type);
    }
    job->lengths.push_back(static_cast<uint32_t>(tokens.size()));
  } catch (const StatusError& error) {
    return invalid(std::string("text: ") + error.what());
  }
  return std::nullopt;
}

// [n] or [n,1] texts, [n,2] pairs.
MaybeFailure take_texts(const Facts& facts, const WireTensor& tensor, Job* job) {
  if (!facts.takes_text) return invalid("input text: the model has no vocabulary, it takes ids");
  const size_t rank = tensor.shape.size();
  const int64_t sides = rank == 2 ? tensor.shape[1] : 1;
  if (rank < 1 || rank > 2 || sides < 1 || sides > 2)
    return invalid("input text: shape " + text_of(tensor.shape) + ", expected [n] or [n,2]");
  if (MaybeFailure failure =
          set_samples(facts, static_cast<uint64_t>(tensor.shape[0]), "text", job))
    return failure;
  std::vector<std::string_view> texts;
  if (MaybeFailure failure = texts_of(tensor, &texts)) return failure;
  for (size_t i = 0; i < texts.size(); i += static_cast<size_t>(sides))
    if (MaybeFailure failure = take_text(
            facts, texts[i], sides == 2 ? std::optional(texts[i + 1]) : std::nullopt, job))
      return failure;
  return std::nullopt;
}

// Rows of ids with what is behind the end of each sequence cut off: attention_mask says where that
// is.
MaybeFailure take_ids(const Facts& facts, const std::vector<WireTensor>& tensors, Job* job,
                      Wanted* wanted) {
  const WireTensor* const ids = find(tensors, {"input_ids", "ids"});
  const WireTensor* const types = find(tensors, {"token_type_ids", "types"});
  const WireTensor* const mask = find(tensors, {"attention_mask"});
  if (ids == nullptr)
    return invalid(facts.takes_text ? "no input text or input_ids" : "no input input_ids");
  if (ids->shape.size() != 2 || ids->shape[1] < 1 || ids->shape[1] > facts.sequence_length)
    return invalid("input " + ids->name + ": shape " + text_of(ids->shape) + ", expected [n,1 to " +
                   std::to_string(facts.sequence_length) + "]");
  for (const WireTensor* other : {types, mask})
    if (other != nullptr && other->shape != ids->shape)
      return invalid("input " + other->name + ": shape " + text_of(other->shape) + ", expected " +
                     text_of(ids->shape));
  if (MaybeFailure failure =
          set_samples(facts, static_cast<uint64_t>(ids->shape[0]), ids->name, job))
    return failure;
  const auto rows = static_cast<size_t>(ids->shape[1]);
  std::vector<int32_t> id, type, keep;
  if (MaybeFailure failure = ids_of(*ids, &id)) return failure;
  if (types != nullptr)
    if (MaybeFailure failure = ids_of(*types, &type)) return failure;
  if (mask != nullptr)
    if (MaybeFailure failure = ids_of(*mask, &keep)) return failure;
  type.resize(id.size(), 0);
  keep.resize(id.size(), mask == nullptr ? 1 : 0);
  const uint32_t vocabulary = mpq_model_vocabulary_size(facts.model.get());
  for (size_t first = 0; first < id.size(); first += rows) {
    const auto end = keep.begin() + static_cast<ptrdiff_t>(first + rows);
    const auto stop = std::find(keep.begin() + static_cast<ptrdiff_t>(first), end, 0);
    const auto length = static_cast<size_t>(stop - keep.begin()) - first;
    if (length == 0 || std::any_of(stop, end, [](int32_t k) { return k != 0; }))
      return invalid("input attention_mask: each row is ones, then zeros");
    for (size_t i = first; i < first + length; ++i) {
      if (id[i] < 0 || static_cast<uint32_t>(id[i]) >= vocabulary)
        return invalid("input " + ids->name + ": id " + std::to_string(id[i]) +
                       ", the vocabulary has " + std::to_string(vocabulary));
      if (type[i] != 0 && (type[i] != 1 || !facts.takes_types))
        return invalid("input " + types->name + ": type " + std::to_string(type[i]));
      job->ids.push_back(id[i]);
      if (facts.takes_types) job->types.push_back(type[i]);
    }
    job->lengths.push_back(static_cast<uint32_t>(length));
  }
  wanted->sequence_rows = static_cast<uint32_t>(rows);
  return std::nullopt;
}

MaybeFailure take_sequences(const Facts& facts, const std::vector<WireTensor>& tensors, Job* job,
                            Wanted* wanted) {
  const WireTensor* const text = find(tensors, {"text"});
  if (text != nullptr && tensors.size() != 1)
    return invalid("input text stands alone, without ids");
  MaybeFailure failure =
      text != nullptr ? take_texts(facts, *text, job) : take_ids(facts, tensors, job, wanted);
  if (!failure && job->ids.size() > facts.max_tokens)
    failure = invalid(std::to_string(job->ids.size()) + " tokens in a request, at most " +
                      std::to_string(facts.max_tokens));
  return failure;
}

// A whole number of an object's "parameters"; absent: fallback.
MaybeFailure number(const Json& parameters, const char* key, uint64_t most, uint64_t* value) {
  if (!parameters.contains(key)) return std::nullopt;
  const Json& json = parameters[key];
  if (!json.is_number_unsigned() || json.get<uint64_t>() > most)
    return invalid(std::string("parameter ") + key + ": not in 0 to " + std::to_string(most));
  *value = json.get<uint64_t>();
  return std::nullopt;
}

bool flag(const Json& parameters, const char* key, bool fallback) {
  const auto found = parameters.find(key);
  return found != parameters.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

Json parameters_of(const Json& json) {
  const auto found = json.find("parameters");
  return found != json.end() && found->is_object() ? *found : Json::object();
}

MaybeFailure read_outputs(const Facts& facts, const Json& json, bool binary, Wanted* wanted) {
  if (!json.contains("outputs")) {
    for (size_t i = 0; i < facts.outputs.size(); ++i) wanted->outputs.push_back({i, binary, 0});
    return std::nullopt;
  }
  const Json& outputs = json["outputs"];
  if (!outputs.is_array() || outputs.size() > kMaxTensors)
    return invalid("outputs: not a list of at most 64");
  std::set<size_t> asked;
  for (const Json& output : outputs) {
    const auto* const name = output.is_object() && output.contains("name")
                                 ? output["name"].get_ptr<const std::string*>()
                                 : nullptr;
    if (name == nullptr) return invalid("an output has no name");
    const auto known = std::find_if(facts.outputs.begin(), facts.outputs.end(),
                                    [&](const TensorFacts& o) { return o.name == *name; });
    if (known == facts.outputs.end()) return invalid("no output of that name");
    const auto index = static_cast<size_t>(known - facts.outputs.begin());
    if (!asked.insert(index).second) return invalid("output " + *name + " twice");
    const Json parameters = parameters_of(output);
    uint64_t classes = 0;
    if (MaybeFailure failure = number(parameters, "classification", 100000, &classes))
      return failure;
    if (classes != 0 && (known->datatype != "FP32" || known->per_token))
      return invalid("output " + *name + ": classification needs FP32 scores");
    wanted->outputs.push_back(
        {index, flag(parameters, "binary_data", binary), static_cast<uint32_t>(classes)});
  }
  return std::nullopt;
}

MaybeFailure read_policy(const Facts& facts, const Json& parameters, Job* job) {
  const ModelConfig& config = facts.config;
  uint64_t priority = 0, timeout = 0;
  if (MaybeFailure failure = number(parameters, "priority", config.priority_levels, &priority))
    return failure;
  job->priority = priority == 0 ? config.default_priority_level : static_cast<uint32_t>(priority);
  if (MaybeFailure failure = number(parameters, "timeout", UINT32_MAX, &timeout)) return failure;
  const QueuePolicy& policy = config.policy(job->priority);
  uint64_t allowed = policy.default_timeout_us;
  if (timeout != 0 && policy.allow_timeout_override)
    allowed = allowed == 0 ? timeout : std::min(allowed, timeout);
  if (allowed != 0) job->deadline = job->arrived + std::chrono::microseconds(allowed);
  return std::nullopt;
}

// The whole body is the one input: pixels, an encoded image, or a text.
MaybeFailure read_raw(const Facts& facts, std::string_view body, Job* job, Wanted* wanted) {
  for (size_t i = 0; i < facts.outputs.size(); ++i) wanted->outputs.push_back({i, true, 0});
  if (MaybeFailure failure = read_policy(facts, Json::object(), job)) return failure;
  WireTensor tensor;
  tensor.binary = true;
  tensor.raw = body;
  if (facts.sequences()) {
    if (!facts.takes_text) return invalid("the model has no vocabulary, it takes ids");
    job->samples = 1;
    return take_text(facts, tensor.raw, std::nullopt, job);
  }
  if (facts.inputs.size() != 1) return invalid("a raw body is for models of one input");
  const TensorFacts& input = facts.inputs[0];
  tensor.name = input.name;
  job->owned.reserve(1);
  if (facts.image && tensor.raw.size() != input.sample_bytes) {
    job->samples = 1;
    std::vector<std::byte>& bytes = job->owned.emplace_back();
    if (MaybeFailure failure = append_image(tensor.raw, *facts.image, &bytes)) return failure;
    job->inputs.push_back(bytes);
    return std::nullopt;
  }
  if (tensor.raw.size() % input.sample_bytes != 0)
    return invalid(std::to_string(tensor.raw.size()) + " bytes, expected a multiple of " +
                   std::to_string(input.sample_bytes));
  tensor.datatype = input.datatype;
  tensor.shape = input.shape;
  tensor.shape.insert(tensor.shape.begin(),
                      static_cast<int64_t>(tensor.raw.size() / input.sample_bytes));
  return take_tensor(facts, input, tensor, job);
}

// ---- The answer ----

void append_quoted(const std::string& text, std::string* json) {
  *json += Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// "value:index:label" of the largest scores of each sample.
std::vector<std::string> largest(const Facts& facts, const std::vector<std::byte>& bytes,
                                 size_t samples, uint32_t classes) {
  std::vector<std::string> texts;
  const size_t count = bytes.size() / sizeof(float) / samples;
  std::vector<float> scores(count);
  std::vector<uint32_t> order(count);
  for (size_t s = 0; s < samples; ++s) {
    std::memcpy(scores.data(), bytes.data() + s * count * sizeof(float), count * sizeof(float));
    std::iota(order.begin(), order.end(), 0);
    const size_t top = std::min<size_t>(classes, count);
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(top), order.end(),
                      [&](uint32_t a, uint32_t b) {
                        return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
                      });
    for (size_t i = 0; i < top; ++i) {
      std::string text = std::to_string(scores[order[i]]) + ":" + std::to_string(order[i]);
      if (order[i] < facts.labels.size()) text += ":" + facts.labels[order[i]];
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

// Rows of tokens, each sequence filled up with zeros to the same number of rows.
std::vector<std::byte> padded(const Job& job, const std::vector<std::byte>& rows, size_t row_bytes,
                              size_t sequence_rows) {
  std::vector<std::byte> bytes(job.lengths.size() * sequence_rows * row_bytes);
  size_t from = 0;
  for (size_t s = 0; s < job.lengths.size(); ++s) {
    const size_t size = job.lengths[s] * row_bytes;
    std::memcpy(bytes.data() + s * sequence_rows * row_bytes, rows.data() + from, size);
    from += size;
  }
  return bytes;
}

}  // namespace

MaybeFailure read_head(const Facts& facts, const Json& head, bool binary, Job* job,
                       Wanted* wanted) {
  if (head.contains("id")) {
    if (!head["id"].is_string() || head["id"].get_ref<const std::string&>().size() > 255)
      return invalid("id: not a text of at most 255 bytes");
    wanted->id = head["id"].get<std::string>();
  }
  const Json parameters = parameters_of(head);
  if (MaybeFailure failure = read_policy(facts, parameters, job)) return failure;
  return read_outputs(facts, head, flag(parameters, "binary_data_output", binary), wanted);
}

MaybeFailure read_inputs(const Facts& facts, const std::vector<WireTensor>& tensors, Job* job,
                         Wanted* wanted) {
  if (tensors.empty() || tensors.size() > kMaxTensors)
    return invalid("inputs: not a list of 1 to 64");
  for (size_t i = 0; i < tensors.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (tensors[i].name == tensors[j].name) return invalid("input " + tensors[i].name + " twice");
  if (facts.sequences()) return take_sequences(facts, tensors, job, wanted);
  job->owned.reserve(facts.inputs.size());  // spans point into it
  for (const TensorFacts& input : facts.inputs) {
    const WireTensor* const tensor = find(tensors, {input.name});
    if (tensor == nullptr) return invalid("no input " + input.name);
    if (MaybeFailure failure = take_tensor(facts, input, *tensor, job)) return failure;
  }
  if (tensors.size() != facts.inputs.size())
    return invalid(std::to_string(tensors.size()) + " inputs, expected " +
                   std::to_string(facts.inputs.size()));
  return std::nullopt;
}

MaybeFailure read_body(const Facts& facts, std::string_view body, size_t json_bytes, Job* job,
                       Wanted* wanted) {
  if (json_bytes == 0) return read_raw(facts, body, job, wanted);
  if (json_bytes > body.size())
    return invalid("Inference-Header-Content-Length is more than the body");
  Json json;
  if (auto wrong = parse_json(body.substr(0, json_bytes), &json)) return invalid(*wrong);
  body.remove_prefix(json_bytes);
  if (!json.is_object()) return invalid("the request is no JSON object");
  if (MaybeFailure failure = read_head(facts, json, false, job, wanted)) return failure;
  if (!json.contains("inputs") || !json["inputs"].is_array() || json["inputs"].size() > kMaxTensors)
    return invalid("inputs: not a list of 1 to 64");
  std::vector<WireTensor> tensors;
  for (Json& input : json["inputs"])
    if (MaybeFailure failure = read_tensor(&input, &body, &tensors.emplace_back())) return failure;
  if (!body.empty())
    return invalid(std::to_string(body.size()) + " bytes behind the last binary input");
  return read_inputs(facts, tensors, job, wanted);
}

size_t Result::raw_bytes() const {
  size_t size = bytes.size();
  for (const std::string& text : texts) size += sizeof(uint32_t) + text.size();
  return size;
}

void Result::append_to(std::string* raw) const {
  raw->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const std::string& text : texts) {
    const auto size = static_cast<uint32_t>(text.size());
    raw->append(reinterpret_cast<const char*>(&size), sizeof size);
    *raw += text;
  }
}

std::vector<Result> results_of(const Facts& facts, const Wanted& wanted, const Job& job) {
  const uint32_t longest =
      job.lengths.empty() ? 0 : *std::max_element(job.lengths.begin(), job.lengths.end());
  const size_t sequence_rows = std::max(wanted.sequence_rows, longest);
  std::vector<Result> results;
  for (const Wanted::Output& want : wanted.outputs) {
    const TensorFacts& output = facts.outputs[want.index];
    Result& result = results.emplace_back();
    result.name = output.name;
    result.datatype = output.datatype;
    result.shape = {static_cast<int64_t>(job.samples)};
    result.binary = want.binary;
    result.element_bytes = output.element_bytes;
    if (want.classes != 0) {
      result.texts = largest(facts, job.outputs[want.index], job.samples, want.classes);
      result.datatype = "BYTES";
      result.shape.push_back(static_cast<int64_t>(result.texts.size() / job.samples));
      result.element_bytes = 0;
      continue;
    }
    result.bytes = job.outputs[want.index];
    if (output.per_token) {
      const auto is_full = [=](uint32_t length) { return length == sequence_rows; };
      if (!std::all_of(job.lengths.begin(), job.lengths.end(), is_full)) {
        result.filled = padded(job, job.outputs[want.index], output.sample_bytes, sequence_rows);
        result.bytes = result.filled;
      }
      result.shape.push_back(static_cast<int64_t>(sequence_rows));
    }
    result.shape.insert(result.shape.end(), output.shape.begin(), output.shape.end());
  }
  return results;
}

Answer write_body(const Facts& facts, const Wanted& wanted, const Job& job) {
  Answer answer;
  const std::vector<Result> results = results_of(facts, wanted, job);
  std::string& json = answer.body;
  json = R"({"model_name":)";
  append_quoted(facts.name, &json);
  json += R"(,"model_version":)";
  append_quoted(facts.version, &json);
  if (!wanted.id.empty()) {
    json += R"(,"id":)";
    append_quoted(wanted.id, &json);
  }
  json += R"(,"outputs":[)";
  size_t binary_bytes = 0;
  bool has_binary = false, first = true;
  for (const Result& result : results) {
    json += first ? R"({"name":)" : R"(,{"name":)";
    first = false;
    append_quoted(result.name, &json);
    json += R"(,"datatype":")" + result.datatype + R"(","shape":)" + text_of(result.shape);
    if (result.binary) {
      const size_t bytes = result.raw_bytes();
      json += R"(,"parameters":{"binary_data_size":)" + std::to_string(bytes) + "}";
      binary_bytes += bytes;
      has_binary = true;
    } else {
      json += R"(,"data":)";
      if (result.element_bytes != 0)
        print_elements(result.datatype, result.bytes.data(),
                       result.bytes.size() / result.element_bytes, &json);
      else
        json += Json(result.texts).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    json += "}";
  }
  json += "]}";
  if (has_binary) {
    answer.json_bytes = json.size();
    json.reserve(json.size() + binary_bytes);
    for (const Result& result : results)
      if (result.binary) result.append_to(&json);
  }
  return answer;
}

}  // namespace mpq::serve
