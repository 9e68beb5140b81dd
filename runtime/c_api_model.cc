// The C API of models: unwrap, look up, convert.

#include <cstdio>

#include "format/sha256.h"
#include "runtime/c_api.h"
#include "runtime/graph_info.h"
#include "runtime/isa_choice.h"
#include "runtime/prepack.h"

namespace mpq::runtime {

Result<mpq_tensor_info> tensor_info(const format::Model& model, format::TensorId id,
                                    uint32_t batch) {
  const format::Tensor& t = model.tensors[id];
  MPQ_TRY(const Dims dims, dims_of(model, id, batch));
  mpq_tensor_info info;
  MPQ_INIT(&info);
  info.dtype = static_cast<uint32_t>(t.dtype);
  info.name = t.name.c_str();
  info.rank = static_cast<uint32_t>(std::min<size_t>(t.shape.size(), MPQ_MAX_RANK));
  info.scale = t.quant.scale;
  info.zero_point = t.quant.zero_point;
  std::copy_n(t.shape.begin(), info.rank, info.shape);
  info.shape[0] *= batch;
  info.elements = dims.elements();
  info.bytes = info.elements * (is_code(t.dtype) ? 1 : 4);
  return info;
}

namespace {

using ModelPtr = std::shared_ptr<const Model>;

Result<File> load(const char* path, const mpq_model_options& options, uint64_t limit) {
  return options.map_file != 0 ? File::map(path, limit) : File::read(path, limit);
}

Result<File> load(std::span<const std::byte> bytes) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment == 0) return File::borrow(bytes);
  return File::copy(bytes);
}

constexpr uint64_t kDefaultFileLimit = uint64_t{4} << 30;

Checked check(const mpq_model_options& o) {
  if (o.skip_segment_digests > 1 || o.map_file > 1 || o.reserved != 0)
    return invalid("model options: skip_segment_digests and map_file are 0 or 1, reserved is 0");
  return Ok{};
}

Checked open(File file, const mpq_model_options& o, uint64_t limit, mpq_model** handle) {
  MPQ_TRY(ModelPtr model,
          Model::open(std::move(file),
                      {.verify_segments = o.skip_segment_digests == 0, .max_file_bytes = limit}));
  *handle = reinterpret_cast<mpq_model*>(models().add(std::move(model)));
  return Ok{};
}

mpq_status graph_tensor_info(const mpq_model* handle, size_t index, mpq_tensor_info* info,
                             const char* what, std::vector<format::TensorId> format::Model::*list) {
  return with_model(handle, [&](const ModelPtr& model) -> Checked {
    MPQ_CHECK(check_info(info));
    const auto& ids = model->graph().*list;
    if (index >= ids.size()) return out_of_range(what, index, ids.size());
    MPQ_TRY(const mpq_tensor_info value, tensor_info(model->graph(), ids[index], 1));
    write_info(value, info);
    return Ok{};
  });
}

mpq_status find_tensor(const mpq_model* handle, const char* name, size_t* index,
                       std::vector<format::TensorId> format::Model::*list) {
  return with_model(handle, [&](const ModelPtr& model) -> Checked {
    if (name == nullptr || index == nullptr) return invalid("NULL argument");
    const auto& ids = model->graph().*list;
    for (size_t i = 0; i < ids.size(); ++i)
      if (model->graph().tensors[ids[i]].name == name) {
        *index = i;
        return Ok{};
      }
    return Error{Status::kNotFound, "no tensor of that name"};
  });
}

}  // namespace
}  // namespace mpq::runtime

using namespace mpq;           // NOLINT(google-build-using-namespace)
using namespace mpq::runtime;  // NOLINT(google-build-using-namespace)

extern "C" {

mpq_status mpq_model_open(const char* path, const mpq_model_options* options, mpq_model** model) {
  return guard([&]() -> Checked {
    if (path == nullptr || model == nullptr) return invalid("mpq_model_open: NULL argument");
    MPQ_TRY(const mpq_model_options o, read_options(options, "model options"));
    MPQ_CHECK(check(o));
    const uint64_t limit = o.max_file_bytes != 0 ? o.max_file_bytes : kDefaultFileLimit;
    MPQ_TRY(File file, load(path, o, limit));
    const Checked opened = open(std::move(file), o, limit, model);
    if (!opened.ok())
      return Error{opened.error().code, std::string(path) + ": " + opened.error().message};
    return Ok{};
  });
}

mpq_status mpq_model_open_memory(const void* data, size_t bytes, const mpq_model_options* options,
                                 mpq_model** model) {
  return guard([&]() -> Checked {
    if (data == nullptr || model == nullptr) return invalid("mpq_model_open_memory: NULL argument");
    MPQ_TRY(const mpq_model_options o, read_options(options, "model options"));
    MPQ_CHECK(check(o));
    const uint64_t limit = o.max_file_bytes != 0 ? o.max_file_bytes : kDefaultFileLimit;
    if (bytes > limit)
      return Error{Status::kLimit, "model in memory: " + std::to_string(bytes) + " bytes, limit " +
                                       std::to_string(limit)};
    MPQ_TRY(File file, load({static_cast<const std::byte*>(data), bytes}));
    return open(std::move(file), o, limit, model);
  });
}

void mpq_model_close(mpq_model* model) {
  guard([&]() -> Checked {
    models().remove(reinterpret_cast<uintptr_t>(model));
    return Ok{};
  });
}

const char* mpq_model_name(const mpq_model* model) {
  return model_value<const char*>(model, nullptr,
                                  [](const Model& m) { return m.graph().name.c_str(); });
}

const char* mpq_model_producer(const mpq_model* model) {
  return model_value<const char*>(model, nullptr,
                                  [](const Model& m) { return m.graph().producer.c_str(); });
}

uint64_t mpq_model_bytes(const mpq_model* model) {
  return model_value<uint64_t>(model, 0, [](const Model& m) { return m.bytes().size(); });
}

mpq_status mpq_model_sha256(const mpq_model* model, char hex[65]) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    if (hex == nullptr) return invalid("mpq_model_sha256: NULL argument");
    std::snprintf(hex, 65, "%s", format::to_hex(format::sha256(m->bytes())).c_str());
    return Ok{};
  });
}

size_t mpq_model_input_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().inputs.size(); });
}

size_t mpq_model_output_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().outputs.size(); });
}

mpq_status mpq_model_input_info(const mpq_model* model, size_t index, mpq_tensor_info* info) {
  return graph_tensor_info(model, index, info, "input", &format::Model::inputs);
}

mpq_status mpq_model_output_info(const mpq_model* model, size_t index, mpq_tensor_info* info) {
  return graph_tensor_info(model, index, info, "output", &format::Model::outputs);
}

mpq_status mpq_model_find_input(const mpq_model* model, const char* name, size_t* index) {
  return find_tensor(model, name, index, &format::Model::inputs);
}

mpq_status mpq_model_find_output(const mpq_model* model, const char* name, size_t* index) {
  return find_tensor(model, name, index, &format::Model::outputs);
}

uint32_t mpq_model_sequence_length(const mpq_model* model) {
  return model_value<uint32_t>(model, 0, [](const Model& m) { return m.graph().sequence_length; });
}

uint32_t mpq_model_vocabulary_size(const mpq_model* model) {
  return model_value<uint32_t>(model, 0, [](const Model& m) -> uint32_t {
    const format::Node* const embedding = format::embedding_of(m.graph());
    if (embedding == nullptr) return 0;
    const format::Tensor& words = m.graph().tensors[embedding->inputs[format::kWords]];
    return static_cast<uint32_t>(words.shape[0]);
  });
}

int mpq_model_takes_text(const mpq_model* model) {
  return model_value<int>(model, 0,
                          [](const Model& m) { return m.graph().has_text_preprocess ? 1 : 0; });
}

mpq_status mpq_model_tokenize(const mpq_model* handle, const char* text, size_t text_bytes,
                              const char* pair, size_t pair_bytes, uint32_t max_tokens,
                              mpq_token* tokens, size_t capacity, size_t* count, size_t* cut) {
  return with_model(handle, [&](const ModelPtr& model) -> Checked {
    if (text == nullptr || count == nullptr || (tokens == nullptr && capacity != 0))
      return invalid("mpq_model_tokenize: NULL argument");
    MPQ_TRY(const text::Tokenizer* const tokenizer, model->tokenizer());
    const uint32_t longest = model->graph().sequence_length;
    if (max_tokens > longest)
      return Error{Status::kInvalidArgument, "mpq_model_tokenize: " + std::to_string(max_tokens) +
                                                 " tokens; the model takes " +
                                                 std::to_string(longest)};
    const size_t limit = max_tokens == 0 ? longest : max_tokens;
    const text::Encoding encoding =
        pair == nullptr ? tokenizer->encode({text, text_bytes}, limit)
                        : tokenizer->encode({text, text_bytes}, {pair, pair_bytes}, limit);
    *count = encoding.ids.size();
    if (cut != nullptr) *cut = encoding.cut;
    for (size_t i = 0; i < std::min(capacity, encoding.ids.size()); ++i)
      tokens[i] = {encoding.ids[i], encoding.types[i], encoding.sources[i],
                   encoding.places[i].begin, encoding.places[i].end};
    return Ok{};
  });
}

const char* mpq_model_token(const mpq_model* model, uint32_t id) {
  return model_value<const char*>(model, nullptr, [&](const Model& m) -> const char* {
    const auto tokenizer = m.tokenizer();
    if (!tokenizer.ok() || id >= (*tokenizer)->vocabulary_size()) return nullptr;
    return (*tokenizer)->token(id).c_str();
  });
}

size_t mpq_model_label_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().labels.size(); });
}

const char* mpq_model_label(const mpq_model* model, size_t index) {
  return model_value<const char*>(model, nullptr, [&](const Model& m) {
    return index < m.graph().labels.size() ? m.graph().labels[index].c_str() : nullptr;
  });
}

size_t mpq_model_metadata_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().metadata.size(); });
}

const char* mpq_model_metadata_key(const mpq_model* model, size_t index) {
  return model_value<const char*>(model, nullptr, [&](const Model& m) {
    return index < m.graph().metadata.size() ? m.graph().metadata[index].first.c_str() : nullptr;
  });
}

const char* mpq_model_metadata_value(const mpq_model* model, size_t index) {
  return model_value<const char*>(model, nullptr, [&](const Model& m) {
    return index < m.graph().metadata.size() ? m.graph().metadata[index].second.c_str() : nullptr;
  });
}

const char* mpq_model_metadata_find(const mpq_model* model, const char* key) {
  return model_value<const char*>(model, nullptr, [&](const Model& m) -> const char* {
    if (key == nullptr) return nullptr;
    for (const auto& [name, value] : m.graph().metadata)
      if (name == key) return value.c_str();
    return nullptr;
  });
}

mpq_status mpq_model_image_preprocess(const mpq_model* model, mpq_image_preprocess* preprocess) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    MPQ_CHECK(check_info(preprocess));
    if (!m->graph().has_image_preprocess)
      return Error{Status::kNotFound, "the model has no image preprocessing"};
    const format::ImagePreprocess& image = m->graph().image;
    mpq_image_preprocess value;
    MPQ_INIT(&value);
    value.resize = static_cast<uint32_t>(image.resize);
    value.resize_shorter = image.resize_shorter;
    value.crop_only_small = image.crop_only_small ? 1 : 0;
    value.crop_h = image.crop_h;
    value.crop_w = image.crop_w;
    std::copy_n(image.mean.begin(), 3, value.mean);
    std::copy_n(image.stddev.begin(), 3, value.stddev);
    write_info(value, preprocess);
    return Ok{};
  });
}

size_t mpq_model_node_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().nodes.size(); });
}

mpq_status mpq_model_node_info(const mpq_model* model, size_t index, mpq_node_info* info) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    MPQ_CHECK(check_info(info));
    const format::Model& graph = m->graph();
    if (index >= graph.nodes.size()) return out_of_range("node", index, graph.nodes.size());
    const format::Node& node = graph.nodes[index];
    const format::Tensor& x = graph.tensors[node.inputs[0]];
    const format::Tensor& y = graph.tensors[node.outputs[0]];
    mpq_node_info value;
    MPQ_INIT(&value);
    value.name = node.name.c_str();
    value.op = to_string(node.op());
    value.input_bits = static_cast<uint32_t>(bits_of(x.dtype));
    value.weight_bits = weight_bits(graph, node);
    value.output_bits = static_cast<uint32_t>(bits_of(y.dtype));
    value.rank = static_cast<uint32_t>(std::min<size_t>(y.shape.size(), MPQ_MAX_RANK));
    std::copy_n(y.shape.begin(), value.rank, value.shape);
    value.weights = weight_count(graph, node);
    value.macs = node_macs(graph, node);
    value.output = y.name.c_str();
    write_info(value, info);
    return Ok{};
  });
}

mpq_status mpq_model_precision_map(const mpq_model* model, mpq_precision_map* map) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    MPQ_CHECK(check_info(map));
    const format::PrecisionMap& source = m->graph().map;
    if (source.layers.empty()) return Error{Status::kNotFound, "the model has no precision map"};
    mpq_precision_map value;
    MPQ_INIT(&value);
    value.method = source.method.c_str();
    value.cost_model = source.cost_model.c_str();
    value.solver = source.solver.c_str();
    value.checkpoint = source.checkpoint.c_str();
    value.source_sha256 = source.source_sha256.c_str();
    value.budget = source.budget;
    value.value = source.value;
    value.bound = source.bound;
    value.seed = source.seed;
    value.layer_count = source.layers.size();
    value.group_count = source.groups.size();
    write_info(value, map);
    return Ok{};
  });
}

mpq_status mpq_model_precision_layer(const mpq_model* model, size_t index,
                                     mpq_precision_layer* layer) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    MPQ_CHECK(check_info(layer));
    const format::PrecisionMap& map = m->graph().map;
    if (index >= map.layers.size()) return out_of_range("map layer", index, map.layers.size());
    const format::MapLayer& source = map.layers[index];
    mpq_precision_layer value;
    MPQ_INIT(&value);
    value.node = source.node.c_str();
    value.weight_bits = source.weight_bits;
    value.activation_bits = source.activation_bits;
    value.group = source.group;
    if (source.group < map.groups.size()) {
      const format::MapGroup& group = map.groups[source.group];
      value.fixed = group.fixed ? 1 : 0;
      value.gain = group.gain;
      value.gain_stderr = group.gain_stderr;
      value.cost_high = group.cost_high;
      value.cost_low = group.cost_low;
    }
    write_info(value, layer);
    return Ok{};
  });
}

size_t mpq_model_prepacked_count(const mpq_model* model) {
  return model_value<size_t>(model, 0, [](const Model& m) { return m.graph().prepacked.size(); });
}

mpq_status mpq_model_prepacked_info(const mpq_model* model, size_t index,
                                    mpq_prepacked_info* info) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    MPQ_CHECK(check_info(info));
    const auto& segments = m->graph().prepacked;
    if (index >= segments.size()) return out_of_range("prepacked", index, segments.size());
    mpq_prepacked_info value;
    MPQ_INIT(&value);
    value.node = segments[index].node;
    value.layout = segments[index].layout.c_str();
    value.bytes = segments[index].data.size();
    write_info(value, info);
    return Ok{};
  });
}

mpq_status mpq_model_prepack(const mpq_model* model, const char* isa, mpq_take_fn take,
                             void* user) {
  return with_model(model, [&](const ModelPtr& m) -> Checked {
    if (isa == nullptr || take == nullptr) return invalid("mpq_model_prepack: NULL argument");
    MPQ_TRY(const kernels::IsaMask mask, isa_of("mpq_model_prepack", isa));
    MPQ_TRY(const std::vector<std::byte> file, prepack(m->graph(), mask));
    take(user, file.data(), file.size());
    return Ok{};
  });
}

}  // extern "C"
