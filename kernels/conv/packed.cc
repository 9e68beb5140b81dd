#include "kernels/conv/packed.h"

#include <cstring>

#include "kernels/conv/base64.h"
#include "kernels/conv/lookup.h"
#include "kernels/conv/winograd_quarters.h"

namespace mpq::kernels {
namespace {

struct Steered {
  const char* layout;
  bool (*is_safe)(const ConvShape&, uint32_t cb, const void* packed);
};
constexpr Steered kSteered[] = {
    {kBase64Layout, base64_is_safe},
    {kLookupLayout, lookup_is_safe},
    {kWinogradQuartersLayout, winograd_quarters_are_safe},
};

}  // namespace

bool packed_is_safe(const char* layout, const ConvShape& s, uint32_t cb, const void* packed) {
  for (const Steered& steered : kSteered)
    if (std::strcmp(steered.layout, layout) == 0) return steered.is_safe(s, cb, packed);
  return true;
}

}  // namespace mpq::kernels
