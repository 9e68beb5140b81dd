#include "converter/torch/checkpoint.h"

#include <cstring>

#include "converter/half.h"

namespace mpq::convert {
namespace {

using Kind = PickleValue::Kind;

Error corrupt(const std::string& what) { return Error{Status::kCorrupt, "checkpoint: " + what}; }

template <typename T>
float load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return static_cast<float>(value);
}
float load_half(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return half_to_float(bits);
}

struct StorageType {
  const char* global;
  size_t bytes;
  float (*load)(const std::byte*);
};
constexpr StorageType kStorageTypes[] = {
    {"torch FloatStorage", 4, load<float>}, {"torch DoubleStorage", 8, load<double>},
    {"torch HalfStorage", 2, load_half},    {"torch ByteStorage", 1, load<uint8_t>},
    {"torch CharStorage", 1, load<int8_t>}, {"torch ShortStorage", 2, load<int16_t>},
    {"torch IntStorage", 4, load<int32_t>}, {"torch LongStorage", 8, load<int64_t>},
};

struct Storage {
  const StorageType* type = nullptr;
  uint64_t elements = 0;
  std::span<const std::byte> bytes;
};

// What a pickled tensor says, before the storages are read.
struct TensorRecord {
  std::string storage;
  uint64_t offset = 0;
  Shape shape, strides;
};

class Reader {
 public:
  explicit Reader(Pickle pickle) : pickle_(std::move(pickle)) {}

  Checked read_records();
  Checked read_storages(std::span<const std::byte> bytes);
  Result<Checkpoint> tensors() const;

 private:
  bool is(const PickleValue& value, Kind kind, size_t min_items = 0) const {
    return value.kind == kind && value.items.size() >= min_items;
  }
  const PickleValue& item(const PickleValue& value, size_t i) const {
    return pickle_[value.items[i]];
  }
  Result<Shape> integers(const PickleValue& value) const {
    Shape numbers;
    if (!is(value, Kind::kTuple)) return corrupt("a shape is no tuple");
    for (size_t i = 0; i < value.items.size(); ++i) {
      if (!is(item(value, i), Kind::kInt) || item(value, i).number < 0)
        return corrupt("a shape has no plain numbers");
      numbers.push_back(item(value, i).number);
    }
    return numbers;
  }
  // A tensor or parameter; false for any other value (epoch numbers and the like).
  Result<bool> read_tensor(const std::string& name, const PickleValue& value);
  Result<std::string> read_storage_id(const PickleValue& value);

  Pickle pickle_;
  std::map<std::string, TensorRecord> records_;
  std::map<std::string, Storage> storages_;
};

Result<std::string> Reader::read_storage_id(const PickleValue& value) {
  if (!is(value, Kind::kPersistent, 1)) return corrupt("a tensor has no storage");
  const PickleValue& id = item(value, 0);
  if (!is(id, Kind::kTuple, 5) || !is(item(id, 1), Kind::kGlobal) ||
      !is(item(id, 2), Kind::kString) || !is(item(id, 4), Kind::kInt) || item(id, 4).number < 0)
    return corrupt("a storage is not described as expected");
  Storage storage{.elements = static_cast<uint64_t>(item(id, 4).number)};
  for (const StorageType& type : kStorageTypes)
    if (item(id, 1).text == type.global) storage.type = &type;
  if (storage.type == nullptr)
    return Error{Status::kUnsupported, "checkpoint: storage type '" + item(id, 1).text + "'"};
  storages_[item(id, 2).text] = storage;
  return item(id, 2).text;
}

Result<bool> Reader::read_tensor(const std::string& name, const PickleValue& value) {
  if (!is(value, Kind::kCall, 2) || !is(item(value, 0), Kind::kGlobal)) return false;
  const PickleValue& arguments = item(value, 1);
  const std::string& function = item(value, 0).text;
  if (function == "torch._utils _rebuild_parameter" && is(arguments, Kind::kTuple, 1)) {
    const PickleValue& inner = item(arguments, 0);
    if (is(inner, Kind::kCall, 2) && item(inner, 0).text != function)
      return read_tensor(name, inner);
  }
  // Before PyTorch 0.4 without the two arguments that say how gradients flow.
  if (function != "torch._utils _rebuild_tensor_v2" && function != "torch._utils _rebuild_tensor")
    return false;
  if (!is(arguments, Kind::kTuple, 4) || !is(item(arguments, 1), Kind::kInt) ||
      item(arguments, 1).number < 0)
    return corrupt("tensor '" + name + "' is not described as expected");
  TensorRecord record{.offset = static_cast<uint64_t>(item(arguments, 1).number)};
  MPQ_TRY(record.storage, read_storage_id(item(arguments, 0)));
  MPQ_TRY(record.shape, integers(item(arguments, 2)));
  MPQ_TRY(record.strides, integers(item(arguments, 3)));
  if (record.shape.size() != record.strides.size())
    return corrupt("tensor '" + name + "': strides do not fit the shape");
  records_[name] = std::move(record);
  return true;
}

Checked Reader::read_records() {
  const PickleValue* dict = &pickle_[pickle_.root];
  if (const PickleValue* inner = pickle_.find(*dict, "state_dict")) dict = inner;
  for (const auto& [key, value] : dict->entries)
    if (pickle_[key].kind == Kind::kString)
      MPQ_CHECK(read_tensor(pickle_[key].text, pickle_[value]));
  if (records_.empty()) return corrupt("no tensors");
  return Ok{};
}

// After the dict: a pickled list of storage keys, then for each its element count and its elements.
Checked Reader::read_storages(std::span<const std::byte> bytes) {
  MPQ_TRY(const Pickle keys, read_pickle(&bytes));
  for (const uint32_t id : keys[keys.root].items) {
    const auto found = storages_.find(keys[id].text);
    if (found == storages_.end())
      return corrupt("storage '" + keys[id].text + "' belongs to no tensor");
    Storage& storage = found->second;
    uint64_t elements = 0;
    if (bytes.size() < sizeof elements)
      return corrupt("truncated before storage '" + found->first + "'");
    std::memcpy(&elements, bytes.data(), sizeof elements);
    bytes = bytes.subspan(sizeof elements);
    if (elements != storage.elements || elements > bytes.size() / storage.type->bytes)
      return corrupt("storage '" + found->first + "' has " + std::to_string(elements) +
                     " elements, stated " + std::to_string(storage.elements) + ", bytes left " +
                     std::to_string(bytes.size()));
    storage.bytes = bytes.first(elements * storage.type->bytes);
    bytes = bytes.subspan(storage.bytes.size());
  }
  return Ok{};
}

Result<Checkpoint> Reader::tensors() const {
  Checkpoint checkpoint;
  for (const auto& [name, record] : records_) {
    const Storage& storage = storages_.at(record.storage);
    const uint64_t available = storage.bytes.size() / storage.type->bytes;
    uint64_t elements = 0;
    if (!checked_elements(record.shape, &elements) || elements > available)
      return corrupt("tensor '" + name + "' of shape " + to_string(record.shape) +
                     " exceeds its storage");
    CheckpointTensor tensor{.shape = record.shape};
    tensor.data.resize(elements);
    std::vector<int64_t> index(record.shape.size());
    for (uint64_t i = 0; i < elements; ++i) {
      uint64_t at = record.offset;
      for (size_t d = 0; d < index.size(); ++d) {
        uint64_t step = 0;
        if (!checked_elements({index[d], record.strides[d]}, &step) || step > available)
          return corrupt("tensor '" + name + "': stride out of range");
        at += step;
      }
      if (at >= available) return corrupt("tensor '" + name + "' reads outside its storage");
      tensor.data[i] = storage.type->load(storage.bytes.data() + at * storage.type->bytes);
      for (size_t d = index.size(); d-- > 0;) {
        if (++index[d] < record.shape[d]) break;
        index[d] = 0;
      }
    }
    checkpoint[name] = std::move(tensor);
  }
  return checkpoint;
}

}  // namespace

Result<Checkpoint> read_checkpoint(std::span<const std::byte> file) {
  constexpr int64_t kMagicLow = static_cast<int64_t>(0xA86A20F9469CFC6CU);  // the low 64 of 77 bits
  MPQ_TRY(const Pickle magic, read_pickle(&file));
  MPQ_TRY(const Pickle version, read_pickle(&file));
  if (magic[magic.root].number != kMagicLow || version[version.root].number != 1001)
    return corrupt("not a PyTorch checkpoint of protocol 1001");
  MPQ_TRY(const Pickle system, read_pickle(&file));
  const PickleValue* little = system.find(system[system.root], "little_endian");
  if (little == nullptr || little->number != 1)
    return Error{Status::kUnsupported, "checkpoint: not little-endian"};
  MPQ_TRY(Pickle pickle, read_pickle(&file));
  Reader reader(std::move(pickle));
  MPQ_CHECK(reader.read_records());
  MPQ_CHECK(reader.read_storages(file));
  return reader.tensors();
}

}  // namespace mpq::convert
