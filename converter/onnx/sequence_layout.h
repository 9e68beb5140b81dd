// How a tensor of an ONNX graph of sequences lies over rows of tokens. Exporters write [batch,
// tokens, hidden] and split, merge and swap these axes for the heads of attention; a layout follows
// that without moving data.
#pragma once

#include <optional>
#include <vector>

#include "format/types.h"

namespace mpq::convert {

enum class Axis : uint8_t {
  kToken,    // rows of a sequence
  kKey,      // the same, of the second operand of a product of queries and keys
  kChannel,  // columns, or an even part of them
};

struct Atom {
  Axis axis = Axis::kToken;
  int64_t extent = 1;  // above 1
  int64_t step = 1;    // kChannel: columns between neighbours
  bool operator==(const Atom&) const = default;
};

// One list of atoms, the outermost first, for each dimension; the batch of 1 is an empty one.
using Dim = std::vector<Atom>;
using Layout = std::vector<Dim>;

Shape shape_of(const Layout& layout);
// The same elements under another shape; nothing when tokens and columns would mix.
std::optional<Layout> reshaped(const Layout& layout, const Shape& shape);
// Without dimensions of extent 1: what decides whether tensors lie alike.
Layout compact(const Layout& layout);
Dim columns(int64_t width);
// A row a token (or a row in all): all columns are the last dimension.
bool is_rows(const Layout& layout, int64_t width);
bool has_axis(const Dim& dim, Axis axis);

}  // namespace mpq::convert
