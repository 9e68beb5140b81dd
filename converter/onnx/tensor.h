// Constant tensors of an ONNX model, with their numbers as float or int64.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/onnx/import.h"
#include "format/types.h"

namespace onnx {
class TensorProto;
}

namespace mpq::convert {

// Element types by their number in TensorProto. Newer ones than libonnx knows are spelled out here.
enum ElementType : int32_t {
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kBfloat16 = 16,
  kUint4 = 21,
  kInt4 = 22,
  kUint2 = 25,
  kInt2 = 26
};
struct ElementInfo {
  int32_t type;
  const char* name;
  int bits;
  bool is_integer, is_signed;
  int64_t lowest() const { return is_signed ? -(int64_t{1} << (bits - 1)) : 0; }
  int64_t highest() const {
    return lowest() + ((int64_t{1} << (bits - 1)) - 1) * 2 + 1;
  }  // bits < 64
};
const ElementInfo* element_info(int32_t type);  // null: not supported

// A real tensor known to be codes * scale (per tensor, or per entry of one axis).
struct Grid {
  int bits = 8;
  int32_t lo = -128, hi = 127;
  std::vector<float> scale;
  size_t axis = 0;
  std::vector<int8_t> codes;
  std::vector<float> positions;  // what was rounded to them, in codes; empty: not known
};

// A real tensor in the middle of Div -> Clip -> Round -> Mul: position = source / scale so far.
struct LsqStage {
  std::vector<float> scale;
  size_t axis = 0;
  std::optional<float> lo, hi;
  bool rounded = false;
};

struct Tensor {
  int32_t type = kFloat;
  Shape shape;
  std::vector<float> reals;                         // floating types
  std::vector<int64_t> integers;                    // integer types and bool
  std::vector<float> positions;                     // what a quantiser rounded to them, or empty
  std::optional<std::pair<int64_t, int64_t>> clip;  // integer codes narrowed by a Clip node
  std::shared_ptr<const Grid> grid;
  std::shared_ptr<const LsqStage> lsq;

  bool is_integer() const { return element_info(type)->is_integer; }
  size_t elements() const { return is_integer() ? integers.size() : reals.size(); }
  double at(size_t i) const {
    return is_integer() ? static_cast<double>(integers[i]) : double{reals[i]};
  }
};
using TensorPtr = std::shared_ptr<const Tensor>;

// Reads the numbers wherever they are (raw bytes, typed fields, another file) and checks that there
// are exactly as many as the shape says.
Result<Tensor> read_tensor(const onnx::TensorProto& proto, const std::string& folder,
                           const ImportOptions& options);

Tensor make_integers(Shape shape, std::vector<int64_t> values);

}  // namespace mpq::convert
