#include "converter/onnx/sequence_layout.h"

#include <algorithm>
#include <deque>

namespace mpq::convert {
namespace {

// Appends an atom; neighbouring columns become one atom again.
void append(Dim* dim, const Atom& atom) {
  if (atom.extent == 1) return;
  if (!dim->empty() && atom.axis == Axis::kChannel && dim->back().axis == Axis::kChannel &&
      dim->back().step == atom.extent * atom.step)
    dim->back() = {Axis::kChannel, dim->back().extent * atom.extent, atom.step};
  else
    dim->push_back(atom);
}

}  // namespace

Shape shape_of(const Layout& layout) {
  Shape shape;
  for (const Dim& dim : layout) {
    shape.push_back(1);
    for (const Atom& atom : dim) shape.back() *= atom.extent;
  }
  return shape;
}

std::optional<Layout> reshaped(const Layout& layout, const Shape& shape) {
  std::deque<Atom> rest;
  for (const Dim& dim : layout) rest.insert(rest.end(), dim.begin(), dim.end());
  Layout result;
  for (int64_t need : shape) {
    Dim dim;
    while (need > 1) {
      if (rest.empty()) return {};
      Atom atom = rest.front();
      rest.pop_front();
      if (need % atom.extent != 0) {  // the outer part of an atom
        if (atom.axis != Axis::kChannel || atom.extent % need != 0) return {};
        rest.push_front({Axis::kChannel, atom.extent / need, atom.step});
        atom = {Axis::kChannel, need, atom.step * (atom.extent / need)};
      }
      need /= atom.extent;
      append(&dim, atom);
    }
    if (need != 1) return {};
    result.push_back(std::move(dim));
  }
  if (!rest.empty()) return {};
  return result;
}

Layout compact(const Layout& layout) {
  Layout result;
  for (const Dim& dim : layout)
    if (!dim.empty()) result.push_back(dim);
  return result;
}

Dim columns(int64_t width) {
  Dim dim;
  append(&dim, {Axis::kChannel, width, 1});
  return dim;
}

bool is_rows(const Layout& layout, int64_t width) {
  if (layout.empty() || layout.back() != columns(width)) return false;
  size_t tokens = 0;
  for (size_t d = 0; d + 1 < layout.size(); ++d) {
    if (layout[d].empty()) continue;
    if (layout[d].size() != 1 || layout[d][0].axis != Axis::kToken) return false;
    ++tokens;
  }
  return tokens <= 1;
}

bool has_axis(const Dim& dim, Axis axis) {
  return std::any_of(dim.begin(), dim.end(), [&](const Atom& atom) { return atom.axis == axis; });
}

}  // namespace mpq::convert
