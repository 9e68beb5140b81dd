// The loader checklist: every reason for which a file is refused, with a stable id that ends the
// error message ("... [tensor.rank]"). In order of execution. SPEC.md lists them; tests hold at
// least one bad file for each.
//
// Built with MPQ_CHECK_MUTATION, any one check can be switched off, to prove that a test notices.
#pragma once

#include <string>

#include "format/status.h"
#include "format/text.h"

namespace mpq::format {

// clang-format off
// X(enumerator, id, status, what must hold)
#define MPQ_FORMAT_CHECKS(X)                                                                                     \
  /* File and header. */                                                                                         \
  X(kFileAlignment, "file.alignment", kInvalidArgument, "the bytes start at a multiple of 64")                   \
  X(kFileLimit, "file.limit", kLimit, "the file is not larger than the caller's limit")                          \
  X(kFileShort, "file.short", kCorrupt, "the file holds a whole header")                                         \
  X(kFileIdentifier, "file.identifier", kCorrupt, "bytes 4-6 are \"MPQ\"")                                       \
  X(kFileMajor, "file.major", kUnsupported, "byte 7 is \"1\", the major version")                                \
  X(kHeaderMagic, "header.magic", kCorrupt, "bytes 8-11 are \"mh01\"")                                           \
  X(kHeaderSize, "header.size", kCorrupt, "the header is 96 bytes")                                              \
  X(kHeaderReserved, "header.reserved", kCorrupt, "reserved bytes are 0")                                        \
  X(kHeaderFileSize, "header.file_size", kCorrupt, "the stated file size is the actual one")                     \
  X(kHeaderMetadataSize, "header.metadata_size", kCorrupt, "metadata is larger than the header, within the file and at most 16 MiB") \
  X(kHeaderSegmentBase, "header.segment_base", kCorrupt, "the segment base is the metadata's end, rounded up to 4096, or the file's end") \
  X(kHeaderDigest, "header.digest", kChecksum, "SHA-256 of header and metadata agrees")                          \
  X(kHeaderFeatures, "header.features", kUnsupported, "no unknown required feature")                             \
  /* FlatBuffer structure. */                                                                                    \
  X(kMetadataRoot, "metadata.root", kCorrupt, "the root table lies behind the header")                           \
  X(kMetadataVerify, "metadata.verify", kCorrupt, "the FlatBuffers verifier accepts: depth 8, 200000 tables")    \
  X(kMetadataVersion, "metadata.version", kUnsupported, "the least minor version needed is known")               \
  X(kMetadataRequantMode, "metadata.requant_mode", kUnsupported, "the requantisation is the one of this format") \
  X(kMetadataHeap, "metadata.heap", kCorrupt, "what the metadata unfolds to is at most 4 times its size")        \
  X(kMetadataNullTable, "metadata.null_table", kCorrupt, "no zero offset in a vector of tables")                 \
  X(kMetadataRange, "metadata.range", kCorrupt, "ranges lie inside their pools")                                 \
  X(kMetadataEnum, "metadata.enum", kUnsupported, "enum values and operators are known")                         \
  X(kMetadataFlag, "metadata.flag", kCorrupt, "flags are 0 or 1")                                                \
  X(kMetadataMissing, "metadata.missing", kCorrupt, "required tables are present")                               \
  /* Segments and the data in them. */                                                                           \
  X(kSegmentCount, "segment.count", kCorrupt, "at most 16 segments, each with a digest")                         \
  X(kSegmentKind, "segment.kind", kUnsupported, "kinds are known")                                               \
  X(kSegmentOrder, "segment.order", kCorrupt, "kinds ascend, so none is there twice")                            \
  X(kSegmentOffset, "segment.offset", kCorrupt, "each segment starts where the one before ends, rounded up to 4096") \
  X(kSegmentBounds, "segment.bounds", kCorrupt, "segments are not empty and lie inside the file")                \
  X(kSegmentEnd, "segment.end", kCorrupt, "the last segment ends where the file ends")                           \
  X(kSegmentPadding, "segment.padding", kCorrupt, "bytes between segments are 0")                                \
  X(kSegmentDigest, "segment.digest", kChecksum, "SHA-256 of each segment agrees")                               \
  X(kDataSegment, "data.segment", kCorrupt, "data lies in a segment of its kind that the file has")              \
  X(kDataOffset, "data.offset", kCorrupt, "data starts where the one before ends, rounded up to 64")             \
  X(kDataBounds, "data.bounds", kCorrupt, "data lies inside its segment")                                        \
  X(kDataPadding, "data.padding", kCorrupt, "bytes between data are 0")                                          \
  X(kDataEnd, "data.end", kCorrupt, "a segment ends with its last data")                                         \
  X(kTensorLayout, "tensor.layout", kUnsupported, "the layout of data is canonical")                             \
  X(kLabelEnd, "label.end", kCorrupt, "the last label ends with a line feed")                                    \
  /* Texts. */                                                                                                   \
  X(kTextName, "text.name", kCorrupt, "names are 1 to 255 bytes of UTF-8 without control characters")            \
  X(kTextValue, "text.value", kCorrupt, "other texts are UTF-8 without control characters, within their limits") \
  X(kTextUnique, "text.unique", kCorrupt, "names of tensors, names of nodes and keys are unique")                \
  /* Tensors. */                                                                                                 \
  X(kTensorCount, "tensor.count", kCorrupt, "at most 65536 tensors")                                             \
  X(kTensorRank, "tensor.rank", kCorrupt, "rank 1 to 6")                                                         \
  X(kTensorDim, "tensor.dim", kCorrupt, "dimensions 1 to 2^31 - 1")                                              \
  X(kTensorElements, "tensor.elements", kCorrupt, "at most 2^31 - 1 elements")                                   \
  X(kTensorBytes, "tensor.bytes", kCorrupt, "constants have exactly the bytes of their shape and type")          \
  X(kTensorPadding, "tensor.padding", kCorrupt, "unused bits of the last byte are 0")                            \
  X(kTensorScale, "tensor.scale", kCorrupt, "scales are 0 (none) or normal, positive, at most 2^40, and of codes only") \
  X(kTensorZeroPoint, "tensor.zero_point", kCorrupt, "zero points are codes; 0 for weights and without a scale") \
  /* Graph. */                                                                                                   \
  X(kGraphInputs, "graph.inputs", kCorrupt, "1 to 64 distinct inputs, which are tensors and not constants")      \
  X(kGraphBatch, "graph.batch", kCorrupt, "the first dimension of an input is 1")                                \
  X(kGraphOutputs, "graph.outputs", kCorrupt, "1 to 64 distinct outputs, each made by a node")                   \
  X(kNodeCount, "node.count", kCorrupt, "at most 65536 nodes")                                                   \
  X(kNodeArity, "node.arity", kCorrupt, "the operator takes that many operands")                                 \
  X(kNodeOperand, "node.operand", kCorrupt, "operands are tensors; only optional ones are absent")               \
  X(kNodeType, "node.type", kCorrupt, "operands have a type that the operator takes")                            \
  X(kNodeRole, "node.role", kCorrupt, "parameters are constants and activations are not")                        \
  X(kNodeQuantised, "node.quantised", kCorrupt, "codes of activations have a scale; pixels have none")           \
  X(kNodeOrder, "node.order", kCorrupt, "inputs are made before they are read")                                  \
  X(kNodeAssignment, "node.assignment", kCorrupt, "each tensor is made once")                                    \
  X(kNodeShape, "node.shape", kCorrupt, "ranks and dimensions of operands fit together")                         \
  X(kNodeGeometry, "node.geometry", kCorrupt, "kernel, stride, dilation are 1 to 32768, padding less than the kernel, the kernel within the padded input") \
  X(kNodeGroups, "node.groups", kCorrupt, "groups divide the channels")                                          \
  X(kNodeOutputShape, "node.output_shape", kCorrupt, "stated shapes are the inferred ones")                      \
  X(kNodeChannels, "node.channels", kCorrupt, "per-channel operands have one entry per output channel")          \
  X(kNodeCodeRange, "node.code_range", kCorrupt, "lo <= hi within the codes of the output's type")               \
  X(kNodeMultiplier, "node.multiplier", kCorrupt, "scales are normal, positive, at most 2^40; multipliers too, or 0 (a dead channel)") \
  X(kNodeBias, "node.bias", kCorrupt, "biases are finite")                                                       \
  X(kNodeTable, "node.table", kCorrupt, "table entries are codes of the output's type")                          \
  X(kNodeResidual, "node.residual", kCorrupt, "the residual has the output's shape; its shift (0 to 31) and factors come together") \
  X(kNodeSecond, "node.second", kCorrupt, "a second output goes with a first one of codes")                      \
  X(kNodePoolQuant, "node.pool_quant", kCorrupt, "max pool leaves type, scale and zero point as they are")       \
  X(kNodeActivation, "node.activation", kCorrupt, "an activation goes with codes or f32")                         \
  X(kNodeHeads, "node.heads", kCorrupt, "heads divide the columns; scales and biases of heads fit; codes are u8 with zero point 128") \
  X(kNodeRows, "node.rows", kCorrupt, "tables that tokens index have rows for every position, and scales exactly for codes; second factors of a normalisation are complete") \
  X(kNodeAccumulator, "node.accumulator", kCorrupt, "no sum can leave int32, whatever the input")                \
  X(kGraphDead, "graph.dead", kCorrupt, "every node leads to an output")                                         \
  X(kGraphUnused, "graph.unused", kCorrupt, "every tensor belongs to a node")                                    \
  X(kGraphSequence, "graph.sequence", kCorrupt, "sequence operators have a sequence length of at most 32768 and one embedding; rows of tokens and of sequences do not mix") \
  X(kVocabulary, "vocabulary", kCorrupt, "a vocabulary of clean UTF-8 lines, at most 2^20, goes with text preprocessing") \
  X(kTokenizer, "tokenizer", kCorrupt, "text preprocessing belongs to a sequence model; its ids are in the vocabulary, the vocabulary in the embedding") \
  /* What comes with the graph. */                                                                               \
  X(kMapLayer, "map.layer", kCorrupt, "layers of the precision map are distinct conv2d or linear nodes")         \
  X(kMapBits, "map.bits", kCorrupt, "the bits in the map are those of the node's operands")                      \
  X(kMapGroup, "map.group", kCorrupt, "groups of layers exist")                                                  \
  X(kMapNumber, "map.number", kCorrupt, "numbers of the map are finite; the source digest is empty or 64 hex digits") \
  X(kImageCrop, "image.crop", kCorrupt, "the crop is input 0's size and fits into the resized image")            \
  X(kImageNormalise, "image.normalise", kCorrupt, "mean and standard deviation are finite, the latter positive")  \
  X(kLabelCount, "label.count", kCorrupt, "no labels, or as many as output 0 has elements, at most 65536")       \
  X(kPrepackedNode, "prepacked.node", kCorrupt, "prepacked weights name a conv2d or linear node and a layout, each pair once")
// clang-format on

enum class Check : int {
#define MPQ_X(enumerator, id, status, rule) enumerator,
  MPQ_FORMAT_CHECKS(MPQ_X)
#undef MPQ_X
};

struct CheckInfo {
  const char* id;
  Status status;
  const char* rule;
};

int check_count();
const CheckInfo& info(Check check);

// The error of a check that does not hold: `message` and the id.
Error failure(Check check, std::string message);

#ifdef MPQ_CHECK_MUTATION
bool enforced(Check check);
void switch_off(int check);  // -1: none. For tests only
#else
constexpr bool enforced(Check) { return true; }
#endif

}  // namespace mpq::format

// MPQ_REQUIRE(kTensorRank, rank <= 6, "tensor ", i, ": rank ", rank); returns the error from this
// function.
#define MPQ_REQUIRE(check, condition, ...)                                    \
  do {                                                                        \
    if (::mpq::format::enforced(::mpq::format::Check::check) && !(condition)) \
      return ::mpq::format::failure(::mpq::format::Check::check,              \
                                    ::mpq::format::concat(__VA_ARGS__));      \
  } while (false)
