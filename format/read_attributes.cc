// The operator of a node: one case an operator, in the order of the schema's union.
#include "format/checks.h"
#include "format/read_tables.h"
#include "mpq_generated.h"

namespace mpq::format {
namespace {

static_assert(static_cast<int>(fb::Attributes::MAX) == kOpCodeCount);  // op code + 1

Requant requant(const fb::Requant& r) {
  return {.lo = r.lo(),
          .hi = r.hi(),
          .residual_scale = r.residual_scale(),
          .residual_shift = r.residual_shift(),
          .second_scale = r.second_scale(),
          .second_bias = r.second_bias(),
          .second_lo = r.second_lo(),
          .second_hi = r.second_hi(),
          .activation = static_cast<Activation>(r.activation()),
          .activation_scale = r.activation_scale(),
          .activation_bias = r.activation_bias()};
}

static_assert(static_cast<int>(fb::Activation::MAX) == static_cast<int>(Activation::kTanh));
static_assert(static_cast<int>(fb::SequencePoolMode::MAX) ==
              static_cast<int>(SequencePoolAttrs::Mode::kMean));

}  // namespace

Checked read_attributes(const fb::Node& n, Place who, Attrs* out) {
  using enum fb::Attributes;
  MPQ_REQUIRE(kMetadataEnum, n.attributes_type() <= fb::Attributes::MAX, who, ": unknown operator ",
              static_cast<int>(n.attributes_type()));
  const fb::Requant* r = n.attributes_type() == Conv2d && n.attributes() != nullptr
                             ? n.attributes_as_Conv2d()->requant()
                         : n.attributes_type() == Linear && n.attributes() != nullptr
                             ? n.attributes_as_Linear()->requant()
                             : nullptr;
  const bool needs_requant = n.attributes_type() == Conv2d || n.attributes_type() == Linear;
  MPQ_REQUIRE(kMetadataMissing, n.attributes_type() != NONE && n.attributes() != nullptr, who,
              ": no operator");
  MPQ_REQUIRE(kMetadataMissing, !needs_requant || r != nullptr, who, ": no requantisation");
  MPQ_REQUIRE(kMetadataEnum, r == nullptr || r->activation() <= fb::Activation::MAX, who,
              ": unknown activation ", static_cast<int>(r->activation()));
  switch (n.attributes_type()) {
    case NONE:
      break;
    case ImageQuantize:
      *out = ImageQuantizeAttrs{};
      break;
    case Quantize:
      *out = QuantizeAttrs{};
      break;
    case Conv2d: {
      const fb::Conv2d& a = *n.attributes_as_Conv2d();
      *out =
          Conv2dAttrs{a.stride_h(),  a.stride_w(),   a.pad_top(),    a.pad_left(), a.pad_bottom(),
                      a.pad_right(), a.dilation_h(), a.dilation_w(), a.groups(),   requant(*r)};
      break;
    }
    case Linear:
      *out = LinearAttrs{requant(*r)};
      break;
    case MaxPool: {
      const fb::MaxPool& a = *n.attributes_as_MaxPool();
      *out = MaxPoolAttrs{a.kernel_h(), a.kernel_w(), a.stride_h(),   a.stride_w(),
                          a.pad_top(),  a.pad_left(), a.pad_bottom(), a.pad_right()};
      break;
    }
    case AvgPool: {
      const fb::AvgPool& a = *n.attributes_as_AvgPool();
      *out = AvgPoolAttrs{a.kernel_h(),   a.kernel_w(), a.stride_h(), a.stride_w(),
                          a.multiplier(), a.bias(),     a.lo(),       a.hi()};
      break;
    }
    case Add: {
      const fb::Add& a = *n.attributes_as_Add();
      *out = AddAttrs{a.scale_a(),      a.scale_b(),     a.bias(),      a.lo(),       a.hi(),
                      a.second_scale(), a.second_bias(), a.second_lo(), a.second_hi()};
      break;
    }
    case Embedding:
      *out = EmbeddingAttrs{n.attributes_as_Embedding()->position_offset()};
      break;
    case LayerNorm: {
      const fb::LayerNorm& a = *n.attributes_as_LayerNorm();
      *out = LayerNormAttrs{a.epsilon(), a.second_scale(), a.second_bias(), a.second_lo(),
                            a.second_hi()};
      break;
    }
    case Attention: {
      const fb::Attention& a = *n.attributes_as_Attention();
      *out = AttentionAttrs{a.heads(), a.out_bias(), a.lo(), a.hi()};
      break;
    }
    case SequencePool: {
      const fb::SequencePool& a = *n.attributes_as_SequencePool();
      MPQ_REQUIRE(kMetadataEnum, a.mode() <= fb::SequencePoolMode::MAX, who, ": unknown mode ",
                  static_cast<int>(a.mode()));
      MPQ_REQUIRE(kMetadataFlag, a.normalise() <= 1, who, ": flag ", a.normalise(),
                  " is neither 0 nor 1");
      *out = SequencePoolAttrs{static_cast<SequencePoolAttrs::Mode>(a.mode()), a.normalise() == 1};
      break;
    }
  }
  return Ok{};
}

}  // namespace mpq::format
