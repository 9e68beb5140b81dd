#include "integrations/server/infer_message.h"

#include <cstring>
#include <limits>

namespace mpq::serve {

namespace {

using google::protobuf::RepeatedField;
using inference::InferParameter;
using inference::InferTensorContents;

// ---- Typed contents and bytes ----

// Appends the numbers as T; false when one does not fit.
template <typename T, typename Wide>
bool append_as(const RepeatedField<Wide>& numbers, std::string* raw) {
  for (const Wide wide : numbers) {
    const T value = static_cast<T>(wide);
    if constexpr (std::is_integral_v<T>)
      if (wide < std::numeric_limits<T>::min() || wide > std::numeric_limits<T>::max())
        return false;
    raw->append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return true;
}

template <typename T, typename Wide>
void take_from(std::span<const std::byte> bytes, RepeatedField<Wide>* numbers) {
  numbers->Reserve(static_cast<int>(bytes.size() / sizeof(T)));
  for (size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    T value{};
    std::memcpy(&value, &bytes[at], sizeof value);
    numbers->Add(value);
  }
}

// Which list of contents holds a datatype's elements.
struct Typed {
  std::string_view datatype;
  int (*size)(const InferTensorContents&);
  bool (*append)(const InferTensorContents&, std::string* raw);
  void (*take)(std::span<const std::byte>, InferTensorContents*);
};
template <typename T, auto kGet, auto kSize, auto kMutable>
constexpr Typed typed(std::string_view datatype) {
  return {
      datatype, [](const InferTensorContents& c) { return (c.*kSize)(); },
      [](const InferTensorContents& c, std::string* raw) { return append_as<T>((c.*kGet)(), raw); },
      [](std::span<const std::byte> bytes, InferTensorContents* c) {
        take_from<T>(bytes, (c->*kMutable)());
      }};
}
using C = InferTensorContents;
using Ints = RepeatedField<int32_t>;
using Uints = RepeatedField<uint32_t>;
template <typename T>
constexpr Typed ints(std::string_view datatype) {
  return typed<T, static_cast<const Ints& (C::*)() const>(&C::int_contents), &C::int_contents_size,
               static_cast<Ints* (C::*)()>(&C::mutable_int_contents)>(datatype);
}
template <typename T>
constexpr Typed uints(std::string_view datatype) {
  return typed<T, static_cast<const Uints& (C::*)() const>(&C::uint_contents),
               &C::uint_contents_size, static_cast<Uints* (C::*)()>(&C::mutable_uint_contents)>(
      datatype);
}
constexpr Typed kTyped[] = {
    typed<float, static_cast<const RepeatedField<float>& (C::*)() const>(&C::fp32_contents),
          &C::fp32_contents_size,
          static_cast<RepeatedField<float>* (C::*)()>(&C::mutable_fp32_contents)>("FP32"),
    uints<uint8_t>("UINT8"),
    ints<int8_t>("INT8"),
    ints<int32_t>("INT32"),
    typed<int64_t, static_cast<const RepeatedField<int64_t>& (C::*)() const>(&C::int64_contents),
          &C::int64_contents_size,
          static_cast<RepeatedField<int64_t>* (C::*)()>(&C::mutable_int64_contents)>("INT64"),
    typed<double, static_cast<const RepeatedField<double>& (C::*)() const>(&C::fp64_contents),
          &C::fp64_contents_size,
          static_cast<RepeatedField<double>* (C::*)()>(&C::mutable_fp64_contents)>("FP64"),
    uints<uint16_t>("UINT16"),
    ints<int16_t>("INT16"),
    uints<uint32_t>("UINT32"),
    typed<uint64_t, static_cast<const RepeatedField<uint64_t>& (C::*)() const>(&C::uint64_contents),
          &C::uint64_contents_size,
          static_cast<RepeatedField<uint64_t>* (C::*)()>(&C::mutable_uint64_contents)>("UINT64"),
    {"BYTES", [](const C& c) { return c.bytes_contents_size(); },
     [](const C& c, std::string* raw) {
       for (const std::string& text : c.bytes_contents()) {
         const auto size = static_cast<uint32_t>(text.size());
         raw->append(reinterpret_cast<const char*>(&size), sizeof size);
         *raw += text;
       }
       return true;
     },
     nullptr},
};

const Typed* find_typed(std::string_view datatype) {
  for (const Typed& one : kTyped)
    if (one.datatype == datatype) return &one;
  return nullptr;
}

Failure bad(const std::string& name, const std::string& what) {
  return {400, "input " + name.substr(0, 255) + ": " + what};
}

// The elements that all lists hold.
int64_t elements_in(const InferTensorContents& c) {
  return int64_t{c.bool_contents_size()} + c.int_contents_size() + c.int64_contents_size() +
         c.uint_contents_size() + c.uint64_contents_size() + c.fp32_contents_size() +
         c.fp64_contents_size() + c.bytes_contents_size();
}

MaybeFailure make_raw(inference::ModelInferRequest* message) {
  if (message->raw_input_contents_size() != 0) {
    for (const auto& input : message->inputs())
      if (elements_in(input.contents()) != 0)
        return bad(input.name(), "contents, although there are raw_input_contents");
    if (message->raw_input_contents_size() != message->inputs_size())
      return Failure{400, std::to_string(message->raw_input_contents_size()) +
                              " raw_input_contents for " + std::to_string(message->inputs_size()) +
                              " inputs"};
    return std::nullopt;
  }
  for (auto& input : *message->mutable_inputs()) {
    const Typed* const type = find_typed(input.datatype());
    if (type == nullptr) return bad(input.name(), "no datatype, or not one that is taken here");
    if (type->size(input.contents()) != elements_in(input.contents()))
      return bad(input.name(), "contents of another type than " + input.datatype());
    if (!type->append(input.contents(), message->add_raw_input_contents()))
      return bad(input.name(), "a number out of the range of " + input.datatype());
    input.clear_contents();
  }
  return std::nullopt;
}

// ---- The head, as JSON has it ----

Json value_of(const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return parameter.bool_param();
    case InferParameter::kInt64Param:
      if (parameter.int64_param() < 0) return parameter.int64_param();
      return static_cast<uint64_t>(parameter.int64_param());
    case InferParameter::kStringParam:
      return parameter.string_param();
    case InferParameter::kDoubleParam:
      return parameter.double_param();
    case InferParameter::kUint64Param:
      return parameter.uint64_param();
    default:
      return {};
  }
}

template <typename Map>
Json object_of(const Map& parameters) {
  Json object = Json::object();
  for (const auto& [key, value] : parameters) object[key] = value_of(value);
  return object;
}

Json head_of(const inference::ModelInferRequest& message) {
  Json head = {{"id", message.id()}, {"parameters", object_of(message.parameters())}};
  for (const auto& output : message.outputs())
    head["outputs"].push_back(
        {{"name", output.name()}, {"parameters", object_of(output.parameters())}});
  return head;
}

}  // namespace

MaybeFailure read_message(const Facts& facts, bool binary_outputs,
                          inference::ModelInferRequest* message, Job* job, Wanted* wanted) {
  if (MaybeFailure failure = read_head(facts, head_of(*message), binary_outputs, job, wanted))
    return failure;
  for (auto& output : wanted->outputs) output.binary = binary_outputs;  // all or none
  if (MaybeFailure failure = make_raw(message)) return failure;
  std::vector<WireTensor> tensors;
  for (int i = 0; i < message->inputs_size(); ++i) {
    const auto& input = message->inputs(i);
    WireTensor& tensor = tensors.emplace_back();
    const std::span<const int64_t> shape(input.shape().data(),
                                         static_cast<size_t>(input.shape_size()));
    if (MaybeFailure failure = describe(input.name(), input.datatype(), shape, &tensor))
      return failure;
    if (MaybeFailure failure = set_raw(message->raw_input_contents(i), &tensor)) return failure;
  }
  return read_inputs(facts, tensors, job, wanted);
}

void write_message(const Facts& facts, const Wanted& wanted, const Job& job,
                   inference::ModelInferResponse* message) {
  message->set_model_name(facts.name);
  message->set_model_version(facts.version);
  for (const Result& result : results_of(facts, wanted, job)) {
    auto* const output = message->add_outputs();
    output->set_name(result.name);
    output->set_datatype(result.datatype);
    for (const int64_t dimension : result.shape) output->add_shape(dimension);
    if (result.binary) {
      result.append_to(message->add_raw_output_contents());
    } else if (result.element_bytes != 0) {
      find_typed(result.datatype)->take(result.bytes, output->mutable_contents());
    } else {
      for (const std::string& text : result.texts)
        output->mutable_contents()->add_bytes_contents(text);
    }
  }
}

}  // namespace mpq::serve
