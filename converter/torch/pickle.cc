#include "converter/torch/pickle.h"

#include <bit>
#include <cstring>

namespace mpq::convert {
namespace {

using Kind = PickleValue::Kind;

// The stack machine of the pickle protocol, restricted to opcodes that build data.
class Machine {
 public:
  explicit Machine(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Result<Pickle> run();
  size_t used() const { return position_; }

  struct Row {
    uint8_t opcode;
    Checked (Machine::*handler)();
  };
  static const Row kRows[];

 private:
  static constexpr uint32_t kMark = 0xFFFFFFFFU;
  static constexpr size_t kMaxValues = size_t{1} << 22;

  Error corrupt(const std::string& what) const {
    return Error{Status::kCorrupt, "pickle: " + what + " at byte " + std::to_string(position_)};
  }

  // Little-endian number of n bytes.
  Result<uint64_t> take(size_t n) {
    if (bytes_.size() - position_ < n) return corrupt("truncated");
    uint64_t value = 0;
    for (size_t i = 0; i < n && i < 8; ++i)
      value |= std::to_integer<uint64_t>(bytes_[position_ + i]) << (8 * i);
    position_ += n;
    return value;
  }
  Result<std::string> take_text(uint64_t n) {
    if (bytes_.size() - position_ < n) return corrupt("truncated string");
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, n);
    position_ += n;
    return text;
  }
  Result<std::string> take_line() {
    std::string line;
    for (;;) {
      MPQ_TRY(const uint64_t c, take(1));
      if (c == '\n') return line;
      line += static_cast<char>(c);
    }
  }
  Checked push(PickleValue value) {
    if (values_.size() >= kMaxValues) return corrupt("too many values");
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<uint32_t>(values_.size() - 1));
    return Ok{};
  }
  Checked push_int(int64_t number, Kind kind = Kind::kInt) {
    return push({.kind = kind, .number = number});
  }
  Result<uint32_t> pop() {
    if (stack_.empty() || stack_.back() == kMark) return corrupt("stack underflow");
    const uint32_t id = stack_.back();
    stack_.pop_back();
    return id;
  }
  Result<std::vector<uint32_t>> pop_to_mark() {
    size_t mark = stack_.size();
    while (mark > 0 && stack_[mark - 1] != kMark) --mark;
    if (mark == 0) return corrupt("no mark");
    std::vector<uint32_t> items(stack_.begin() + static_cast<ptrdiff_t>(mark), stack_.end());
    stack_.resize(mark - 1);
    return items;
  }
  Result<PickleValue*> top() {
    if (stack_.empty() || stack_.back() == kMark) return corrupt("stack underflow");
    return &values_[stack_.back()];
  }
  Checked remember(uint64_t slot) {
    if (stack_.empty() || stack_.back() == kMark) return corrupt("stack underflow");
    if (slot >= kMaxValues) return corrupt("memo slot too large");
    if (slot >= memo_.size()) memo_.resize(slot + 1, kMark);
    memo_[slot] = stack_.back();
    return Ok{};
  }
  Checked recall(uint64_t slot) {
    if (slot >= memo_.size() || memo_[slot] == kMark) return corrupt("unknown memo slot");
    stack_.push_back(memo_[slot]);
    return Ok{};
  }
  Checked tuple(size_t n) {
    PickleValue value{.kind = Kind::kTuple};
    value.items.resize(n);
    for (size_t i = n; i-- > 0;) {
      MPQ_TRY(value.items[i], pop());
    }
    return push(std::move(value));
  }
  Checked append(std::vector<uint32_t> items) {
    MPQ_TRY(PickleValue* const list, top());
    if (list->kind != Kind::kList) return corrupt("append to something that is no list");
    list->items.insert(list->items.end(), items.begin(), items.end());
    return Ok{};
  }
  Checked set(std::vector<uint32_t> items) {
    if (items.size() % 2 != 0) return corrupt("a key without a value");
    MPQ_TRY(PickleValue* const mapping, top());
    if (mapping->kind != Kind::kDict && mapping->kind != Kind::kCall)
      return corrupt("items set on no mapping");
    for (size_t i = 0; i < items.size(); i += 2)
      mapping->entries.emplace_back(items[i], items[i + 1]);
    return Ok{};
  }
  Checked push_text(size_t length_bytes) {
    MPQ_TRY(const uint64_t n, take(length_bytes));
    MPQ_TRY(std::string text, take_text(n));
    return push({.kind = Kind::kString, .text = std::move(text)});
  }

  Checked do_protocol() {
    MPQ_TRY(const uint64_t version, take(1));
    if (version < 2 || version > 4)
      return corrupt("protocol " + std::to_string(version) + " not in 2..4");
    return Ok{};
  }
  Checked do_frame() {
    MPQ_CHECK(take(8));
    return Ok{};
  }
  Checked do_mark() { return stack_.push_back(kMark), Ok{}; }
  Checked do_none() { return push({}); }
  Checked do_true() { return push_int(1, Kind::kBool); }
  Checked do_false() { return push_int(0, Kind::kBool); }
  Checked do_int1() {
    MPQ_TRY(const uint64_t v, take(1));
    return push_int(static_cast<int64_t>(v));
  }
  Checked do_int2() {
    MPQ_TRY(const uint64_t v, take(2));
    return push_int(static_cast<int64_t>(v));
  }
  Checked do_int4() {
    MPQ_TRY(const uint64_t v, take(4));
    return push_int(static_cast<int32_t>(v));
  }
  Checked do_long() {
    MPQ_TRY(const uint64_t n, take(1));
    MPQ_TRY(uint64_t v, take(n));
    if (n > 0 && n < 8 && (v >> (8 * n - 1)) != 0) v |= ~uint64_t{0} << (8 * n);  // sign
    return push_int(static_cast<int64_t>(v));
  }
  Checked do_float() {
    MPQ_TRY(const uint64_t v, take(8));
    uint64_t reversed = 0;  // the only big-endian field of the protocol
    for (int i = 0; i < 8; ++i) reversed |= ((v >> (8 * i)) & 0xFF) << (56 - 8 * i);
    return push({.kind = Kind::kFloat, .real = std::bit_cast<double>(reversed)});
  }
  Checked do_text() { return push_text(4); }
  Checked do_short_text() { return push_text(1); }
  Checked do_global() {
    MPQ_TRY(const std::string module, take_line());
    MPQ_TRY(const std::string name, take_line());
    return push({.kind = Kind::kGlobal, .text = module + " " + name});
  }
  Checked do_empty_list() { return push({.kind = Kind::kList}); }
  Checked do_empty_dict() { return push({.kind = Kind::kDict}); }
  Checked do_tuple0() { return tuple(0); }
  Checked do_tuple1() { return tuple(1); }
  Checked do_tuple2() { return tuple(2); }
  Checked do_tuple3() { return tuple(3); }
  Checked do_tuple() {
    MPQ_TRY(std::vector<uint32_t> items, pop_to_mark());
    return push({.kind = Kind::kTuple, .items = std::move(items)});
  }
  Checked do_append() {
    MPQ_TRY(const uint32_t item, pop());
    return append({item});
  }
  Checked do_appends() {
    MPQ_TRY(std::vector<uint32_t> items, pop_to_mark());
    return append(std::move(items));
  }
  Checked do_setitem() {
    MPQ_TRY(const uint32_t value, pop());
    MPQ_TRY(const uint32_t key, pop());
    return set({key, value});
  }
  Checked do_setitems() {
    MPQ_TRY(std::vector<uint32_t> items, pop_to_mark());
    return set(std::move(items));
  }
  Checked do_persistent() {
    MPQ_TRY(const uint32_t id, pop());
    return push({.kind = Kind::kPersistent, .items = {id}});
  }
  Checked do_call() {
    MPQ_TRY(const uint32_t arguments, pop());
    MPQ_TRY(const uint32_t function, pop());
    return push({.kind = Kind::kCall, .items = {function, arguments}});
  }
  Checked do_build() {  // object state: nothing that a state dict needs
    MPQ_CHECK(pop());
    return Ok{};
  }
  Checked do_put1() {
    MPQ_TRY(const uint64_t slot, take(1));
    return remember(slot);
  }
  Checked do_put4() {
    MPQ_TRY(const uint64_t slot, take(4));
    return remember(slot);
  }
  Checked do_memoize() { return remember(memo_.size()); }
  Checked do_get1() {
    MPQ_TRY(const uint64_t slot, take(1));
    return recall(slot);
  }
  Checked do_get4() {
    MPQ_TRY(const uint64_t slot, take(4));
    return recall(slot);
  }

  std::span<const std::byte> bytes_;
  size_t position_ = 0;
  std::vector<PickleValue> values_;
  std::vector<uint32_t> stack_, memo_;
};

const Machine::Row Machine::kRows[] = {
    {0x80, &Machine::do_protocol},   {0x95, &Machine::do_frame},     {'(', &Machine::do_mark},
    {'N', &Machine::do_none},        {0x88, &Machine::do_true},      {0x89, &Machine::do_false},
    {'K', &Machine::do_int1},        {'M', &Machine::do_int2},       {'J', &Machine::do_int4},
    {0x8A, &Machine::do_long},       {'G', &Machine::do_float},      {'X', &Machine::do_text},
    {0x8C, &Machine::do_short_text}, {'c', &Machine::do_global},     {']', &Machine::do_empty_list},
    {'}', &Machine::do_empty_dict},  {')', &Machine::do_tuple0},     {0x85, &Machine::do_tuple1},
    {0x86, &Machine::do_tuple2},     {0x87, &Machine::do_tuple3},    {'t', &Machine::do_tuple},
    {'a', &Machine::do_append},      {'e', &Machine::do_appends},    {'s', &Machine::do_setitem},
    {'u', &Machine::do_setitems},    {'Q', &Machine::do_persistent}, {'R', &Machine::do_call},
    {'b', &Machine::do_build},       {'q', &Machine::do_put1},       {'r', &Machine::do_put4},
    {0x94, &Machine::do_memoize},    {'h', &Machine::do_get1},       {'j', &Machine::do_get4},
};

Result<Pickle> Machine::run() {
  for (;;) {
    MPQ_TRY(const uint64_t opcode, take(1));
    if (opcode == '.') break;
    const Row* found = nullptr;
    for (const Row& row : kRows)
      if (row.opcode == opcode) found = &row;
    if (found == nullptr) return corrupt("opcode " + std::to_string(opcode) + " is not accepted");
    MPQ_CHECK((this->*found->handler)());
  }
  MPQ_TRY(const uint32_t root, pop());
  return Pickle{.values = std::move(values_), .root = root};
}

}  // namespace

const PickleValue* Pickle::find(const PickleValue& mapping, const std::string& key) const {
  for (const auto& [k, v] : mapping.entries)
    if (values[k].kind == Kind::kString && values[k].text == key) return &values[v];
  return nullptr;
}

Result<Pickle> read_pickle(std::span<const std::byte>* bytes) {
  Machine machine(*bytes);
  MPQ_TRY(Pickle pickle, machine.run());
  *bytes = bytes->subspan(machine.used());
  return pickle;
}

}  // namespace mpq::convert
