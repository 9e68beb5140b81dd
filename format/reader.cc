#include "format/reader.h"

#include <algorithm>
#include <cstring>

#include "format/checks.h"
#include "format/header.h"
#include "format/read_tables.h"
#include "format/validate.h"
#include "mpq_generated.h"

namespace mpq::format {
namespace {

using Bytes = std::span<const std::byte>;

constexpr size_t kMaxSegments = 16;
constexpr flatbuffers::uoffset_t kMaxDepth = 8;
constexpr flatbuffers::uoffset_t kMaxTables = 200000;

Result<Header> check_header(Bytes file, const ReadOptions& options) {
  MPQ_REQUIRE(kFileAlignment, reinterpret_cast<uintptr_t>(file.data()) % kDataAlignment == 0,
              "the file's bytes do not start at a multiple of ", kDataAlignment);
  MPQ_REQUIRE(kFileLimit, file.size() <= options.max_file_bytes, "file of ", file.size(),
              " bytes, at most ", options.max_file_bytes);
  MPQ_REQUIRE(kFileShort, file.size() >= sizeof(Header), "file of ", file.size(),
              " bytes, a header has ", sizeof(Header));
  const Header h = read_header(file);
  MPQ_REQUIRE(kFileIdentifier, std::memcmp(h.identifier, "MPQ", 3) == 0, "not a model file");
  MPQ_REQUIRE(kFileMajor, h.identifier[3] == '1', "major version with code ",
              static_cast<int>(static_cast<uint8_t>(h.identifier[3])),
              ", this reader knows 49 (\"1\")");
  MPQ_REQUIRE(kHeaderMagic, std::memcmp(h.magic, "mh01", 4) == 0, "no extended header at byte 8");
  MPQ_REQUIRE(kHeaderSize, h.header_size == sizeof(Header), "header of ", h.header_size,
              " bytes, not ", sizeof(Header));
  MPQ_REQUIRE(kHeaderReserved, all_zero(h.reserved), "header: reserved bytes are not 0");
  MPQ_REQUIRE(kHeaderFileSize, h.file_size == file.size(), "the header says ", h.file_size,
              " bytes, the file has ", file.size());
  const bool in_file = h.metadata_size > sizeof(Header) && h.metadata_size <= file.size();
  MPQ_REQUIRE(kHeaderMetadataSize, in_file && h.metadata_size <= kMaxMetadata, "metadata of ",
              h.metadata_size, " bytes, not ", sizeof(Header) + 1, " to ",
              std::min<uint64_t>(file.size(), kMaxMetadata));
  const uint64_t base = h.metadata_size == h.file_size
                            ? h.metadata_size
                            : round_up(h.metadata_size, kSegmentAlignment);
  MPQ_REQUIRE(kHeaderSegmentBase, h.segment_base == base && base <= file.size(), "segment base ",
              h.segment_base, ", not ", base);
  MPQ_REQUIRE(kHeaderDigest, metadata_digest(file.first(h.metadata_size)) == h.digest,
              "header and metadata: SHA-256 differs from the stored one");
  MPQ_REQUIRE(kHeaderFeatures, (h.required_features & ~kKnownFeatures) == 0, "needs features ",
              h.required_features, " (bits), this reader knows ", kKnownFeatures);
  return h;
}

Result<const fb::Model*> check_structure(Bytes metadata, const Header& header) {
  MPQ_REQUIRE(kMetadataRoot, header.root >= sizeof(Header), "root table at ", header.root,
              ", inside the header");
  const auto* bytes = reinterpret_cast<const uint8_t*>(metadata.data());
  flatbuffers::Verifier verifier(bytes, metadata.size(), kMaxDepth, kMaxTables);
  MPQ_REQUIRE(kMetadataVerify, fb::VerifyModelBuffer(verifier), "metadata: malformed FlatBuffer");
  const fb::Model* model = fb::GetModel(bytes);
  MPQ_CHECK(check_version(*model));
  return model;
}

Checked check_segment_digests(const std::vector<SegmentView>& segments, const fb::Model& metadata) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const Digest actual = sha256(segments[i].data);
    MPQ_REQUIRE(kSegmentDigest,
                std::memcmp(metadata.segment_digests()->Data() + 32 * i, actual.data(), 32) == 0,
                "segment ", i, ": SHA-256 differs from the stored one");
  }
  return Ok{};
}

// Every byte behind the metadata belongs to a segment or is padding.
Result<std::vector<SegmentView>> check_segments(Bytes file, const Header& header,
                                                const fb::Model& metadata) {
  const auto* table = metadata.segments();
  const size_t count = table == nullptr ? 0 : table->size();
  const auto* digests = metadata.segment_digests();
  const size_t digest_bytes = digests == nullptr ? 0 : digests->size();
  MPQ_REQUIRE(kSegmentCount, count <= kMaxSegments && digest_bytes == 32 * count, count,
              " segments with ", digest_bytes, " bytes of digests, at most ", kMaxSegments,
              " with 32 each");
  std::vector<SegmentView> segments;
  const Bytes body = file.subspan(header.segment_base);
  MPQ_REQUIRE(
      kSegmentPadding,
      all_zero(file.subspan(header.metadata_size, header.segment_base - header.metadata_size)),
      "bytes between metadata and segments are not 0");
  uint64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto offset = reinterpret_cast<const flatbuffers::uoffset_t*>(table->Data())[i];
    MPQ_REQUIRE(kMetadataNullTable, offset != 0, "segment ", i, ": zero offset");
    const fb::Segment& s = *table->Get(static_cast<flatbuffers::uoffset_t>(i));
    const auto kind = static_cast<SegmentKind>(s.kind());
    MPQ_REQUIRE(kSegmentKind, kind <= SegmentKind::kPrepacked, "segment ", i, ": kind ",
                static_cast<int>(kind));
    MPQ_REQUIRE(kSegmentOrder, segments.empty() || kind > segments.back().kind, "segment ", i,
                ": kind ", static_cast<int>(kind), " does not ascend");
    const uint64_t start = round_up(end, kSegmentAlignment);
    MPQ_REQUIRE(kSegmentOffset, s.offset() == start, "segment ", i, ": offset ", s.offset(),
                ", not ", start);
    MPQ_REQUIRE(kSegmentBounds,
                s.size() > 0 && start <= body.size() && s.size() <= body.size() - start, "segment ",
                i, ": ", s.size(), " bytes at ", start, " of ", body.size());
    MPQ_REQUIRE(kSegmentPadding, all_zero(body.subspan(end, start - end)), "bytes before segment ",
                i, " are not 0");
    segments.push_back({kind, body.subspan(start, s.size())});
    end = start + s.size();
  }
  MPQ_REQUIRE(kSegmentEnd,
              end == body.size() && (count != 0 || header.file_size == header.metadata_size), count,
              " segments end at ", end, " of ", body.size());
  return segments;
}

}  // namespace

Result<Model> read(std::span<const std::byte> file, const ReadOptions& options) {
  MPQ_TRY(const Header header, check_header(file, options));
  MPQ_TRY(const fb::Model* metadata, check_structure(file.first(header.metadata_size), header));
  MPQ_TRY(const std::vector<SegmentView> segments, check_segments(file, header, *metadata));
  if (options.verify_segments) MPQ_CHECK(check_segment_digests(segments, *metadata));
  MPQ_TRY(Model model, read_tables(*metadata, header.metadata_size, segments));
  MPQ_CHECK(validate(model));
  return model;
}

bool looks_like_model(std::span<const std::byte> file) {
  return file.size() >= 12 && std::memcmp(file.data() + 4, "MPQ", 3) == 0 &&
         std::memcmp(file.data() + 8, "mh", 2) == 0;
}

}  // namespace mpq::format
