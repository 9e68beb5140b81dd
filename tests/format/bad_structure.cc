// Bad files below the meaning: header, FlatBuffer, segments.
#include "tests/format/bad_lists.h"
#include "tests/format/parts.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;
using Bytes = std::vector<std::byte>;

Bytes conv_bytes() { return serialize(tiny_conv_net().model); }

File file_of(const Bytes& bytes) {
  return {AlignedBytes(std::span<const std::byte>(bytes)), 0, {}};
}

// Changes bytes of a good file; the digest of the metadata is made right again.
std::function<File()> poked(std::function<void(Bytes&)> change, bool resealed = true) {
  return [=] {
    Bytes bytes = conv_bytes();
    change(bytes);
    if (resealed) seal(bytes);
    return file_of(bytes);
  };
}

template <typename T>
std::function<File()> header_field(size_t offset, T value, bool resealed = true) {
  return poked([=](Bytes& b) { poke(b, offset, value); }, resealed);
}

// Changes parts of a good file and puts them together again.
std::function<File()> rebuilt(std::function<void(Parts&)> change, bool refreshed = false) {
  return [=] {
    Parts parts(conv_bytes());
    change(parts);
    if (refreshed) parts.refresh();
    return file_of(parts.join());
  };
}

size_t position(const Bytes& bytes, const void* p) {
  return static_cast<size_t>(static_cast<const std::byte*>(p) - bytes.data());
}

const fb::Model& metadata(const Bytes& bytes) { return *fb::GetModel(bytes.data()); }

// Many entries of a vector that all point to one table.
File shared_tables() {
  flatbuffers::FlatBufferBuilder b;
  const auto tensor = fb::CreateTensor(b, 0, 1);
  const auto tensors = b.CreateVector(std::vector(60000, tensor));
  const auto text = b.CreateVector(std::vector<uint8_t>{'t'});
  fb::ModelBuilder model(b);
  model.add_requant_mode(fb::RequantMode::FmaHalfEven);
  model.add_text(text);
  model.add_tensors(tensors);
  b.Finish(model.Finish(), fb::ModelIdentifier());
  return file_of(assemble({b.GetBufferPointer(), b.GetSize()}, {}));
}

// The offset in the vtable of a node's operator, zeroed: a type without a value.
void drop_attributes(Bytes& bytes) {
  const auto* node = reinterpret_cast<const uint8_t*>(metadata(bytes).nodes()->Get(0));
  int32_t to_vtable = 0;
  std::memcpy(&to_vtable, node, 4);
  poke<uint16_t>(bytes, position(bytes, node - to_vtable) + fb::Node::VT_ATTRIBUTES, 0);
}

void set_operator(Bytes& bytes, uint8_t type) {
  const auto* node = reinterpret_cast<const uint8_t*>(metadata(bytes).nodes()->Get(0));
  int32_t to_vtable = 0;
  uint16_t field = 0;
  std::memcpy(&to_vtable, node, 4);
  std::memcpy(&field, node - to_vtable + fb::Node::VT_ATTRIBUTES_TYPE, 2);
  poke<uint8_t>(bytes, position(bytes, node) + field, type);
}

void append_zeros(Bytes& bytes, size_t count) {
  bytes.resize(bytes.size() + count);
  poke<uint64_t>(bytes, 32, bytes.size());
}

}  // namespace

void add_bad_structure(std::vector<BadFile>* list) {
  const auto add = [&](const char* name, Check check, const char* says,
                       std::function<File()> make) {
    list->push_back({name, check, says, std::move(make)});
  };
  using enum Check;
  const Bytes good = conv_bytes();
  const Header header = read_header(good);

  add("bytes at an odd address", kFileAlignment, "multiple of 64", [] {
    Bytes bytes = conv_bytes();
    bytes.insert(bytes.begin(), 8, std::byte{0});
    File f = file_of(bytes);
    f.skip = 8;
    return f;
  });
  add("larger than the caller allows", kFileLimit, "bytes, at most 1000", [] {
    File f = file_of(conv_bytes());
    f.options.max_file_bytes = 1000;
    return f;
  });
  add("empty", kFileShort, "file of 0 bytes", [] { return file_of({}); });
  add("one byte less than a header", kFileShort, "file of 95 bytes", [] {
    Bytes bytes = conv_bytes();
    bytes.resize(95);
    return file_of(bytes);
  });
  add("another identifier", kFileIdentifier, "not a model file", header_field<char>(5, 'X'));
  add("major version 2", kFileMajor, "code 50", header_field<char>(7, '2'));
  add("another magic", kHeaderMagic, "byte 8", header_field<char>(11, '2'));
  add("header of 128 bytes", kHeaderSize, "header of 128", header_field<uint32_t>(12, 128));
  add("a reserved byte", kHeaderReserved, "reserved", header_field<uint8_t>(95, 1));
  add("file size one more", kHeaderFileSize, "bytes, the file has",
      header_field<uint64_t>(32, header.file_size + 1));
  add("a byte behind the end", kHeaderFileSize, "bytes, the file has",
      poked([](Bytes& b) { b.push_back(std::byte{0}); }));
  add("metadata of the header only", kHeaderMetadataSize, "metadata of 96",
      header_field<uint64_t>(16, 96));
  add("metadata behind the end", kHeaderMetadataSize, "metadata of",
      header_field<uint64_t>(16, header.file_size + 1, false));
  add("metadata of 2^64 - 1 bytes", kHeaderMetadataSize, "metadata of 18446744073709551615",
      header_field<uint64_t>(16, ~uint64_t{0}, false));
  add("metadata of more than 16 MiB", kHeaderMetadataSize, "to 16777216",
      rebuilt([](Parts& p) { p.metadata.text.resize(17 << 20); }));
  add("segment base 0", kHeaderSegmentBase, "segment base 0", header_field<uint64_t>(24, 0));
  add("segment base a page later", kHeaderSegmentBase, "segment base",
      header_field<uint64_t>(24, header.segment_base + 4096));
  add("a changed byte of metadata", kHeaderDigest, "SHA-256",
      poked([](Bytes& b) { b[200] ^= std::byte{1}; }, false));
  add("a required feature", kHeaderFeatures, "features 4", header_field<uint64_t>(40, 4));

  add("root table in the header", kMetadataRoot, "root table at 40", header_field<uint32_t>(0, 40));
  add("root table behind the end", kMetadataVerify, "malformed",
      header_field<uint32_t>(0, static_cast<uint32_t>(header.metadata_size)));
  add("tensor vector of 2^31 elements", kMetadataVerify, "malformed",
      poked([](Bytes& b) { poke<uint32_t>(b, position(b, metadata(b).tensors()), 0x80000000); }));
  add("made for a newer minor version", kMetadataVersion, "format 1.2",
      rebuilt([](Parts& p) { p.metadata.minimum_minor = 2; }));
  add("unspecified requantisation", kMetadataRequantMode, "requantisation 0",
      rebuilt([](Parts& p) { p.metadata.requant_mode = fb::RequantMode::Unspecified; }));
  add("unknown requantisation", kMetadataRequantMode, "requantisation 2",
      rebuilt([](Parts& p) { p.metadata.requant_mode = static_cast<fb::RequantMode>(2); }));
  add("60000 entries that share one table", kMetadataHeap, "tensor 60000: ", shared_tables);
  add("zero offset in the vector of tensors", kMetadataNullTable, "tensor 1", poked([](Bytes& b) {
        poke<uint32_t>(b, position(b, metadata(b).tensors()->Data()) + 4, 0);
      }));
  add("zero offset in the vector of segments", kMetadataNullTable, "segment 0",
      poked([](Bytes& b) { poke<uint32_t>(b, position(b, metadata(b).segments()->Data()), 0); }));
  add("name behind the end of the text", kMetadataRange,
      "tensor 2: ", rebuilt([](Parts& p) { p.metadata.tensors[2]->name_start = 0xFFFFFFF0; }));
  add("shape of 2^32 - 1 dimensions", kMetadataRange, "tensor 3: 4294967295 of dimensions",
      rebuilt([](Parts& p) { p.metadata.tensors[3]->shape_count = 0xFFFFFFFF; }));
  add("inputs behind the pool of operands", kMetadataRange, "node 1: 99 of operands",
      rebuilt([](Parts& p) { p.metadata.nodes[1]->inputs_count = 99; }));
  add("no pool of dimensions", kMetadataRange, "tensor 0: 4 of dimensions at 0, there are 0",
      rebuilt([](Parts& p) { p.metadata.dims.clear(); }));
  add("map layer of a node that is not there", kMetadataRange, "map layer 1: node 8 of 8",
      rebuilt([](Parts& p) { p.metadata.map_layers[1]->node = 8; }));
  add("type 8", kMetadataEnum, "tensor 0: unknown type 8",
      rebuilt([](Parts& p) { p.metadata.tensors[0]->dtype = static_cast<fb::DType>(8); }));
  add("operator 12", kMetadataEnum, "node 0: unknown operator 12",
      poked([](Bytes& b) { set_operator(b, 12); }));
  add("operator 255", kMetadataEnum, "node 0: unknown operator 255",
      poked([](Bytes& b) { set_operator(b, 255); }));
  add("resize 4", kMetadataEnum, "unknown resize 4",
      rebuilt([](Parts& p) { p.metadata.image->resize = static_cast<fb::Resize>(4); }));
  add("group flag 2", kMetadataFlag, "map group 1: flag 2",
      rebuilt([](Parts& p) { p.metadata.map_groups[1]->fixed = 2; }));
  add("crop flag 255", kMetadataFlag, "image: flag 255",
      rebuilt([](Parts& p) { p.metadata.image->crop_only_small = 255; }));
  add("node without operator", kMetadataMissing, "node 2: no operator",
      rebuilt([](Parts& p) { p.metadata.nodes[2]->attributes.Reset(); }));
  add("operator type without a value", kMetadataMissing, "node 0: no operator",
      poked(drop_attributes));
  add("convolution without requantisation", kMetadataMissing, "node 1: no requantisation",
      rebuilt([](Parts& p) { p.metadata.nodes[1]->attributes.AsConv2d()->requant.reset(); }));
  add("layers without a map", kMetadataMissing, "without a precision map",
      rebuilt([](Parts& p) { p.metadata.map.reset(); }));

  add("digest of 31 bytes", kSegmentCount, "3 segments with 95 bytes",
      rebuilt([](Parts& p) { p.metadata.segment_digests.pop_back(); }));
  add("17 segments", kSegmentCount, "17 segments", rebuilt([](Parts& p) {
        p.metadata.segment_digests.resize(17 * 32);
        while (p.metadata.segments.size() < 17) p.metadata.segments.emplace_back(new fb::SegmentT);
      }));
  add("unknown segment kind", kSegmentKind, "segment 2: kind 5",
      rebuilt([](Parts& p) { p.metadata.segments[2]->kind = static_cast<fb::SegmentKind>(5); }));
  add("segment kind twice", kSegmentOrder, "segment 1: kind 0",
      rebuilt([](Parts& p) { p.metadata.segments[1]->kind = fb::SegmentKind::Weights; }));
  add("segments overlap", kSegmentOffset, "segment 1: offset 0",
      rebuilt([](Parts& p) { p.metadata.segments[1]->offset = 0; }));
  add("segment a page later", kSegmentOffset, "segment 2: offset",
      rebuilt([](Parts& p) { p.metadata.segments[2]->offset += 4096; }));
  add("segment of 2^64 - 1 bytes", kSegmentBounds, "segment 1: 18446744073709551615 bytes",
      rebuilt([](Parts& p) { p.metadata.segments[1]->size = ~uint64_t{0}; }));
  add("empty segment", kSegmentBounds, "segment 0: 0 bytes",
      rebuilt([](Parts& p) { p.metadata.segments[0]->size = 0; }));
  add("zeros behind the last segment", kSegmentEnd, "3 segments end at",
      poked([](Bytes& b) { append_zeros(b, 64); }));
  add("padding without a segment", kSegmentEnd, "0 segments end at 0 of 0", [] {
    Parts parts(conv_bytes());
    parts.segments.clear();
    parts.metadata.segments.clear();
    parts.metadata.segment_digests.clear();
    Bytes bytes = parts.join();
    append_zeros(bytes, round_up(bytes.size(), 4096) - bytes.size());
    poke<uint64_t>(bytes, 24, bytes.size());
    seal(bytes);
    return file_of(bytes);
  });
  add("data between metadata and segments", kSegmentPadding, "between metadata",
      poked([=](Bytes& b) { b[header.metadata_size] = std::byte{1}; }));
  add("data between segments", kSegmentPadding, "before segment 1", poked([=](Bytes& b) {
        const fb::Segment& s = *metadata(b).segments()->Get(0);
        b[header.segment_base + s.offset() + s.size()] = std::byte{1};
      }));
  add("a changed weight", kSegmentDigest, "segment 0",
      poked([=](Bytes& b) { b[header.segment_base] ^= std::byte{0x10}; }));
  add("a changed digest", kSegmentDigest, "segment 2",
      rebuilt([](Parts& p) { p.metadata.segment_digests[95] ^= 1; }));

  add("prepacked without its segment", kDataSegment, "prepacked 0", rebuilt([](Parts& p) {
        auto& entry = p.metadata.prepacked.emplace_back(new fb::PrepackedT);
        entry->node = 1;
        entry->layout_size = 3;
        entry->data_size = 64;
      }));
  add("data later than stated", kDataOffset, "tensor 3: data at 64, not 0",
      rebuilt([](Parts& p) { p.metadata.tensors[3]->data_offset = 64; }));
  add("two tensors share data", kDataOffset, "tensor 9: data at 0",
      rebuilt([](Parts& p) { p.metadata.tensors[9]->data_offset = 0; }));
  add("no data but an offset", kDataOffset, "tensor 0: no data at offset 64",
      rebuilt([](Parts& p) { p.metadata.tensors[0]->data_offset = 64; }));
  add("data of 2^63 bytes", kDataBounds, "tensor 3: 9223372036854775808 bytes",
      rebuilt([](Parts& p) { p.metadata.tensors[3]->data_size = uint64_t{1} << 63; }));
  add("data one byte too long for the segment", kDataBounds,
      "tensor 23: ", rebuilt([](Parts& p) { p.metadata.tensors[23]->data_size += 1; }));
  add("data between tensors", kDataPadding, "tensor 9",
      rebuilt(
          [](Parts& p) {
            p.segments[0][216] = std::byte{1};  // conv1's weights are 8 * 27 bytes
          },
          true));
  add("data behind the last tensor", kDataEnd, "segment 1: data ends at",
      rebuilt([](Parts& p) { p.segments[1].resize(p.segments[1].size() + 64); }, true));
  add("layout 1", kTensorLayout, "tensor 3: unknown layout 1",
      rebuilt([](Parts& p) { p.metadata.tensors[3]->layout = 1; }));
  add("last label without its end", kLabelEnd, "line feed",
      rebuilt([](Parts& p) { p.segments[2].pop_back(); }, true));
}

}  // namespace mpq::test
