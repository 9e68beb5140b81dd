#include "integrations/server/image_input.h"

#include <cstring>

#include "converter/data/image.h"

namespace mpq::serve {

MaybeFailure append_image(std::string_view encoded, const mpq_image_preprocess& preprocess,
                          std::vector<std::byte>* bytes) {
  format::ImagePreprocess spec;
  spec.resize = static_cast<format::ImagePreprocess::Resize>(preprocess.resize);
  spec.resize_shorter = preprocess.resize_shorter;
  spec.crop_only_small = preprocess.crop_only_small != 0;
  spec.crop_h = preprocess.crop_h;
  spec.crop_w = preprocess.crop_w;
  const auto* const first = reinterpret_cast<const std::byte*>(encoded.data());
  const auto image = data::decode_image({first, encoded.size()}, "image");
  if (!image.ok()) return Failure{400, image.error().message};
  const auto pixels = data::preprocess(*image, spec);
  if (!pixels.ok()) return Failure{400, pixels.error().message};
  const size_t old = bytes->size();
  bytes->resize(old + pixels->size());
  std::memcpy(bytes->data() + old, pixels->data(), pixels->size());
  return std::nullopt;
}

}  // namespace mpq::serve
