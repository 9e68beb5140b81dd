// What the user gave: recognised by content, never by name.
#pragma once

#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::convert::cli {

enum class InputKind { kOnnx, kNvidia, kEncoder };
inline constexpr char kInputHelp[] =
    "ONNX file, folder of a BERT or MPNet encoder, or of NVIDIA's integer ResNet";

inline constexpr char kTokenizerHelp[] =
    "folder with the tokeniser of a network of texts (default: where the model lies)";

// The error says what the file is instead, and what to do.
Result<InputKind> recognise(const std::string& path);

// Class names: a text file with one a line ("n01440764 tench" gives "tench"), or an image set that
// carries them (folder or tar).
Result<std::vector<std::string>> read_labels(const std::string& path);

}  // namespace mpq::convert::cli
