// A reader for the data in a Python pickle that executes nothing: classes and calls become plain
// records, which the caller interprets by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"

namespace mpq::convert {

struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kGlobal,
    kList,
    kTuple,
    kDict,
    kCall,
    kPersistent
  };
  Kind kind = Kind::kNone;
  int64_t number = 0;           // kBool, kInt (integers wider than 64 bit keep their low 64 bits)
  double real = 0.0;            // kFloat
  std::string text;             // kString; kGlobal: "module name"
  std::vector<uint32_t> items;  // kList, kTuple; kCall: function and arguments; kPersistent: the id
  std::vector<std::pair<uint32_t, uint32_t>>
      entries;  // key and value: kDict, and kCall of a mapping class
};

struct Pickle {
  std::vector<PickleValue> values;  // values refer to each other by index
  uint32_t root = 0;

  const PickleValue& operator[](uint32_t id) const { return values[id]; }
  // Value of a string key, or null.
  const PickleValue* find(const PickleValue& mapping, const std::string& key) const;
};

// Reads one pickle (protocols 2 to 4) from the front of `bytes` and moves `bytes` behind it.
Result<Pickle> read_pickle(std::span<const std::byte>* bytes);

}  // namespace mpq::convert
