#include "format/read_tables.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "format/checks.h"
#include "format/header.h"
#include "format/text.h"
#include "mpq_generated.h"

namespace mpq::format {
namespace {

constexpr size_t kMaxLabels = 65536;
constexpr uint64_t kHeapFactor = 4;
constexpr uint64_t kHeapSlack = 64U << 10;  // small files may unfold to more
constexpr uint64_t kBlock = 32;             // what a small allocation takes
constexpr uint64_t kChecksPerItem = 32;     // what validation keeps for a tensor or node

static_assert(static_cast<int>(fb::DType::MAX) == kDTypeCount - 1);
static_assert(static_cast<int>(fb::SegmentKind::MAX) == static_cast<int>(SegmentKind::kPrepacked));
static_assert(static_cast<int>(fb::Resize::MAX) ==
              static_cast<int>(ImagePreprocess::Resize::kArea));

template <typename T>
using Tables = flatbuffers::Vector<flatbuffers::Offset<T>>;
using Words = flatbuffers::Vector<uint32_t>;

class TableReader {
 public:
  TableReader(const fb::Model& metadata, uint64_t metadata_size,
              const std::vector<SegmentView>& segments)
      : m_(metadata),
        heap_left_(kHeapFactor * metadata_size + kHeapSlack),
        segments_(segments),
        ends_(segments.size()) {}

  Result<Model> run() {
    MPQ_CHECK(read_text({"model name"}, m_.name_start(), m_.name_size(), &out_.name));
    MPQ_CHECK(read_text({"producer"}, m_.producer_start(), m_.producer_size(), &out_.producer));
    MPQ_CHECK(read_each("tensor", m_.tensors(), &out_.tensors, kChecksPerItem,
                        &TableReader::read_tensor));
    MPQ_CHECK(read_each("node", m_.nodes(), &out_.nodes, kChecksPerItem, &TableReader::read_node));
    MPQ_CHECK(read_ids({"graph inputs"}, m_.inputs(), &out_.inputs));
    MPQ_CHECK(read_ids({"graph outputs"}, m_.outputs(), &out_.outputs));
    MPQ_CHECK(read_map());
    MPQ_CHECK(read_image());
    MPQ_CHECK(read_each("key", m_.key_values(), &out_.metadata, sizeof(uint32_t),
                        &TableReader::read_key_value));
    MPQ_CHECK(read_each("prepacked", m_.prepacked(), &out_.prepacked, sizeof(uint32_t),
                        &TableReader::read_prepacked));
    MPQ_CHECK(read_labels());
    MPQ_CHECK(read_text_preprocess());
    MPQ_CHECK(check_data_ends());
    return std::move(out_);
  }

 private:
  // Before anything is allocated: files whose tables share what they refer to unfold no further.
  Checked take_heap(Place who, uint64_t bytes) {
    MPQ_REQUIRE(kMetadataHeap, bytes <= heap_left_, who, ": ", bytes, " bytes of memory, ",
                heap_left_, " left of ", kHeapFactor, " times the metadata");
    heap_left_ -= std::min(bytes, heap_left_);
    return Ok{};
  }

  // Elements of out are made one by one by `read`, which sees the table and its index.
  template <typename T, typename Out>
  Checked read_each(const char* what, const Tables<T>* tables, std::vector<Out>* out,
                    uint64_t extra, Checked (TableReader::*read)(const T&, Place, Out*)) {
    const size_t count = tables == nullptr ? 0 : tables->size();
    MPQ_CHECK(take_heap({what, count}, count * (sizeof(Out) + extra)));
    out->resize(count);
    for (size_t i = 0; i < count; ++i) {
      const Place who{what, i};
      const auto offset = reinterpret_cast<const flatbuffers::uoffset_t*>(tables->Data())[i];
      MPQ_REQUIRE(kMetadataNullTable, offset != 0, who, ": zero offset");
      const T& table = *tables->Get(static_cast<flatbuffers::uoffset_t>(i));
      MPQ_CHECK((this->*read)(table, who, &(*out)[i]));
    }
    return Ok{};
  }

  template <typename Pool>
  Checked check_range(Place who, const char* name, const Pool* pool, uint64_t start,
                      uint64_t count) {
    const uint64_t size = pool == nullptr ? 0 : pool->size();
    MPQ_REQUIRE(kMetadataRange, count <= size && start <= size - count, who, ": ", count, " of ",
                name, " at ", start, ", there are ", size);
    return Ok{};
  }

  Checked read_text(Place who, uint32_t start, uint32_t size, std::string* text) {
    MPQ_CHECK(check_range(who, "text", m_.text(), start, size));
    MPQ_CHECK(take_heap(who, size > 15 ? size + kBlock : 0));
    if (size != 0) text->assign(reinterpret_cast<const char*>(m_.text()->Data()) + start, size);
    return Ok{};
  }

  template <typename T>
  Checked read_words(Place who, const char* name, const Words* pool, uint32_t start, uint32_t count,
                     std::vector<T>* words) {
    MPQ_CHECK(check_range(who, name, pool, start, count));
    MPQ_CHECK(take_heap(who, std::max(count * sizeof(T) + 8, kBlock)));
    if (count != 0) words->assign(pool->begin() + start, pool->begin() + start + count);
    return Ok{};
  }

  Checked read_ids(Place who, const Words* ids, std::vector<TensorId>* out) {
    return read_words(who, "tensors", ids, 0, ids == nullptr ? 0 : ids->size(), out);
  }

  Checked check_flag(Place who, uint8_t flag, bool* out) {
    MPQ_REQUIRE(kMetadataFlag, flag <= 1, who, ": flag ", flag, " is neither 0 nor 1");
    *out = flag == 1;
    return Ok{};
  }

  // The next data of a segment: data lies in the order of the tables that name it, without holes.
  Checked read_data(Place who, SegmentKind kind, uint64_t offset, uint64_t size,
                    std::span<const std::byte>* data) {
    const auto found = std::ranges::find(segments_, kind, &SegmentView::kind);
    MPQ_REQUIRE(kDataSegment, found != segments_.end(), who, ": the file has no segment of kind ",
                static_cast<int>(kind));
    const std::span<const std::byte> segment = found->data;
    uint64_t& end = ends_[static_cast<size_t>(found - segments_.begin())];
    const uint64_t start = round_up(end, kDataAlignment);
    MPQ_REQUIRE(kDataOffset, offset == start, who, ": data at ", offset, ", not ", start);
    MPQ_REQUIRE(kDataBounds, start <= segment.size() && size <= segment.size() - start, who, ": ",
                size, " bytes at ", start, " of a segment of ", segment.size());
    MPQ_REQUIRE(kDataPadding, all_zero(segment.subspan(end, start - end)), who,
                ": bytes before the data are not 0");
    *data = segment.subspan(start, size);
    end = start + size;
    return Ok{};
  }

  Checked check_data_ends() {
    for (size_t i = 0; i < segments_.size(); ++i)
      MPQ_REQUIRE(kDataEnd, ends_[i] == segments_[i].data.size(), "segment ", i, ": data ends at ",
                  ends_[i], " of ", segments_[i].data.size());
    return Ok{};
  }

  Checked read_tensor(const fb::Tensor& t, Place who, Tensor* out) {
    MPQ_CHECK(read_text(who, t.name_start(), t.name_size(), &out->name));
    MPQ_REQUIRE(kMetadataEnum, t.dtype() <= fb::DType::MAX, who, ": unknown type ",
                static_cast<int>(t.dtype()));
    out->dtype = static_cast<DType>(t.dtype());
    MPQ_CHECK(
        read_words(who, "dimensions", m_.dims(), t.shape_start(), t.shape_count(), &out->shape));
    out->quant = {t.scale(), t.zero_point()};
    MPQ_REQUIRE(kTensorLayout, t.layout() == 0, who, ": unknown layout ", t.layout());
    if (t.data_size() != 0)
      return read_data(who, segment_of(out->dtype), t.data_offset(), t.data_size(), &out->data);
    MPQ_REQUIRE(kDataOffset, t.data_offset() == 0, who, ": no data at offset ", t.data_offset());
    return Ok{};
  }

  Checked read_node(const fb::Node& n, Place who, Node* out) {
    MPQ_CHECK(read_text(who, n.name_start(), n.name_size(), &out->name));
    MPQ_CHECK(read_attributes(n, who, &out->attrs));
    MPQ_CHECK(read_words(who, "operands", m_.operands(), n.inputs_start(), n.inputs_count(),
                         &out->inputs));
    return read_words(who, "operands", m_.operands(), n.outputs_start(), n.outputs_count(),
                      &out->outputs);
  }

  Checked read_map() {
    const fb::PrecisionMap* map = m_.map();
    const bool parts = m_.map_layers() != nullptr || m_.map_groups() != nullptr;
    MPQ_REQUIRE(kMetadataMissing, map != nullptr || !parts,
                "layers or groups without a precision map");
    if (map == nullptr) return Ok{};
    PrecisionMap& out = out_.map;
    MPQ_CHECK(read_text({"map method"}, map->method_start(), map->method_size(), &out.method));
    MPQ_CHECK(read_text({"map cost model"}, map->cost_model_start(), map->cost_model_size(),
                        &out.cost_model));
    MPQ_CHECK(read_text({"map solver"}, map->solver_start(), map->solver_size(), &out.solver));
    MPQ_CHECK(read_text({"map checkpoint"}, map->checkpoint_start(), map->checkpoint_size(),
                        &out.checkpoint));
    MPQ_CHECK(
        read_text({"map source"}, map->source_start(), map->source_size(), &out.source_sha256));
    out.budget = map->budget();
    out.value = map->value();
    out.bound = map->bound();
    out.seed = map->seed();
    MPQ_CHECK(
        read_each("map group", m_.map_groups(), &out.groups, 0, &TableReader::read_map_group));
    return read_each("map layer", m_.map_layers(), &out.layers, 0, &TableReader::read_map_layer);
  }

  Checked read_map_group(const fb::MapGroup& g, Place who, MapGroup* out) {
    *out = {g.gain(), g.gain_stderr(), g.cost_high(), g.cost_low(), false};
    return check_flag(who, g.fixed(), &out->fixed);
  }

  Checked read_map_layer(const fb::MapLayer& l, Place who, MapLayer* out) {
    MPQ_REQUIRE(kMetadataRange, l.node() < out_.nodes.size(), who, ": node ", l.node(), " of ",
                out_.nodes.size());
    const std::string& name = out_.nodes[l.node()].name;
    MPQ_CHECK(take_heap(who, name.size() > 15 ? name.size() + kBlock : 0));
    *out = {name, l.weight_bits(), l.activation_bits(), l.group(), {}};
    return read_text(who, l.part_start(), l.part_size(), &out->part);
  }

  Checked read_image() {
    const fb::ImagePreprocess* image = m_.image();
    out_.has_image_preprocess = image != nullptr;
    if (image == nullptr) return Ok{};
    MPQ_REQUIRE(kMetadataEnum, image->resize() <= fb::Resize::MAX, "image: unknown resize ",
                static_cast<int>(image->resize()));
    ImagePreprocess& out = out_.image;
    out.resize = static_cast<ImagePreprocess::Resize>(image->resize());
    out.resize_shorter = image->resize_shorter();
    out.crop_h = image->crop_h();
    out.crop_w = image->crop_w();
    out.mean = {image->mean_r(), image->mean_g(), image->mean_b()};
    out.stddev = {image->stddev_r(), image->stddev_g(), image->stddev_b()};
    return check_flag({"image"}, image->crop_only_small(), &out.crop_only_small);
  }

  Checked read_key_value(const fb::KeyValue& kv, Place who,
                         std::pair<std::string, std::string>* out) {
    MPQ_CHECK(read_text(who, kv.key_start(), kv.key_size(), &out->first));
    return read_text(who, kv.value_start(), kv.value_size(), &out->second);
  }

  Checked read_prepacked(const fb::Prepacked& p, Place who, Prepacked* out) {
    out->node = p.node();
    MPQ_CHECK(read_text(who, p.layout_start(), p.layout_size(), &out->layout));
    return read_data(who, SegmentKind::kPrepacked, p.data_offset(), p.data_size(), &out->data);
  }

  // Labels are lines; their memory is bounded by their number and the segment.
  Checked read_labels() {
    const auto found = std::ranges::find(segments_, SegmentKind::kLabels, &SegmentView::kind);
    if (found == segments_.end()) return Ok{};
    const std::span<const std::byte> text = found->data;
    ends_[static_cast<size_t>(found - segments_.begin())] = text.size();
    constexpr std::byte kLine{'\n'};
    MPQ_REQUIRE(kLabelEnd, !text.empty() && text.back() == kLine,
                "labels: the last one has no line feed");
    const auto count = std::ranges::count(text, kLine);
    MPQ_REQUIRE(kLabelCount, static_cast<size_t>(count) <= kMaxLabels, count, " labels, at most ",
                kMaxLabels);
    out_.labels.reserve(static_cast<size_t>(count));
    for (auto begin = text.begin(); begin != text.end();) {
      const auto end = std::find(begin, text.end(), kLine);
      out_.labels.emplace_back(reinterpret_cast<const char*>(&*begin), end - begin);
      begin = end == text.end() ? end : end + 1;
    }
    return Ok{};
  }

  Checked read_text_preprocess() {
    out_.sequence_length = m_.sequence_length();
    const auto found = std::ranges::find(segments_, SegmentKind::kVocabulary, &SegmentView::kind);
    if (found != segments_.end()) {
      out_.vocabulary = found->data;
      ends_[static_cast<size_t>(found - segments_.begin())] = found->data.size();
    }
    const fb::TextPreprocess* text = m_.text_preprocess();
    out_.has_text_preprocess = text != nullptr;
    if (text == nullptr) return Ok{};
    TextPreprocess& out = out_.text;
    MPQ_CHECK(check_flag({"text"}, text->clean_text(), &out.clean_text));
    MPQ_CHECK(check_flag({"text"}, text->split_chinese(), &out.split_chinese));
    MPQ_CHECK(check_flag({"text"}, text->strip_accents(), &out.strip_accents));
    MPQ_CHECK(check_flag({"text"}, text->lowercase(), &out.lowercase));
    out.unknown = text->unknown();
    out.begin = text->begin();
    out.separator = text->separator();
    out.padding = text->padding();
    out.mask = text->mask();
    out.pair_separators = text->pair_separators();
    return Ok{};
  }

  const fb::Model& m_;
  uint64_t heap_left_;
  const std::vector<SegmentView>& segments_;
  std::vector<uint64_t> ends_;  // of the data read so far, by segment
  Model out_;
};

}  // namespace

void append(std::string& to, const Place& place) {
  to += place.what;
  if (place.index != Place::kOnly) to += concat(" ", place.index);
}

Checked check_version(const fb::Model& metadata) {
  MPQ_REQUIRE(kMetadataVersion, metadata.minimum_minor() <= kMinorVersion, "written for format 1.",
              metadata.minimum_minor(), " or newer, this reader knows 1.", kMinorVersion);
  MPQ_REQUIRE(kMetadataRequantMode, metadata.requant_mode() == fb::RequantMode::FmaHalfEven,
              "unknown requantisation ", static_cast<int>(metadata.requant_mode()));
  return Ok{};
}

bool all_zero(std::span<const std::byte> bytes) {
  // The first is 0 and each equals the one before it.
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Result<Model> read_tables(const fb::Model& metadata, uint64_t metadata_size,
                          const std::vector<SegmentView>& segments) {
  return TableReader(metadata, metadata_size, segments).run();
}

}  // namespace mpq::format
