#include "converter/cli/images.h"

#include <algorithm>

#include "converter/cli/progress.h"
#include "converter/data/dataset.h"
#include "converter/data/image.h"
#include "converter/precision/names.h"
#include "converter/random.h"

namespace mpq::convert::cli {
namespace {

using Resize = format::ImagePreprocess::Resize;

constexpr std::array<float, 3> kImagenetMean = {0.485F, 0.456F, 0.406F};
constexpr std::array<float, 3> kImagenetStddev = {0.229F, 0.224F, 0.225F};

// resize: the shorter side before the crop, for a crop of 224; other crops in proportion.
struct Preset {
  const char* name;
  const char* what;
  uint32_t resize_for_224;
  Resize method;
  std::array<float, 3> mean, stddev;
};
constexpr Preset kPresets[] = {
    {"torchvision-v1", "shorter side to 256, bilinear; centre 224; ImageNet mean and deviation",
     256, Resize::kBilinearAntialias, kImagenetMean, kImagenetStddev},
    {"torchvision-v2", "shorter side to 232, bilinear; centre 224; ImageNet mean and deviation",
     232, Resize::kBilinearAntialias, kImagenetMean, kImagenetStddev},
    {"timm-bicubic", "shorter side to 256, bicubic; centre 224; ImageNet mean and deviation", 256,
     Resize::kBicubicAntialias, kImagenetMean, kImagenetStddev},
    {"mlperf",
     "shorter side to 256, area; centre 224; subtract 123.68 116.78 103.94, no division",
     256,
     Resize::kArea,
     {123.68F / 255.0F, 116.78F / 255.0F, 103.94F / 255.0F},
     {1.0F / 255.0F, 1.0F / 255.0F, 1.0F / 255.0F}},
    {"small",
     "images of the network's size, such as CIFAR-10's: no resize; ImageNet mean and deviation",
     224, Resize::kBilinearAntialias, kImagenetMean, kImagenetStddev},
    {"unit",
     "shorter side to 256, bilinear; centre 224; pixels from 0 to 1",
     256,
     Resize::kBilinearAntialias,
     {0.0F, 0.0F, 0.0F},
     {1.0F, 1.0F, 1.0F}},
};

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& row : kPresets) names.emplace_back(row.name);
  return names;
}

std::string preset_help() {
  std::string text;
  for (const Preset& row : kPresets) text += std::string("  ") + row.name + ": " + row.what + "\n";
  return text;
}

Result<format::ImagePreprocess> preset(const std::string& name, const Shape& input,
                                       bool crop_only_small) {
  const auto* const row = std::find_if(std::begin(kPresets), std::end(kPresets),
                                       [&](const Preset& p) { return name == p.name; });
  if (row == std::end(kPresets))
    return Error{Status::kInvalidArgument, "unknown preset '" + name + "'" +
                                               precision::suggestion(name, preset_names()) +
                                               " Presets:\n" + preset_help()};
  if (input.size() != 4 || input[1] != 3)
    return Error{Status::kUnsupported, "the input " + to_string(input) + " is no RGB image"};
  constexpr int64_t kReference = 224;
  const int64_t shorter = std::min(input[2], input[3]);
  return format::ImagePreprocess{.resize = row->method,
                                 .resize_shorter = static_cast<uint32_t>(
                                     (shorter * row->resize_for_224 + kReference / 2) / kReference),
                                 .crop_only_small = crop_only_small,
                                 .crop_h = static_cast<uint32_t>(input[2]),
                                 .crop_w = static_cast<uint32_t>(input[3]),
                                 .mean = row->mean,
                                 .stddev = row->stddev};
}

Result<Calibration> load_calibration(const std::string& path, uint32_t count, uint64_t seed,
                                     const format::ImagePreprocess& spec, bool quiet) {
  MPQ_TRY(const data::ImageDataset dataset, data::ImageDataset::open(path));
  const std::vector<size_t> chosen = choose(dataset.samples().size(), count, seed);
  if (chosen.empty()) return Error{Status::kCorrupt, path + ": has no images"};
  Calibration calibration;
  Progress progress("calibration images", quiet);
  for (const size_t index : chosen) {
    MPQ_TRY(const std::vector<std::byte> bytes, dataset.read(index));
    MPQ_TRY(const data::Image image, data::decode_image(bytes, dataset.samples()[index].path));
    MPQ_TRY(const std::vector<uint8_t> pixels, data::preprocess(image, spec));
    const std::vector<float> sample = data::normalise_nchw(pixels, spec);
    calibration.samples.insert(calibration.samples.end(), sample.begin(), sample.end());
    progress.update(++calibration.count, chosen.size(), dataset.samples()[index].path);
  }
  return calibration;
}

}  // namespace mpq::convert::cli
