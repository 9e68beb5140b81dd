// Encoded images as input samples.
#pragma once

#include <mpq.h>

#include <string>
#include <string_view>
#include <vector>

#include "integrations/server/failure.h"

namespace mpq::serve {

/// Decodes a JPEG or PNG, resizes and cuts it as the model says, and appends its pixels to *bytes.
MaybeFailure append_image(std::string_view encoded, const mpq_image_preprocess& preprocess,
                          std::vector<std::byte>* bytes);

}  // namespace mpq::serve
