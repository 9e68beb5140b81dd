#include "converter/cli/input.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "converter/cli/output.h"
#include "converter/data/dataset.h"
#include "converter/data/read_file.h"
#include "converter/nvidia/source.h"
#include "converter/transformer/import.h"
#include "format/reader.h"

namespace mpq::convert::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

// Files that users confuse with models, by their first bytes.
struct Magic {
  std::string_view bytes, what;
};
constexpr Magic kOthers[] = {
    {"\xFD"
     "7zXZ"sv,
     "an xz archive: unpack it first (tar -xJf) and give the folder"},
    {"\x1F\x8B"sv, "a gzip archive: unpack it first (tar -xzf)"},
    {"PK\x03\x04"sv, "a zip archive (a PyTorch checkpoint?): export the network to ONNX"},
    {"\x89HDF"sv, "an HDF5 file (Keras?): export the network to ONNX"},
    {"\xFF\xD8\xFF"sv, "a JPEG image"},
    {"\x89PNG"sv, "a PNG image"},
};
constexpr std::string_view kTfliteMagic = "TFL3";  // at byte 4

// A serialised ModelProto begins with a field below 32 of a known wire type; ir_version (field 1)
// in everything that exporters write.
bool looks_like_onnx(std::string_view head) {
  return head.size() > 2 && head[0] == 0x08 && head[1] > 0 && head[1] < 64;
}

std::string_view trim(std::string_view s) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

// "n01440764 tench, Tinca tinca" -> "tench, Tinca tinca"
std::string_view without_synset(std::string_view line) {
  constexpr size_t kDigits = 8;
  if (line.size() < kDigits + 2 || line[0] != 'n' || line[kDigits + 1] != ' ') return line;
  const auto digits = line.substr(1, kDigits);
  const bool all = std::all_of(digits.begin(), digits.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
  });
  return all ? trim(line.substr(kDigits + 1)) : line;
}

}  // namespace

Result<InputKind> recognise(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (nvidia::looks_like_release(path)) return InputKind::kNvidia;
    if (transformer::looks_like_encoder(path)) return InputKind::kEncoder;
    return Error{Status::kCorrupt,
                 path +
                     ": a folder with neither config.json and model.safetensors nor model/model "
                     "of type ResNetQuantized"};
  }
  MPQ_TRY(const data::File file, data::File::open(path));
  constexpr uint64_t kHead = 64;
  MPQ_TRY(const std::vector<std::byte> bytes, file.read(0, std::min(kHead, file.size())));
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (format::looks_like_model(bytes))
    return Error{Status::kUnsupported, path + ": is a converted model already; run it with mpqrun"};
  for (const Magic& other : kOthers)
    if (head.starts_with(other.bytes))
      return Error{Status::kCorrupt, path + ": is " + std::string(other.what)};
  if (head.size() >= 8 && head.substr(4, 4) == kTfliteMagic)
    return Error{Status::kUnsupported, path + ": is a TFLite model: export the network to ONNX"};
  if (!looks_like_onnx(head)) return Error{Status::kCorrupt, path + ": is no ONNX model"};
  return InputKind::kOnnx;
}

Result<std::vector<std::string>> read_labels(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored) || fs::path(path).extension() == ".tar") {
    MPQ_TRY(const data::ImageDataset dataset, data::ImageDataset::open(path));
    if (dataset.class_names().empty())
      return Error{Status::kCorrupt, path + ": has no class names"};
    return dataset.class_names();
  }
  MPQ_TRY(const std::string text, read_text(path));
  std::vector<std::string> labels;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    labels.emplace_back(without_synset(trim(rest.substr(0, end))));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  if (labels.empty()) return Error{Status::kCorrupt, path + ": has no class names"};
  return labels;
}

}  // namespace mpq::convert::cli
