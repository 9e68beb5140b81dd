#include "format/writer.h"

#include <algorithm>
#include <cstring>

#include "format/aligned.h"
#include "format/header.h"
#include "format/reader.h"
#include "format/serialize.h"
#include "format/text.h"
#include "format/validate.h"
#include "mpq_generated.h"

namespace mpq::format {
namespace {

using flatbuffers::Offset;
using flatbuffers::uoffset_t;

struct Range {
  uint32_t start, count;
};

// The least minor version whose readers understand the model: older readers get what they know.
uint32_t needed_minor(const Model& model) {
  const bool sequences =
      model.sequence_length != 0 || model.has_text_preprocess || !model.vocabulary.empty();
  const auto is_new = [](const Node& node) {
    const Requant* requant = requant_of(node.attrs);
    return node.op() > OpCode::kAdd ||
           (requant != nullptr && requant->activation != Activation::kNone);
  };
  const auto is_part = [](const MapLayer& layer) { return !layer.part.empty(); };
  return sequences || std::ranges::any_of(model.nodes, is_new) ||
                 std::ranges::any_of(model.map.layers, is_part)
             ? 1
             : 0;
}

// The flat pools of the root.
struct Pools {
  std::vector<uint8_t> text;
  std::vector<uint32_t> dims, operands;

  Range add_text(const std::string& s) { return add(&text, s); }
  template <typename T, typename Items>
  static Range add(std::vector<T>* pool, const Items& items) {
    const auto start = static_cast<uint32_t>(pool->size());
    for (const auto& item : items) pool->push_back(static_cast<T>(item));
    return {start, static_cast<uint32_t>(items.size())};
  }
};

// The segments of a file, in order of their kind, as they grow.
struct Segments {
  std::array<std::vector<std::byte>, 5> bytes;  // by kind

  uint64_t add(SegmentKind kind, std::span<const std::byte> data) {
    std::vector<std::byte>& segment = bytes[static_cast<size_t>(kind)];
    const uint64_t offset = round_up(segment.size(), kDataAlignment);
    segment.resize(offset);
    segment.insert(segment.end(), data.begin(), data.end());
    return offset;
  }
};

class Serializer {
 public:
  explicit Serializer(const Model& model) : model_(model) {}

  std::vector<std::byte> run();

 private:
  // Absent rather than empty, as all vectors of tables.
  template <typename Items, typename Make>
  auto each(const Items& items, Make make) {
    std::vector<decltype(make(items[0]))> offsets;
    for (const auto& item : items) offsets.push_back(make(item));
    using Vector = decltype(b_.CreateVector(offsets));
    return offsets.empty() ? Vector() : b_.CreateVector(offsets);
  }

  Offset<fb::Tensor> tensor(const Tensor& t) {
    const Range name = pools_.add_text(t.name), shape = Pools::add(&pools_.dims, t.shape);
    const uint64_t offset = t.is_constant() ? segments_.add(segment_of(t.dtype), t.data) : 0;
    return fb::CreateTensor(b_, name.start, name.count, static_cast<fb::DType>(t.dtype),
                            shape.start, shape.count, t.quant.scale, t.quant.zero_point, offset,
                            t.data.size(), 0);
  }

  Offset<fb::Node> node(const Node& n) {
    const Range name = pools_.add_text(n.name);
    const Range in = Pools::add(&pools_.operands, n.inputs),
                out = Pools::add(&pools_.operands, n.outputs);
    const Offset<void> attributes =
        std::visit([&](const auto& a) { return this->attrs(a).Union(); }, n.attrs);
    const auto type = static_cast<fb::Attributes>(static_cast<int>(n.op()) + 1);
    return fb::CreateNode(b_, name.start, name.count, type, attributes, in.start, in.count,
                          out.start, out.count);
  }

  Offset<fb::Requant> requant(const Requant& r) {
    return fb::CreateRequant(b_, r.lo, r.hi, r.residual_scale, r.residual_shift, r.second_scale,
                             r.second_bias, r.second_lo, r.second_hi,
                             static_cast<fb::Activation>(r.activation), r.activation_scale,
                             r.activation_bias);
  }
  Offset<fb::ImageQuantize> attrs(const ImageQuantizeAttrs&) { return fb::CreateImageQuantize(b_); }
  Offset<fb::Quantize> attrs(const QuantizeAttrs&) { return fb::CreateQuantize(b_); }
  Offset<fb::Conv2d> attrs(const Conv2dAttrs& a) {
    return fb::CreateConv2d(b_, a.stride_h, a.stride_w, a.pad_top, a.pad_left, a.pad_bottom,
                            a.pad_right, a.dilation_h, a.dilation_w, a.groups, requant(a.requant));
  }
  Offset<fb::Linear> attrs(const LinearAttrs& a) {
    return fb::CreateLinear(b_, requant(a.requant));
  }
  Offset<fb::MaxPool> attrs(const MaxPoolAttrs& a) {
    return fb::CreateMaxPool(b_, a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top,
                             a.pad_left, a.pad_bottom, a.pad_right);
  }
  Offset<fb::AvgPool> attrs(const AvgPoolAttrs& a) {
    return fb::CreateAvgPool(b_, a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.multiplier,
                             a.bias, a.lo, a.hi);
  }
  Offset<fb::Add> attrs(const AddAttrs& a) {
    return fb::CreateAdd(b_, a.scale_a, a.scale_b, a.bias, a.lo, a.hi, a.second_scale,
                         a.second_bias, a.second_lo, a.second_hi);
  }

  Offset<fb::Embedding> attrs(const EmbeddingAttrs& a) {
    return fb::CreateEmbedding(b_, a.position_offset);
  }
  Offset<fb::LayerNorm> attrs(const LayerNormAttrs& a) {
    return fb::CreateLayerNorm(b_, a.epsilon, a.second_scale, a.second_bias, a.second_lo,
                               a.second_hi);
  }
  Offset<fb::Attention> attrs(const AttentionAttrs& a) {
    return fb::CreateAttention(b_, a.heads, a.out_bias, a.lo, a.hi);
  }
  Offset<fb::SequencePool> attrs(const SequencePoolAttrs& a) {
    return fb::CreateSequencePool(b_, static_cast<fb::SequencePoolMode>(a.mode), a.normalise);
  }

  static bool is_empty(const PrecisionMap& map) {
    return map.layers.empty() && map.groups.empty() && map.method.empty() &&
           map.cost_model.empty() && map.solver.empty() && map.checkpoint.empty() &&
           map.source_sha256.empty();
  }

  Offset<fb::PrecisionMap> precision_map(const PrecisionMap& map) {
    const Range method = pools_.add_text(map.method), cost = pools_.add_text(map.cost_model);
    const Range solver = pools_.add_text(map.solver), checkpoint = pools_.add_text(map.checkpoint);
    const Range source = pools_.add_text(map.source_sha256);
    return fb::CreatePrecisionMap(b_, method.start, method.count, cost.start, cost.count,
                                  solver.start, solver.count, checkpoint.start, checkpoint.count,
                                  source.start, source.count, map.budget, map.value, map.bound,
                                  map.seed);
  }

  // Of a node that exists in a valid model; one past the last otherwise, which no reader accepts.
  uint32_t node_index(const std::string& name) {
    if (index_.empty()) {
      for (uint32_t i = 0; i < model_.nodes.size(); ++i)
        index_.emplace_back(model_.nodes[i].name, i);
      std::ranges::sort(index_);
    }
    const auto found =
        std::ranges::lower_bound(index_, name, {}, &std::pair<std::string, uint32_t>::first);
    const bool exists = found != index_.end() && found->first == name;
    return exists ? found->second : static_cast<uint32_t>(model_.nodes.size());
  }

  Offset<fb::ImagePreprocess> preprocess(const ImagePreprocess& i) {
    return fb::CreateImagePreprocess(b_, static_cast<fb::Resize>(i.resize), i.resize_shorter,
                                     i.crop_only_small, i.crop_h, i.crop_w, i.mean[0], i.mean[1],
                                     i.mean[2], i.stddev[0], i.stddev[1], i.stddev[2]);
  }

  Offset<fb::TextPreprocess> preprocess(const TextPreprocess& t) {
    return fb::CreateTextPreprocess(b_, t.clean_text, t.split_chinese, t.strip_accents, t.lowercase,
                                    t.unknown, t.begin, t.separator, t.padding, t.mask,
                                    t.pair_separators);
  }

  Offset<flatbuffers::Vector<Offset<fb::Segment>>> segment_table(std::vector<uint8_t>* digests) {
    std::vector<Offset<fb::Segment>> table;
    uint64_t end = 0;
    for (size_t kind = 0; kind < segments_.bytes.size(); ++kind) {
      const std::vector<std::byte>& bytes = segments_.bytes[kind];
      if (bytes.empty()) continue;
      const uint64_t offset = round_up(end, kSegmentAlignment);
      table.push_back(
          fb::CreateSegment(b_, static_cast<fb::SegmentKind>(kind), offset, bytes.size()));
      for (const std::byte b : sha256(bytes)) digests->push_back(std::to_integer<uint8_t>(b));
      end = offset + bytes.size();
    }
    return b_.CreateVector(table);
  }

  const Model& model_;
  flatbuffers::FlatBufferBuilder b_;
  Pools pools_;
  Segments segments_;
  std::vector<std::pair<std::string, uint32_t>> index_;  // node names
};

std::vector<std::byte> Serializer::run() {
  const Range name = pools_.add_text(model_.name), producer = pools_.add_text(model_.producer);
  const auto tensors = each(model_.tensors, [&](const Tensor& t) { return tensor(t); });
  const auto nodes = each(model_.nodes, [&](const Node& n) { return node(n); });
  Offset<fb::PrecisionMap> map;
  Offset<flatbuffers::Vector<Offset<fb::MapLayer>>> layers;
  Offset<flatbuffers::Vector<Offset<fb::MapGroup>>> groups;
  if (!is_empty(model_.map)) {
    map = precision_map(model_.map);
    layers = each(model_.map.layers, [&](const MapLayer& l) {
      const Range part = pools_.add_text(l.part);  // none leaves the defaults, as in 1.0
      return fb::CreateMapLayer(b_, node_index(l.node), l.weight_bits, l.activation_bits, l.group,
                                l.part.empty() ? 0 : part.start, part.count);
    });
    groups = each(model_.map.groups, [&](const MapGroup& g) {
      return fb::CreateMapGroup(b_, g.gain, g.gain_stderr, g.cost_high, g.cost_low, g.fixed);
    });
  }
  const Offset<fb::ImagePreprocess> image =
      model_.has_image_preprocess ? preprocess(model_.image) : Offset<fb::ImagePreprocess>();
  const auto key_values = each(model_.metadata, [&](const auto& kv) {
    const Range k = pools_.add_text(kv.first), v = pools_.add_text(kv.second);
    return fb::CreateKeyValue(b_, k.start, k.count, v.start, v.count);
  });
  const auto prepacked = each(model_.prepacked, [&](const Prepacked& p) {
    const Range layout = pools_.add_text(p.layout);
    return fb::CreatePrepacked(b_, p.node, layout.start, layout.count,
                               segments_.add(SegmentKind::kPrepacked, p.data), p.data.size());
  });
  const Offset<fb::TextPreprocess> text_preprocess =
      model_.has_text_preprocess ? preprocess(model_.text) : Offset<fb::TextPreprocess>();
  segments_.add(SegmentKind::kVocabulary, model_.vocabulary);
  std::string labels;
  for (const std::string& label : model_.labels) labels += label + '\n';
  segments_.add(SegmentKind::kLabels, std::as_bytes(std::span(labels)));

  std::vector<uint8_t> digests;
  const auto segments = segment_table(&digests);
  const auto digest_vector = b_.CreateVector(digests);
  const auto text = b_.CreateVector(pools_.text);
  const auto dims = b_.CreateVector(pools_.dims);
  const auto operands = b_.CreateVector(pools_.operands);
  const auto inputs = b_.CreateVector(model_.inputs), outputs = b_.CreateVector(model_.outputs);
  const uint32_t minor = needed_minor(model_);
  b_.Finish(fb::CreateModel(b_, minor, minor, fb::RequantMode::FmaHalfEven, text, dims, operands,
                            name.start, name.count, producer.start, producer.count, tensors, nodes,
                            inputs, outputs, map, layers, groups, image, key_values, segments,
                            digest_vector, prepacked, model_.sequence_length, text_preprocess),
            fb::ModelIdentifier());
  return assemble({b_.GetBufferPointer(), b_.GetSize()}, segments_.bytes);
}

}  // namespace

std::vector<std::byte> assemble(std::span<const uint8_t> flatbuffer,
                                std::span<const std::vector<std::byte>> segments) {
  // The header goes between the identifier and the tables: all offsets but the root's are relative.
  constexpr size_t kInserted = sizeof(Header) - 8;
  static_assert(kInserted % 8 == 0, "keeps the alignment of the tables");
  const uint64_t metadata_size = flatbuffer.size() + kInserted;
  std::vector<std::byte> file(metadata_size);
  std::memcpy(file.data() + sizeof(Header), flatbuffer.data() + 8, flatbuffer.size() - 8);
  for (const std::vector<std::byte>& bytes : segments) {
    if (bytes.empty()) continue;
    file.resize(round_up(file.size(), kSegmentAlignment));
    file.insert(file.end(), bytes.begin(), bytes.end());
  }
  Header header{};
  std::memcpy(&header, flatbuffer.data(), 8);
  header.root += static_cast<uint32_t>(kInserted);
  std::memcpy(header.magic, "mh01", 4);
  header.header_size = sizeof(Header);
  header.metadata_size = metadata_size;
  header.file_size = file.size();
  header.segment_base =
      file.size() == metadata_size ? metadata_size : round_up(metadata_size, kSegmentAlignment);
  std::memcpy(file.data(), &header, sizeof header);
  seal(file);
  return file;
}

void seal(std::span<std::byte> file) {
  const Header header = read_header(file);
  const Digest digest =
      metadata_digest(std::span<const std::byte>(file).first(header.metadata_size));
  std::memcpy(file.data() + kDigestOffset, digest.data(), digest.size());
}

std::vector<std::byte> serialize(const Model& model) { return Serializer(model).run(); }

Result<std::vector<std::byte>> write(const Model& model) {
  MPQ_CHECK(validate(model));
  std::vector<std::byte> file = serialize(model);
  const AlignedBytes copy{std::span<const std::byte>(file)};
  const Result<Model> back = read(copy.bytes());
  if (!back.ok())
    return Error{back.error().code,
                 "not written, for it could not be read back: " + back.error().message};
  return file;
}

}  // namespace mpq::format
