#include "converter/safetensors/header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace mpq::convert {
namespace {

using Json = nlohmann::json;

struct ElementType {
  const char* name;
  uint64_t bytes;
};
constexpr ElementType kElementTypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},      {"I16", 2},     {"U16", 2},     {"F16", 2},
    {"BF16", 2}, {"I32", 4}, {"U32", 4},     {"F32", 4},     {"F64", 8},     {"I64", 8},
    {"U64", 8},  {"C64", 8}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
};

Error corrupt(const std::string& what) { return {Status::kCorrupt, "safetensors: " + what}; }

// Takes the header event by event: nothing is built from a hostile text but what is valid so far,
// and a key that comes twice is seen, where a tree of values would keep the last.
class Header : public Json::json_sax_t {
 public:
  SafetensorsHeader entries;
  Error error = corrupt("the header is not an object");

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return unexpected(std::to_string(value));  // a negative one: others arrive as unsigned
  }
  bool number_float(number_float_t, const std::string& text) override { return unexpected(text); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (numbers_ == nullptr) return unexpected(std::to_string(value));
    constexpr size_t kMaxNumbers = 32;  // far more dimensions than any tensor has
    if (numbers_->size() == kMaxNumbers || value > uint64_t{1} << 62)
      return unexpected(std::to_string(value) + " as number " + std::to_string(numbers_->size()));
    numbers_->push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || key_ != "dtype" || numbers_ != nullptr)
      return unexpected("a string");
    entry_.type = std::move(value);
    return true;
  }
  bool start_array(size_t) override {
    if (place_ != Place::kTensor || numbers_ != nullptr) return unexpected("a list");
    if (key_ != "shape" && key_ != "data_offsets") return unexpected("a list");
    numbers_ = key_ == "shape" ? &entry_.shape : &offsets_;
    return true;
  }
  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }
  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      keys_.clear();
      entry_ = {};
      offsets_.clear();
    } else {
      return unexpected("an object");
    }
    return true;
  }
  bool key(std::string& value) override {
    if (place_ == Place::kTop) {
      name_ = value;
      key_.clear();
      return names_.insert(value).second || fail("tensor " + quoted_tensor(value) + " comes twice");
    }
    key_ = value;
    if (!keys_.insert(value).second)
      return fail("tensor " + quoted_tensor(name_) + ": key " + quoted_tensor(value) +
                  " comes twice");
    return true;
  }
  bool end_object() override {
    const Place ended = place_;
    place_ = Place::kTop;
    return ended != Place::kTensor || add();
  }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    return fail("the header is no valid JSON from byte " + std::to_string(position));
  }

 private:
  enum class Place { kStart, kTop, kTensor, kMetadata };

  bool fail(const std::string& what) {
    error = corrupt(what);
    return false;
  }
  bool unexpected(const std::string& what) {
    if (place_ == Place::kStart) return fail("the header is " + what + ", not an object");
    return fail("tensor " + quoted_tensor(name_) + ": " + (key_.empty() ? "" : "'" + key_ + "': ") +
                what + " is not expected");
  }
  bool add();

  Place place_ = Place::kStart;
  std::string name_, key_;
  std::set<std::string> names_, keys_;  // of the file, of the tensor
  SafetensorsEntry entry_;
  std::vector<int64_t> offsets_;
  std::vector<int64_t>* numbers_ = nullptr;  // the list that is open
};

bool Header::add() {
  const std::string where = "tensor " + quoted_tensor(name_) + ": ";
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!keys_.contains(key)) return fail(where + "'" + key + "' is missing");
  const auto* const type =
      std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                   [this](const ElementType& t) { return entry_.type == t.name; });
  if (type == std::end(kElementTypes)) {
    error = {Status::kUnsupported,
             "safetensors: " + where + "type " + quoted_tensor(entry_.type) + " is unknown"};
    return false;
  }
  if (offsets_.size() != 2 || offsets_[0] > offsets_[1])
    return fail(where + "data_offsets are no begin and end");
  entry_.begin = static_cast<uint64_t>(offsets_[0]);
  entry_.end = static_cast<uint64_t>(offsets_[1]);
  const uint64_t bytes = entry_.end - entry_.begin;
  uint64_t elements = 0;
  if (!checked_elements(entry_.shape, &elements) || elements != bytes / type->bytes ||
      bytes % type->bytes != 0)
    return fail(where + "shape " + to_string(entry_.shape) + " of " + entry_.type + " in " +
                std::to_string(bytes) + " bytes");
  entries[name_] = std::move(entry_);
  return true;
}

// In the order of their bytes, each tensor begins where the one before it ended.
Checked check_extents(const SafetensorsHeader& entries, uint64_t data_bytes) {
  std::vector<const SafetensorsHeader::value_type*> order;
  for (const auto& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t used = 0;
  for (const auto* const entry : order) {
    const auto& [name, extent] = *entry;
    if (extent.begin != used)
      return corrupt("tensor " + quoted_tensor(name) + " begins at byte " +
                     std::to_string(extent.begin) + ", " +
                     (extent.begin < used ? "inside another that ends at " : "a hole after ") +
                     std::to_string(used));
    if (extent.end > data_bytes)
      return corrupt("tensor " + quoted_tensor(name) + " ends at byte " +
                     std::to_string(extent.end) + " of " + std::to_string(data_bytes));
    used = extent.end;
  }
  if (used != data_bytes)
    return corrupt(std::to_string(data_bytes - used) + " bytes after the last tensor");
  return Ok{};
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, uint64_t data_bytes) {
  if (!json.starts_with('{')) return corrupt("the header does not begin with '{'");
  Header header;
  if (!Json::sax_parse(json, &header)) return header.error;
  MPQ_CHECK(check_extents(header.entries, data_bytes));
  return std::move(header.entries);
}

std::string quoted_tensor(const std::string& name) {
  constexpr size_t kLongest = 100;
  std::string text = "'";
  for (const char c : name.substr(0, kLongest)) text += c >= 32 && c < 127 ? c : '?';
  return text + (name.size() > kLongest ? "...'" : "'");
}

}  // namespace mpq::convert
