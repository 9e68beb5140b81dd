// Well-formed files that lie: names, shapes, numbers, graph.
#include <cmath>
#include <limits>

#include "format/serialize.h"
#include "tests/format/bad_lists.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kDenormal = 0x1p-127F;

// Indices in tiny_conv_net().
enum ConvTensor : TensorId {
  kImage,
  kTableT,
  kXT,
  kW1,
  kM1,
  kB1,
  kA1,
  kY1,
  kPool,
  kW2,
  kM2,
  kB2,
  kY2,
  kLow,
  kW3,
  kM3,
  kB3,
  kF3,
  kY3,
  kSum,
  kAvg,
  kW4,
  kM4,
  kB4,
  kLogits
};
enum ConvNode { kQuantizeN, kConv1, kPoolN, kConv2, kConv3, kAddN, kAvgN, kFc };

using Change = std::function<void(TinyModel&)>;

File file_of(const Model& model) {
  const std::vector<std::byte> bytes = serialize(model);
  return {AlignedBytes(std::span<const std::byte>(bytes)), 0, {}};
}

std::function<File()> changed(TinyModel (*make)(), const Change& change) {
  return [=] {
    TinyModel t = make();
    change(t);
    return file_of(t.model);
  };
}
std::function<File()> conv(const Change& change) { return changed(tiny_conv_net, change); }
std::function<File()> text(const Change& change) { return changed(tiny_text_net, change); }
std::function<File()> linear(const Change& change) { return changed(tiny_linear_net, change); }

// A change of the attributes of a node.
template <typename A>
std::function<File()> attrs(int node, const std::function<void(A&)>& change) {
  return conv(
      [=](TinyModel& t) { change(std::get<A>(t.model.nodes[static_cast<size_t>(node)].attrs)); });
}
std::function<File()> requant(int node, const std::function<void(Requant&)>& change) {
  return attrs<Conv2dAttrs>(node, [=](Conv2dAttrs& a) { change(a.requant); });
}
std::function<File()> tensor(TensorId id, const std::function<void(Tensor&)>& change) {
  return conv([=](TinyModel& t) { change(t.model.tensors[id]); });
}

// A change of element i of a constant of 4-byte values.
template <typename T>
std::function<File()> value(TensorId id, size_t i, T number) {
  return conv([=](TinyModel& t) {
    const std::span<const std::byte> data = t.model.tensors[id].data;
    for (auto& bytes : t.storage)
      if (bytes.data() == data.data()) std::memcpy(bytes.data() + 4 * i, &number, 4);
  });
}

std::function<File()> inputs(int node, const std::function<void(std::vector<TensorId>&)>& change) {
  return conv([=](TinyModel& t) { change(t.model.nodes[static_cast<size_t>(node)].inputs); });
}

std::string long_name(const char* what, size_t i) { return concat(std::string(40, '_'), what, i); }

// Many layers that share one weight tensor and each need the exact proof.
void share_big_weights(TinyModel& t) {
  Model& m = t.model;
  constexpr int64_t kRows = 1024, kColumns = 4096;
  t = {};
  TensorId x = t.activation("x0", DType::kU8, {1, kColumns}, 1.0F);
  m.inputs = {x};
  const TensorId w = t.random_weights("w", DType::kS2, {kColumns, kColumns});
  const TensorId mul = t.values("m", DType::kF32, std::vector<float>(kColumns, 1.0F));
  const TensorId b = t.values("b", DType::kF32, std::vector<float>(kColumns, 0.0F));
  // The bias is close to the limit in one channel, whose weights are 0: only the exact proof sees
  // it.
  std::vector<int32_t> bias(kColumns);
  bias[kRows] = std::numeric_limits<int32_t>::max();
  std::fill_n(t.storage.front().begin() + kRows * kColumns / 4, kColumns / 4, std::byte{0});
  const TensorId a = t.values("a", DType::kS32, bias);
  for (size_t i = 1; i <= 17; ++i) {
    const TensorId y = t.activation(concat("x", i), DType::kU8, {1, kColumns}, 1.0F);
    t.node(concat("fc", i), LinearAttrs{}, {x, w, mul, b, a}, {y});
    x = y;
  }
  m.outputs = {x};
}

void add_texts_and_tensors(
    const std::function<void(const char*, Check, const char*, std::function<File()>)>& add) {
  using enum Check;
  add("tensor without a name", kTextName, "tensor 2: name of 0 bytes",
      tensor(kXT, [](Tensor& t) { t.name = ""; }));
  add("name of 256 bytes", kTextName, "tensor 2: name of 256 bytes",
      tensor(kXT, [](Tensor& t) { t.name.assign(256, 'x'); }));
  add("name with a NUL", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = std::string("a\0b", 3); }));
  add("name with a line feed", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "a\nb"; }));
  add("name with a C1 control", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "a\xC2\x85"; }));
  add("overlong UTF-8", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "\xC0\xAF"; }));
  add("overlong UTF-8 of 3 bytes", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "\xE0\x80\xAF"; }));
  add("surrogate", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "\xED\xA0\x80"; }));
  add("beyond Unicode", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "\xF4\x90\x80\x80"; }));
  add("cut UTF-8", kTextName,
      "node 2: ", conv([](TinyModel& t) { t.model.nodes[2].name = "abc\xE2\x82"; }));
  add("key without a name", kTextName, "key 0",
      conv([](TinyModel& t) { t.model.metadata[0].first = ""; }));
  add("empty label", kTextName, "label 3", conv([](TinyModel& t) { t.model.labels[3] = ""; }));
  add("value with an escape", kTextValue, "key 'note'",
      conv([](TinyModel& t) { t.model.metadata[1].second = "\x1B[31m"; }));
  add("value of 65536 bytes", kTextValue, "65536 bytes",
      conv([](TinyModel& t) { t.model.metadata[1].second.assign(65536, 'x'); }));
  add("producer of 256 bytes", kTextValue, "producer of 256",
      conv([](TinyModel& t) { t.model.producer.assign(256, 'x'); }));
  add("map method with a tab", kTextValue, "map method",
      conv([](TinyModel& t) { t.model.map.method = "a\tb"; }));
  add("two tensors of one name", kTextUnique, "tensors 2 and 7 are both named 'x'",
      tensor(kY1, [](Tensor& t) { t.name = std::string("x"); }));
  add("two nodes of one name", kTextUnique, "nodes 1 and 2",
      conv([](TinyModel& t) { t.model.nodes[2].name = "conv1"; }));
  add("two keys of one name", kTextUnique, "keys 0 and 1",
      conv([](TinyModel& t) { t.model.metadata[1].first = "source"; }));

  add("65537 tensors", kTensorCount, "65537 tensors", conv([](TinyModel& t) {
        for (size_t i = t.model.tensors.size(); i < 65537; ++i)
          t.activation(long_name("t", i), DType::kF32, {1});
      }));
  add("rank 0", kTensorRank, "tensor 2 'x': rank 0", tensor(kXT, [](Tensor& t) { t.shape = {}; }));
  add("rank 7", kTensorRank, "rank 7 not in 1..6",
      tensor(kXT, [](Tensor& t) { t.shape.assign(7, 1); }));
  add("dimension 0", kTensorDim, "dimension 0", tensor(kXT, [](Tensor& t) { t.shape[2] = 0; }));
  add("dimension 2^31", kTensorDim, "dimension 2147483648",
      tensor(kXT, [](Tensor& t) { t.shape[2] = int64_t{1} << 31; }));
  add("2^31 elements", kTensorElements, "65536x32768", tensor(kXT, [](Tensor& t) {
        t.shape = {65536, 32768};
      }));
  add("2^124 elements", kTensorElements, "more than",
      tensor(kXT, [](Tensor& t) { t.shape.assign(4, (int64_t{1} << 31) - 1); }));
  add("weights one byte short", kTensorBytes, "215 bytes, s8 8x3x3x3 has 216",
      tensor(kW1, [](Tensor& t) { t.data = t.data.first(215); }));
  add("bits behind the last element", kTensorPadding, "fc2.weight", linear([](TinyModel& t) {
        for (Tensor& w : t.model.tensors)
          if (w.name == "fc2.weight")
            for (auto& bytes : t.storage)
              if (bytes.data() == w.data.data()) bytes.back() |= std::byte{0x80};
      }));
  add("scale not a number", kTensorScale, "scale nan",
      tensor(kY1, [](Tensor& t) { t.quant.scale = kNaN; }));
  add("negative scale", kTensorScale, "scale -0.5",
      tensor(kY1, [](Tensor& t) { t.quant.scale = -0.5F; }));
  add("denormal scale", kTensorScale, "scale 5.87",
      tensor(kY1, [](Tensor& t) { t.quant.scale = kDenormal; }));
  add("infinite scale", kTensorScale, "scale inf",
      tensor(kY1, [](Tensor& t) { t.quant.scale = kInfinity; }));
  add("scale above 2^40", kTensorScale, "scale 2.19",
      tensor(kY1, [](Tensor& t) { t.quant.scale = 0x1p41F; }));
  add("scale of f32", kTensorScale, "of f32",
      tensor(kLogits, [](Tensor& t) { t.quant.scale = 1.0F; }));
  add("zero point -1", kTensorZeroPoint, "zero point -1 of u8",
      tensor(kXT, [](Tensor& t) { t.quant.zero_point = -1; }));
  add("zero point 16 of u4", kTensorZeroPoint, "zero point 16 of u4",
      tensor(kY1, [](Tensor& t) { t.quant.zero_point = 16; }));
  add("zero point of weights", kTensorZeroPoint, "of s8", tensor(kW1, [](Tensor& t) {
        t.quant = {1.0F, 1};
      }));
  add("zero point without a scale", kTensorZeroPoint, "with scale 0",
      tensor(kImage, [](Tensor& t) { t.quant.zero_point = 7; }));
}

void add_graph(
    const std::function<void(const char*, Check, const char*, std::function<File()>)>& add) {
  using enum Check;
  add("no graph input", kGraphInputs, "0 graph inputs",
      conv([](TinyModel& t) { t.model.inputs = {}; }));
  add("65 graph inputs", kGraphInputs, "65 graph inputs",
      conv([](TinyModel& t) { t.model.inputs.assign(65, 0); }));
  add("graph input out of range", kGraphInputs, "tensor 25 of 25",
      conv([](TinyModel& t) { t.model.inputs = {25}; }));
  add("constant graph input", kGraphInputs, "is a constant", conv([](TinyModel& t) {
        t.model.inputs = {kImage, kTableT};
      }));
  add("graph input twice", kGraphInputs, "named twice", conv([](TinyModel& t) {
        t.model.inputs = {kImage, kImage};
      }));
  add("batch of 2", kGraphBatch, "first dimension 2", conv([](TinyModel& t) {
        for (Tensor& x : t.model.tensors)
          if (!x.is_constant()) x.shape[0] = 2;
        t.model.labels.clear();
      }));
  add("no graph output", kGraphOutputs, "0 graph outputs",
      conv([](TinyModel& t) { t.model.outputs = {}; }));
  add("graph output twice", kGraphOutputs, "named twice", conv([](TinyModel& t) {
        t.model.outputs = {kLogits, kLogits};
      }));
  add("graph output out of range", kGraphOutputs, "tensor 4294967295",
      conv([](TinyModel& t) { t.model.outputs = {kNoTensor}; }));
  add("graph output is an input", kGraphOutputs, "is made by no node", conv([](TinyModel& t) {
        t.model.outputs = {kLogits, kImage};
      }));
  add("65537 nodes", kNodeCount, "65537 nodes", conv([](TinyModel& t) {
        for (size_t i = t.model.nodes.size(); i < 65537; ++i)
          t.node(long_name("n", i), MaxPoolAttrs{}, {kY1}, {kPool});
      }));
  add("max pool of two inputs", kNodeArity, "node 2 'pool' (max_pool): 2 inputs, not 1 to 1",
      inputs(kPoolN, [](auto& in) { in.push_back(kY1); }));
  add("convolution of three inputs", kNodeArity, "3 inputs, not 4 to 7",
      inputs(kConv1, [](auto& in) { in.resize(3); }));
  add("node without outputs", kNodeArity, "0 outputs",
      conv([](TinyModel& t) { t.model.nodes[kPoolN].outputs = {}; }));
  add("input out of range", kNodeOperand, "multiplier is tensor 25",
      inputs(kConv1, [](auto& in) { in[kMultiplier] = 25; }));
  add("required input absent", kNodeOperand, "bias is tensor 4294967295",
      inputs(kConv1, [](auto& in) { in[kBias] = kNoTensor; }));
  add("required output absent", kNodeOperand, "y is tensor 4294967295",
      conv([](TinyModel& t) { t.model.nodes[kPoolN].outputs = {kNoTensor}; }));
  add("weights of unsigned codes", kNodeType, "weights cannot be u8",
      inputs(kFc, [](auto& in) { in[kWeights] = kTableT; }));
  add("convolution of f32", kNodeType, "x cannot be f32",
      linear([](TinyModel& t) { t.model.nodes[1].inputs[0] = 0; }));
  add("signed output", kNodeType, "y cannot be s8",
      tensor(kAvg, [](Tensor& t) { t.dtype = DType::kS8; }));
  add("computed weights", kNodeRole, "weights is not constant",
      tensor(kW4, [](Tensor& t) { t.data = {}; }));
  add("constant activation", kNodeRole, "x is constant", conv([](TinyModel& t) {
        const TensorId c = t.codes("c", DType::kU8, {1, 8}, {1, 2, 3, 4, 5, 6, 7, 8});
        t.model.tensors[c].quant.scale = 1.0F;
        t.model.nodes[kFc].inputs[0] = c;
      }));
  add("codes without a scale", kNodeQuantised, "y has scale 0",
      tensor(kPool, [](Tensor& t) { t.quant.scale = 0; }));
  add("pixels with a scale", kNodeQuantised, "x has scale 1",
      tensor(kImage, [](Tensor& t) { t.quant.scale = 1; }));
  add("table with a scale", kNodeQuantised, "table has scale 1",
      tensor(kTableT, [](Tensor& t) { t.quant.scale = 1; }));
  add("nodes in the wrong order", kNodeOrder, "reads tensor 7 'conv1.out' before",
      conv([](TinyModel& t) { std::swap(t.model.nodes[kConv1], t.model.nodes[kPoolN]); }));
  add("node reads what it makes", kNodeOrder, "node 4 'conv3' (conv2d): reads tensor 18",
      inputs(kConv3, [](auto& in) { in[kResidual] = kY3; }));
  add("tensor made twice", kNodeAssignment, "tensor 12 'conv2.out' is made already",
      conv([](TinyModel& t) {
        t.model.nodes[kConv2].outputs = {kY2, kY2};
      }));
  add("graph input made by a node", kNodeAssignment, "is made already", conv([](TinyModel& t) {
        t.model.inputs.push_back(kLogits);
        t.model.labels.clear();
      }));
  add("result that nobody reads", kGraphDead, "node 8 'extra'", conv([](TinyModel& t) {
        const TensorId y = t.activation("extra.out", DType::kU4, {1, 8, 6, 6}, 0.5F);
        t.node("extra", MaxPoolAttrs{}, {kY1}, {y});
      }));
  add("tensor that nobody reads", kGraphUnused, "tensor 25 'extra'", conv([](TinyModel& t) {
        t.activation("extra", DType::kF32, {1, 4});
      }));
  add("graph input that nobody reads", kGraphUnused, "tensor 25 'extra'", conv([](TinyModel& t) {
        t.model.inputs.push_back(t.activation("extra", DType::kF32, {1, 4}));
      }));
}

void add_nodes(
    const std::function<void(const char*, Check, const char*, std::function<File()>)>& add) {
  using enum Check;
  add("image of rank 3", kNodeShape, "x has shape 1x6x18, not rank 4",
      tensor(kImage, [](Tensor& t) {
        t.shape = {1, 6, 18};
      }));
  add("table for one colour too few", kNodeShape, "table has shape 3x256, not 4x256",
      tensor(kImage, [](Tensor& t) { t.shape[3] = 4; }));
  add("weights of another depth", kNodeShape, "take 8 channels, x has 3",
      inputs(kConv1, [](auto& in) { in[kWeights] = kW2; }));
  add("linear of a plane", kNodeShape, "neither MxK nor NxCx1x1",
      inputs(kFc, [](auto& in) { in[0] = kSum; }));
  add("linear of another width", kNodeShape, "x has 12 columns, weights 7",
      linear([](TinyModel& t) { t.model.nodes[2].inputs[0] = 1; }));
  add("sum of two shapes", kNodeShape, "a has shape 1x8x3x3, b 1x8x6x6",
      inputs(kAddN, [](auto& in) { in[1] = kY1; }));
  add("stride 0", kNodeGeometry, "stride 0",
      attrs<Conv2dAttrs>(kConv1, [](auto& a) { a.stride_h = 0; }));
  add("dilation 0", kNodeGeometry, "dilation 0",
      attrs<Conv2dAttrs>(kConv1, [](auto& a) { a.dilation_w = 0; }));
  add("stride 2^32 - 1", kNodeGeometry, "stride 4294967295",
      attrs<Conv2dAttrs>(kConv1, [](auto& a) { a.stride_w = 0xFFFFFFFF; }));
  add("kernel 0", kNodeGeometry, "kernel 0",
      attrs<MaxPoolAttrs>(kPoolN, [](auto& a) { a.kernel_w = 0; }));
  add("one kernel side 0", kNodeGeometry, "kernel 0",
      attrs<AvgPoolAttrs>(kAvgN, [](auto& a) { a.kernel_h = 3; }));
  add("padding of a whole kernel", kNodeGeometry,
      "padding 3 and 0 not less than the kernel's extent 3",
      attrs<MaxPoolAttrs>(kPoolN, [](auto& a) { a.pad_top = 3; }));
  add("padding 2^32 - 1", kNodeGeometry, "padding 1 and 4294967295",
      attrs<Conv2dAttrs>(kConv1, [](auto& a) { a.pad_bottom = 0xFFFFFFFF; }));
  add("kernel beyond the input", kNodeGeometry, "extent 9 exceeds the padded input 8",
      attrs<Conv2dAttrs>(kConv1, [](auto& a) { a.dilation_h = 4; }));
  add("0 groups", kNodeGroups, "0 groups",
      attrs<Conv2dAttrs>(kConv3, [](auto& a) { a.groups = 0; }));
  add("3 groups of 8 channels", kNodeGroups, "3 groups do not divide 8",
      attrs<Conv2dAttrs>(kConv3, [](auto& a) { a.groups = 3; }));
  add("output one row short", kNodeOutputShape, "has shape 1x8x5x6, inferred 1x8x6x6",
      tensor(kY1, [](Tensor& t) { t.shape[2] = 5; }));
  add("second output of another shape", kNodeOutputShape, "conv2.low",
      tensor(kLow, [](Tensor& t) { t.shape[3] = 4; }));
  add("7 multipliers for 8 channels", kNodeChannels, "multiplier has shape 5, not 8",
      inputs(kConv1, [](auto& in) { in[kMultiplier] = kM4; }));
  add("sums' bias of another length", kNodeChannels, "acc_bias has shape 7, not 3",
      linear([](TinyModel& t) {
        t.model.nodes[2].inputs.push_back(t.model.nodes[1].inputs[kAccBias]);
      }));
  add("code range upside down", kNodeCodeRange, "codes 9..8",
      requant(kConv1, [](Requant& r) { r.lo = 9, r.hi = 8; }));
  add("codes 0..16 of u4", kNodeCodeRange, "codes 0..16 of u4",
      requant(kConv1, [](Requant& r) { r.hi = 16; }));
  add("codes from -1", kNodeCodeRange, "codes -1..15",
      requant(kConv1, [](Requant& r) { r.lo = -1; }));
  add("second codes to 255 of u4", kNodeCodeRange, "codes 0..255 of u4",
      requant(kConv2, [](Requant& r) { r.second_hi = 255; }));
  add("negative multiplier", kNodeMultiplier, "a multiplier", value(kM1, 3, -1.0F));
  add("multiplier not a number", kNodeMultiplier, "a multiplier", value(kM1, 7, kNaN));
  add("infinite multiplier", kNodeMultiplier, "a multiplier", value(kM1, 0, kInfinity));
  add("denormal multiplier", kNodeMultiplier, "a multiplier", value(kM1, 0, kDenormal));
  add("residual without a scale", kNodeMultiplier, "residual scale 0",
      requant(kConv2, [](Requant& r) { r.residual_scale = 0; }));
  add("second output without a scale", kNodeMultiplier, "second scale 0",
      requant(kConv2, [](Requant& r) { r.second_scale = 0; }));
  add("average without a multiplier", kNodeMultiplier, "multiplier 0",
      attrs<AvgPoolAttrs>(kAvgN, [](auto& a) { a.multiplier = 0; }));
  add("sum with a negative scale", kNodeMultiplier, "scale of b -1",
      attrs<AddAttrs>(kAddN, [](auto& a) { a.scale_b = -1; }));
  add("infinite bias", kNodeBias, "a bias", value(kB1, 2, -kInfinity));
  add("second bias not a number", kNodeBias, "second bias",
      requant(kConv2, [](Requant& r) { r.second_bias = kNaN; }));
  add("average's bias infinite", kNodeBias, "bias inf",
      attrs<AvgPoolAttrs>(kAvgN, [](auto& a) { a.bias = kInfinity; }));
  add("table entry 255 of u4", kNodeTable, "table entry 255 is no code of u4",
      tensor(kXT, [](Tensor& t) { t.dtype = DType::kU4; }));
  add("shift without factors", kNodeResidual, "shift 4 without factors",
      inputs(kConv3, [](auto& in) { in.pop_back(); }));
  add("factors without a shift", kNodeResidual, "shift -1 with factors",
      requant(kConv3, [](Requant& r) { r.residual_shift = -1; }));
  add("shift 32", kNodeResidual, "residual shift 32",
      requant(kConv3, [](Requant& r) { r.residual_shift = 32; }));
  add("factors without a residual", kNodeResidual, "without a residual",
      inputs(kConv3, [](auto& in) { in[kResidual] = kNoTensor; }));
  add("residual of another shape", kNodeResidual, "residual has shape 1x8x6x6",
      inputs(kConv2, [](auto& in) { in[kResidual] = kY1; }));
  add("second output beside f32", kNodeSecond, "second output beside f32", conv([](TinyModel& t) {
        const TensorId y = t.activation("second", DType::kU8, {1, 5}, 1.0F);
        t.model.nodes[kFc].outputs.push_back(y);
        t.model.outputs.push_back(y);
        std::get<LinearAttrs>(t.model.nodes[kFc].attrs).requant.second_scale = 1.0F;
      }));
  add("max pool changes the scale", kNodePoolQuant, "becomes u4 with 1",
      tensor(kPool, [](Tensor& t) { t.quant.scale = 1.0F; }));
  add("max pool changes the zero point", kNodePoolQuant, "zero point 0 becomes",
      tensor(kPool, [](Tensor& t) { t.quant.zero_point = 1; }));
  add("sum's bias 2^31 - 1", kNodeAccumulator, "channel 4 can sum up to",
      value(kA1, 4, std::numeric_limits<int32_t>::max()));
  add("sum's bias -2^31", kNodeAccumulator, "channel 0 can sum up to",
      value(kA1, 0, std::numeric_limits<int32_t>::min()));
  add("residual factor 2^31 - 1", kNodeAccumulator, "channel 6", conv([](TinyModel& t) {
        std::get<Conv2dAttrs>(t.model.nodes[kConv3].attrs).requant.residual_shift = 0;
        const int32_t factor = std::numeric_limits<int32_t>::max();
        for (auto& bytes : t.storage)
          if (bytes.data() == t.model.tensors[kF3].data.data())
            std::memcpy(bytes.data() + 24, &factor, 4);
      }));
  add("average of 2^24 codes of 255", kNodeAccumulator, "sum up to", [] {
    TinyModel t;
    const TensorId x = t.activation("x", DType::kU8, {1, 1, 4096, 4096}, 1.0F);
    const TensorId y = t.activation("y", DType::kU8, {1, 1, 1, 1}, 1.0F);
    t.node("avg", AvgPoolAttrs{.multiplier = 1.0F}, {x}, {y});
    t.model.inputs = {x};
    t.model.outputs = {y};
    return file_of(t.model);
  });
  add("weights shared by too many exact proofs", kNodeAccumulator, "too many weights",
      linear(share_big_weights));
}

// A node, or a tensor, of tiny_text_net() by name.
Node& node_named(TinyModel& t, const std::string& name) {
  for (Node& node : t.model.nodes)
    if (node.name == name) return node;
  std::abort();
}
TensorId named(const TinyModel& t, const std::string& name) {
  for (TensorId id = 0; id < t.model.tensors.size(); ++id)
    if (t.model.tensors[id].name == name) return id;
  std::abort();
}
std::function<File()> text_tensor(const char* name, const std::function<void(Tensor&)>& change) {
  return text([=](TinyModel& t) { change(t.model.tensors[named(t, name)]); });
}
// A change of element i of a constant of 4-byte values.
std::function<File()> text_value(const char* name, size_t i, float number) {
  return text([=](TinyModel& t) {
    const std::byte* data = t.model.tensors[named(t, name)].data.data();
    for (auto& bytes : t.storage)
      if (bytes.data() == data) std::memcpy(bytes.data() + 4 * i, &number, 4);
  });
}

void add_sequences(
    const std::function<void(const char*, Check, const char*, std::function<File()>)>& add) {
  using enum Check;
  add("activation of sums", kNodeActivation, "'fc3' (linear): activation of sums",
      linear([](TinyModel& t) {
        std::get<LinearAttrs>(t.model.nodes[3].attrs).requant.activation = Activation::kGelu;
      }));
  add("activation without a scale", kNodeMultiplier, "activation scale 0", text([](TinyModel& t) {
        std::get<LinearAttrs>(node_named(t, "up").attrs).requant.activation_scale = 0;
      }));
  add("activation's bias not a number", kNodeBias, "activation bias nan", text([](TinyModel& t) {
        std::get<LinearAttrs>(node_named(t, "up").attrs).requant.activation_bias = kNaN;
      }));
  add("three heads for eight columns", kNodeHeads, "3 heads do not divide a third of 24",
      text([](TinyModel& t) {
        std::get<AttentionAttrs>(node_named(t, "attention").attrs).heads = 3;
      }));
  add("no heads", kNodeHeads, "0 heads", text([](TinyModel& t) {
        std::get<AttentionAttrs>(node_named(t, "attention").attrs).heads = 0;
      }));
  add("qkv with zero point 127", kNodeHeads, "zero point 127",
      text_tensor("qkv.out", [](Tensor& x) { x.quant.zero_point = 127; }));
  add("score scales of other heads", kNodeHeads, "score_scale has shape 8", text([](TinyModel& t) {
        node_named(t, "attention").inputs[kScoreScale] = named(t, "norm0.gamma");
      }));
  add("relative bias of another length", kNodeHeads, "relative bias has shape 8x8, not 2x11",
      text([](TinyModel& t) {
        node_named(t, "attention").inputs[kRelativeBias] = named(t, "positions");
      }));
  add("negative score scale", kNodeMultiplier, "a score_scale",
      text_value("attention.score", 1, -1.0F));
  add("value scale not a number", kNodeMultiplier, "a value_scale",
      text_value("attention.value", 0, kNaN));
  add("relative bias infinite", kNodeBias, "relative_bias is not finite",
      text_value("attention.bias", 21, kInfinity));
  add("attention codes to 16 of u4", kNodeCodeRange, "codes 0..16", text([](TinyModel& t) {
        std::get<AttentionAttrs>(node_named(t, "attention").attrs).hi = 16;
      }));
  add("words of codes without scales", kNodeRows, "words of s8 without scales",
      text([](TinyModel& t) { node_named(t, "embed").inputs[kWordScale] = kNoTensor; }));
  add("scales of ten words", kNodeRows, "3 scales for 11 words", text([](TinyModel& t) {
        node_named(t, "embed").inputs[kWordScale] = named(t, "head.bias");
      }));
  add("a position too few", kNodeRows, "8 positions, 9 are needed", text([](TinyModel& t) {
        std::get<EmbeddingAttrs>(node_named(t, "embed").attrs).position_offset = 3;
      }));
  add("types without rows", kNodeRows, "do not come together", text([](TinyModel& t) {
        node_named(t, "embed").inputs[kTypeRows] = kNoTensor;
        node_named(t, "embed").inputs.pop_back();
      }));
  add("position not a number", kNodeBias, "positions is not finite",
      text_value("positions", 5, kNaN));
  add("gamma of another width", kNodeChannels, "gamma has shape 12, not 8",
      text([](TinyModel& t) { node_named(t, "norm1").inputs[kGamma] = named(t, "up.bias"); }));
  add("beta infinite", kNodeBias, "beta is not finite", text_value("norm1.beta", 3, kInfinity));
  add("epsilon 0", kNodeMultiplier, "epsilon 0", text([](TinyModel& t) {
        std::get<LayerNormAttrs>(node_named(t, "norm2").attrs).epsilon = 0;
      }));
  add("normalised codes to 16 of u4", kNodeCodeRange, "codes 0..16", text([](TinyModel& t) {
        std::get<LayerNormAttrs>(node_named(t, "norm1").attrs).second_hi = 16;
      }));
  const char* const together =
      "second_gamma, second_beta and the second output do not come together";
  add("second gamma without beta", kNodeRows, together,
      text([](TinyModel& t) { node_named(t, "norm0").inputs.pop_back(); }));
  add("second beta without gamma", kNodeRows, together,
      text([](TinyModel& t) { node_named(t, "norm0").inputs[kSecondGamma] = kNoTensor; }));
  add("second gamma without a second output", kNodeRows, together, text([](TinyModel& t) {
        for (const char* name : {"norm0.second_gamma", "norm0.second_beta"})
          node_named(t, "norm2").inputs.push_back(named(t, name));
      }));
  add("second gamma of another width", kNodeChannels, "second_gamma has shape 12, not 8",
      text(
          [](TinyModel& t) { node_named(t, "norm0").inputs[kSecondGamma] = named(t, "up.bias"); }));
  add("second beta of another width", kNodeChannels, "second_beta has shape 3, not 8",
      text([](TinyModel& t) {
        node_named(t, "norm0").inputs[kSecondBeta] = named(t, "head.bias");
      }));
  add("second gamma of codes", kNodeType, "second_gamma cannot be s8",
      text([](TinyModel& t) { node_named(t, "norm0").inputs[kSecondGamma] = named(t, "words"); }));
  add("second gamma that is computed", kNodeRole, "second_gamma is not constant",
      text([](TinyModel& t) {
        node_named(t, "norm0").inputs[kSecondGamma] = named(t, "embedded");
      }));
  add("second gamma not a number", kNodeBias, "second_gamma is not finite",
      text_value("norm0.second_gamma", 7, kNaN));
  add("second beta infinite", kNodeBias, "second_beta is not finite",
      text_value("norm0.second_beta", 0, kInfinity));
  add("second scale beside second gamma", kNodeRows,
      "second scale 2 and bias 0 beside second_gamma", text([](TinyModel& t) {
        std::get<LayerNormAttrs>(node_named(t, "norm0").attrs).second_scale = 2.0F;
      }));
  add("second bias beside second gamma", kNodeRows, "scale 0 and bias 120 beside",
      text([](TinyModel& t) {
        std::get<LayerNormAttrs>(node_named(t, "norm0").attrs).second_bias = 120.0F;
      }));
  add("normalised codes without a scale", kNodeMultiplier, "second scale 0", text([](TinyModel& t) {
        std::get<LayerNormAttrs>(node_named(t, "norm1").attrs).second_scale = 0;
      }));
  add("seven operands of a normalisation", kNodeArity, "7 inputs",
      text([](TinyModel& t) { node_named(t, "norm0").inputs.push_back(named(t, "up.bias")); }));
  add("sequence operators without a length", kGraphSequence, "needs a sequence length", [] {
    TinyModel t;
    const TensorId x = t.activation("x", DType::kF32, {1, 8}),
                   y = t.activation("y", DType::kF32, {1, 8});
    t.node("pool", SequencePoolAttrs{}, {x}, {y});
    t.model.inputs = {x};
    t.model.outputs = {y};
    return file_of(t.model);
  });
  add("sequences of 32769", kGraphSequence, "32769 tokens",
      conv([](TinyModel& t) { t.model.sequence_length = 32769; }));
  add("sequences of images", kGraphSequence, "0 embeddings",
      conv([](TinyModel& t) { t.model.sequence_length = 5; }));
  add("rows of tokens and sequences", kGraphSequence, "mixes rows", text([](TinyModel& t) {
        const TensorId y = t.activation("mixed", DType::kF32, {1, 8});
        t.node(
            "mix", LayerNormAttrs{},
            {named(t, "mean"), named(t, "hidden"), named(t, "norm2.gamma"), named(t, "norm2.beta")},
            {y});
        t.model.outputs.push_back(y);
      }));
  add("pooling of what is pooled", kGraphSequence, "reads rows of sequences",
      text([](TinyModel& t) {
        const TensorId y = t.activation("again", DType::kF32, {1, 8});
        t.node("again", SequencePoolAttrs{}, {named(t, "mean")}, {y});
        t.model.outputs.push_back(y);
      }));
  add("vocabulary without a tokenizer", kVocabulary, "without text preprocessing",
      text([](TinyModel& t) { t.model.has_text_preprocess = false; }));
  add("tokenizer without a vocabulary", kVocabulary, "of 0 bytes with text preprocessing",
      text([](TinyModel& t) { t.model.vocabulary = {}; }));
  add("vocabulary cut short", kVocabulary, "must end with a line feed", text([](TinyModel& t) {
        t.model.vocabulary = t.model.vocabulary.first(t.model.vocabulary.size() - 1);
      }));
  add("vocabulary of a control character", kVocabulary, "not clean UTF-8",
      text([](TinyModel& t) { t.storage.back()[1] = std::byte{1}; }));
  add("mask token out of the vocabulary", kTokenizer, "special token 11 of 11",
      text([](TinyModel& t) { t.model.text.mask = 11; }));
  add("no separator between texts", kTokenizer, "0 separators",
      text([](TinyModel& t) { t.model.text.pair_separators = 0; }));
  add("more tokens than rows", kTokenizer, "vocabulary of 12 tokens, the embedding has 11",
      text([](TinyModel& t) {
        t.storage.back().push_back(std::byte{'x'});
        t.storage.back().push_back(std::byte{'\n'});
        t.model.vocabulary = t.storage.back();
      }));
  add("part of a whole layer", kMapLayer, "'up' is there twice", text([](TinyModel& t) {
        t.model.map.layers.push_back({"up", 2, 4, 1, "half"});
      }));
  add("part with a tab", kMapLayer, "part of 3 bytes",
      text([](TinyModel& t) { t.model.map.layers[0].part = "a\tb"; }));
}

void add_extras(
    const std::function<void(const char*, Check, const char*, std::function<File()>)>& add) {
  using enum Check;
  add("map layer of a pool", kMapLayer, "'pool' is no conv2d or linear",
      conv([](TinyModel& t) { t.model.map.layers[0].node = "pool"; }));
  add("map layer twice", kMapLayer, "'conv2' is there twice",
      conv([](TinyModel& t) { t.model.map.layers[0] = t.model.map.layers[1]; }));
  add("map says 4 bits of 8", kMapBits, "'conv1' has weights of 4",
      conv([](TinyModel& t) { t.model.map.layers[0].weight_bits = 4; }));
  add("map says 3-bit activations", kMapBits, "activations of 3 bits",
      conv([](TinyModel& t) { t.model.map.layers[0].activation_bits = 3; }));
  add("map group 2 of 2", kMapGroup, "group 2 of 2",
      conv([](TinyModel& t) { t.model.map.layers[2].group = 2; }));
  add("gain not a number", kMapNumber, "group 1: gain nan",
      conv([](TinyModel& t) { t.model.map.groups[1].gain = kNaN; }));
  add("infinite budget", kMapNumber, "budget inf",
      conv([](TinyModel& t) { t.model.map.budget = kInfinity; }));
  add("source digest of 63 digits", kMapNumber, "source digest of 63",
      conv([](TinyModel& t) { t.model.map.source_sha256.assign(63, 'a'); }));
  add("source digest in capitals", kMapNumber, "source digest of 64",
      conv([](TinyModel& t) { t.model.map.source_sha256.assign(64, 'A'); }));
  add("crop of another size", kImageCrop, "crop 5x6",
      conv([](TinyModel& t) { t.model.image.crop_h = 5; }));
  add("crop larger than the image", kImageCrop, "shorter side 5",
      conv([](TinyModel& t) { t.model.image.resize_shorter = 5; }));
  add("image of a matrix", kImageCrop, "size of graph input 0, 1x12",
      linear([](TinyModel& t) { t.model.has_image_preprocess = true; }));
  add("deviation 0", kImageNormalise, "standard deviation 0 of colour 1",
      conv([](TinyModel& t) { t.model.image.stddev[1] = 0; }));
  add("mean not a number", kImageNormalise, "mean nan",
      conv([](TinyModel& t) { t.model.image.mean[2] = kNaN; }));
  add("four labels for five classes", kLabelCount, "4 labels, graph output 0 has 5",
      conv([](TinyModel& t) { t.model.labels.pop_back(); }));
  add("65537 labels", kLabelCount, "65537 labels",
      conv([](TinyModel& t) { t.model.labels.assign(65537, "x"); }));
  const auto prepack = [](std::vector<Prepacked> entries) {
    return linear([=](TinyModel& t) {
      static const std::vector<std::byte> data(100, std::byte{7});
      t.model.prepacked = entries;
      for (Prepacked& p : t.model.prepacked) p.data = data;
    });
  };
  add("prepacked of no node", kPrepackedNode, "prepacked 0: node 4", prepack({{4, "a/1", {}}}));
  add("prepacked of a node without weights", kPrepackedNode, "node 0 is no conv2d",
      prepack({{0, "a/1", {}}}));
  add("prepacked without a layout", kPrepackedNode, "layout of 0 bytes", prepack({{1, "", {}}}));
  add("prepacked twice", kPrepackedNode, "has layout 'a/1' twice",
      prepack({{1, "a/1", {}}, {2, "a/1", {}}, {1, "a/1", {}}}));
}

}  // namespace

void add_bad_meaning(std::vector<BadFile>* list) {
  const auto add = [&](const char* name, Check check, const char* says,
                       std::function<File()> make) {
    list->push_back({name, check, says, std::move(make)});
  };
  add_texts_and_tensors(add);
  add_graph(add);
  add_nodes(add);
  add_sequences(add);
  add_extras(add);
}

}  // namespace mpq::test
