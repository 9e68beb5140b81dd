#include "tests/format/annotate.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "flatbuffers/minireflect.h"
#include "format/aligned.h"
#include "format/checks.h"
#include "format/header.h"
#include "format/reader.h"
#include "format/writer.h"
#include "mpq_generated.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {
namespace {

using namespace format;
using flatbuffers::TypeTable;

// Pieces of the file in order of their place.
class Annotator {
 public:
  explicit Annotator(std::span<const std::byte> file) : file_(file) {}

  std::string run() {
    const Header h = read_header(file_);
    note(0, 4, concat("offset of the root table: ", hex(h.root)));
    note(4, 4, "identifier \"MPQ1\": major version 1");
    note(8, 4, "magic \"mh01\" of the extended header");
    note(12, 4, concat("header size ", h.header_size));
    note(16, 8, concat("metadata size ", h.metadata_size));
    note(24, 8, concat("segment base ", h.segment_base));
    note(32, 8, concat("file size ", h.file_size));
    note(40, 8, "required features: none");
    note(48, 32, "SHA-256 of bytes 0 to metadata size, these 32 taken as 0");
    note(80, 16, "reserved");
    table(h.root, *fb::ModelTypeTable(), "Model");
    const AlignedBytes copy{file_};
    const auto model = read(copy.bytes());
    if (!model.ok()) return model.error().message;
    for (const Tensor& t : model->tensors)
      if (t.is_constant())
        note(static_cast<uint64_t>(t.data.data() - copy.bytes().data()), t.data.size(),
             concat(is_signed_code(t.dtype) ? "Weights" : "Constants", " segment: tensor '", t.name,
                    "', ", to_string(t.dtype), " ", to_string(t.shape)));
    return print(h.metadata_size);
  }

 private:
  template <typename T>
  T load(uint64_t at) const {
    T value;
    std::memcpy(&value, file_.data() + at, sizeof value);
    return value;
  }
  static std::string hex(uint64_t n) {
    char text[20];
    std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(n));
    return text;
  }
  void note(uint64_t at, uint64_t size, const std::string& meaning) {
    notes_[at] = {size, meaning};
  }

  static uint64_t size_of(flatbuffers::ElementaryType type) {
    switch (type) {
      case flatbuffers::ET_UTYPE:
      case flatbuffers::ET_BOOL:
      case flatbuffers::ET_CHAR:
      case flatbuffers::ET_UCHAR:
        return 1;
      case flatbuffers::ET_SHORT:
      case flatbuffers::ET_USHORT:
        return 2;
      case flatbuffers::ET_LONG:
      case flatbuffers::ET_ULONG:
      case flatbuffers::ET_DOUBLE:
        return 8;
      default:
        return 4;
    }
  }
  std::string value(uint64_t at, flatbuffers::ElementaryType type) const {
    switch (type) {
      case flatbuffers::ET_UTYPE:
      case flatbuffers::ET_UCHAR:
        return concat(load<uint8_t>(at));
      case flatbuffers::ET_INT:
        return concat(load<int32_t>(at));
      case flatbuffers::ET_UINT:
        return concat(load<uint32_t>(at));
      case flatbuffers::ET_ULONG:
        return concat(load<uint64_t>(at));
      case flatbuffers::ET_FLOAT:
        return concat(load<float>(at));
      case flatbuffers::ET_DOUBLE:
        return concat(load<double>(at));
      default:
        return "?";
    }
  }

  void table(uint64_t at, const TypeTable& type, const std::string& path) {
    const uint64_t vtable = at - static_cast<uint64_t>(static_cast<int64_t>(load<int32_t>(at)));
    note(at, 4, concat("table ", path, ", its vtable at ", hex(vtable)));
    const auto vtable_size = load<uint16_t>(vtable);
    note(vtable, vtable_size,
         concat("vtable: size ", vtable_size, ", table size ", load<uint16_t>(vtable + 2),
                ", place of each field"));
    uint8_t union_type = 0;
    for (size_t i = 0; i < type.num_elems && 4 + 2 * i < vtable_size; ++i) {
      const auto place = load<uint16_t>(vtable + 4 + 2 * i);
      if (place == 0) continue;
      const flatbuffers::TypeCode& code = type.type_codes[i];
      const std::string name = path + "." + type.names[i];
      const uint64_t field = at + place;
      const auto kind = static_cast<flatbuffers::ElementaryType>(code.base_type);
      const TypeTable* refers =
          code.sequence_ref >= 0 ? type.type_refs[code.sequence_ref]() : nullptr;
      if (code.is_repeating != 0) {
        vector(field, kind, refers, name);
      } else if (kind == flatbuffers::ET_SEQUENCE) {
        const uint64_t target = field + load<uint32_t>(field);
        note(field, 4, concat(name, " at ", hex(target)));
        const bool is_union = refers->st == flatbuffers::ST_UNION;
        table(target, is_union ? *refers->type_refs[union_type - 1]() : *refers, name);
      } else {
        std::string text = value(field, kind);
        if (refers != nullptr) {
          const auto number = load<uint8_t>(field);
          text += concat(" (", refers->names[number], ")");
        }
        if (kind == flatbuffers::ET_UTYPE) union_type = load<uint8_t>(field);
        note(field, size_of(kind), name + " = " + text);
      }
    }
  }

  void vector(uint64_t field, flatbuffers::ElementaryType kind, const TypeTable* refers,
              const std::string& name) {
    const uint64_t at = field + load<uint32_t>(field);
    const auto count = load<uint32_t>(at);
    note(field, 4, concat(name, " at ", hex(at)));
    note(at, 4, concat(name, ": ", count, " elements"));
    if (kind != flatbuffers::ET_SEQUENCE) {
      note(at + 4, count * size_of(kind), name);
      return;
    }
    for (uint32_t i = 0; i < count; ++i) {
      const uint64_t entry = at + 4 + 4 * i, target = entry + load<uint32_t>(entry);
      const std::string element = concat(name.substr(name.find('.') + 1), "[", i, "]");
      note(entry, 4, concat(element, " at ", hex(target)));
      table(target, *refers, element);
    }
  }

  // Rows of at most 16 bytes; what no note covers must be zero padding.
  std::string print(uint64_t metadata_size) {
    std::string out;
    uint64_t at = 0;
    const auto rows = [&](uint64_t size, const std::string& meaning) {
      const uint64_t shown = size > 64 ? 64 : size;
      for (uint64_t done = 0; done < shown; done += 16) {
        char place[16];
        std::snprintf(place, sizeof place, "%06llx ", static_cast<unsigned long long>(at + done));
        std::string row = place, text;
        for (uint64_t i = 0; i < 16; ++i) {
          char byte[8] = "   ";
          if (done + i < shown)
            std::snprintf(byte, sizeof byte, " %02x",
                          std::to_integer<unsigned>(file_[at + done + i]));
          row += byte;
        }
        row += "  " + (done == 0 ? meaning : std::string());
        row.erase(row.find_last_not_of(' ') + 1);
        out += row + "\n";
      }
      if (shown < size) out += concat("        ... ", size - shown, " more bytes\n");
      at += size;
    };
    notes_[file_.size()] = {0, ""};
    for (const auto& [start, piece] : notes_) {
      if (start > at) {
        const bool page = at >= metadata_size;
        if (page) {
          out += concat("        ... zero padding up to ", hex(start), "\n");
          at = start;
        } else {
          rows(start - at, "padding");
        }
      }
      if (start == at && piece.size != 0) rows(piece.size, piece.meaning);
    }
    return out;
  }

  struct Piece {
    uint64_t size;
    std::string meaning;
  };
  std::span<const std::byte> file_;
  std::map<uint64_t, Piece> notes_;
};

}  // namespace

std::string annotate(std::span<const std::byte> file) { return Annotator(file).run(); }

std::vector<std::byte> smallest_file() {
  TinyModel t;
  t.model.name = "smallest";
  t.model.producer = "SPEC.md";
  const TensorId x = t.activation("x", DType::kF32, {1, 4});
  const TensorId q = t.activation("q", DType::kU8, {1, 4}, 0.5F);
  const TensorId w = t.codes("w", DType::kS4, {2, 4}, {1, 2, 3, -4, -8, 7, 0, -1});
  const TensorId m = t.values<float>("m", DType::kF32, {0.5F, 0.25F});
  const TensorId b = t.values<float>("b", DType::kF32, {0.0F, -1.0F});
  const TensorId y = t.activation("y", DType::kF32, {1, 2});
  t.node("quantize", QuantizeAttrs{}, {x}, {q});
  t.node("fc", LinearAttrs{}, {q, w, m, b}, {y});
  t.model.inputs = {x};
  t.model.outputs = {y};
  const auto file = write(t.model);
  return file.ok() ? *file : std::vector<std::byte>();
}

std::string check_table() {
  std::string out = "| id | status | what must hold |\n| --- | --- | --- |\n";
  for (int i = 0; i < check_count(); ++i) {
    const CheckInfo& c = info(static_cast<Check>(i));
    out += concat("| `", c.id, "` | ", to_string(c.status), " | ", c.rule, " |\n");
  }
  return out;
}

std::string with_section(const std::string& document, const std::string& name,
                         const std::string& content) {
  const std::string begin = "<!-- begin " + name + " -->\n", end = "<!-- end " + name + " -->";
  const size_t first = document.find(begin), last = document.find(end);
  if (first == std::string::npos || last == std::string::npos || last < first) return "";
  return document.substr(0, first + begin.size()) + content + document.substr(last);
}

std::string with_generated_sections(const std::string& spec) {
  const std::string dump = "```text\n" + annotate(smallest_file()) + "```\n";
  return with_section(with_section(spec, "checks", check_table()), "dump", dump);
}

}  // namespace mpq::test
