#include "tests/cuda/ptx/program.h"

#include <algorithm>

#include "tests/cuda/ptx/flow.h"
#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

constexpr std::string_view kAxes = "xyz";
constexpr struct {
  std::string_view name;
  Special special;
} kVectors[] = {{"%tid.", Special::kTid},
                {"%ntid.", Special::kNtid},
                {"%ctaid.", Special::kCtaid},
                {"%nctaid.", Special::kNctaid}},
  kScalars[] = {{"%laneid", Special::kLaneId},      {"%lanemask_eq", Special::kMaskEq},
                {"%lanemask_lt", Special::kMaskLt}, {"%lanemask_le", Special::kMaskLe},
                {"%lanemask_gt", Special::kMaskGt}, {"%lanemask_ge", Special::kMaskGe}};

struct Place {
  Slot slot;
  uint32_t bits;  // 1 for a predicate
};

// One operand of a form: "4X" is {4, 'X', false}; the second half of "W|P" is joined.
struct Wanted {
  uint32_t count;  // 0: not a vector
  char letter;
  bool joined;
};
std::vector<Wanted> wanted_of(std::string_view operands) {
  std::vector<Wanted> out;
  bool joined = false;
  uint32_t count = 0;
  for (const char c : operands) {
    if (c == '|') {
      joined = true;
    } else if (c >= '0' && c <= '9') {
      count = static_cast<uint32_t>(c - '0');
    } else {
      out.push_back({count, c, joined});
      joined = false;
      count = 0;
    }
  }
  return out;
}

class Decoder {
 public:
  Decoder(const Module& module, const Kernel& kernel, Memory& memory)
      : module_(module), kernel_(kernel), memory_(memory) {}

  Result<std::unique_ptr<Program>> run() {
    program_->name = kernel_.name;
    program_->target = module_.target;
    program_->max_threads = kernel_.max_threads;
    program_->file_bytes = kSpecialBytes;
    MPQ_TRY(const Ok placed, place_variables());
    (void)placed;
    for (const auto& [name, bits] : kernel_.registers) places_[name] = fresh(bits);
    for (size_t i = 0; i < kernel_.statements.size(); ++i)
      if (!decode(i)) return Error{Status::kUnsupported, error_};
    add_exit();
    if (!find_reconvergence(&program_->code))
      return Error{Status::kUnsupported, kernel_.name + ": a branch beyond the last instruction"};
    return std::move(program_);
  }

 private:
  static uint64_t aligned(uint64_t at, uint64_t align) { return (at + align - 1) / align * align; }

  Checked place_variables() {
    uint64_t parameters = 0, shared = 0, local = 0;
    const Variable* open = nullptr;
    for (const Variable& v : kernel_.parameters) {
      parameters = aligned(parameters, v.align);
      addresses_[v.name] = kParamWindow + parameters;
      parameters += v.bytes;
    }
    const auto place_shared = [&](const Variable& v) {
      if (v.bytes == 0) {
        open = &v;
        return;
      }
      shared = aligned(shared, v.align);
      addresses_[v.name] = kSharedBase + shared;
      shared += v.bytes;
    };
    for (const Variable& v : kernel_.variables) {
      if (v.space == Space::kShared) place_shared(v);
      if (v.space == Space::kLocal) {
        local = aligned(local, v.align);
        addresses_[v.name] = kLocalWindow + local;
        local += v.bytes;
      }
    }
    for (const Variable& v : module_.variables) {
      if (v.space == Space::kShared) {
        place_shared(v);
      } else if (v.bytes == 0) {
        return Error{Status::kUnsupported, v.name + ": a variable without a size"};
      } else {
        const uint64_t address = memory_.allocate(v.bytes);
        uint8_t* bytes = memory_.at(address, v.bytes, true);
        std::fill_n(bytes, v.bytes, uint8_t{0});
        std::copy(v.initially.begin(), v.initially.end(), bytes);
        if (v.space == Space::kConst) memory_.make_read_only(address);
        addresses_[v.name] = address;
      }
    }
    if (open != nullptr) {
      shared = aligned(shared, open->align);
      addresses_[open->name] = kSharedBase + shared;
      program_->extern_shared = true;
    }
    program_->parameter_bytes = static_cast<uint32_t>(parameters);
    program_->shared_bytes = static_cast<uint32_t>(shared);
    program_->local_bytes = static_cast<uint32_t>(aligned(local, 16));
    return Ok{};
  }

  // A new place of the register file, on a line of its own.
  Place fresh(uint32_t bits) {
    const Place place{program_->file_bytes, bits};
    program_->file_bytes += bits == 1 ? 64 : kLanes * bits / 8;
    return place;
  }

  Place constant(uint64_t value, uint32_t bits) {
    const auto [found, is_new] = constants_.try_emplace({value, bits});
    if (is_new) {
      found->second = fresh(bits);
      program_->constants.push_back({found->second.slot, bits == 1 ? 0 : bits / 8, value});
    }
    return found->second;
  }

  bool fail(const Statement& s, const std::string& what) {
    error_ = "kernel " + kernel_.name + ", ptx line " + std::to_string(s.line) + ": " + s.opcode +
             ": " + what;
    return false;
  }

  bool find_register(const std::string& name, Place* place) const {
    if (const auto found = places_.find(name); found != places_.end()) {
      *place = found->second;
      return true;
    }
    for (const auto& [prefix, special] : kVectors)
      if (name.size() == prefix.size() + 1 && name.starts_with(prefix)) {
        const size_t axis = kAxes.find(name.back());
        if (axis == std::string_view::npos) return false;
        *place = {special_slot(special, static_cast<uint32_t>(axis)), 32};
        return true;
      }
    for (const auto& [full, special] : kScalars)
      if (name == full) {
        *place = {special_slot(special), 32};
        return true;
      }
    return false;
  }

  bool decode(size_t index) {
    const Statement& s = kernel_.statements[index];
    const std::vector<Form>* forms = opcodes().find(s.opcode);
    if (forms == nullptr) return fail(s, std::string(reason_absent(s.opcode)));
    std::string why;
    for (const Form& form : *forms) {
      Inst inst;
      why.clear();
      if (!bind(form, s, &inst, &why)) continue;
      inst.execute = form.execute;
      inst.flow = form.flow;
      inst.space = form.space;
      inst.variant = form.variant;
      inst.statement = static_cast<uint32_t>(index);
      if (!s.guard.empty()) {
        Place p{};
        if (!find_register(s.guard, &p) || p.bits != 1) return fail(s, "guard " + s.guard);
        inst.guarded = true;
        inst.guard = p.slot;
        inst.guard_negated = s.guard_negated;
      }
      program_->code.push_back(inst);
      program_->lines.push_back(s.line);
      program_->opcodes.push_back(s.opcode);
      return true;
    }
    return fail(s, why.empty() ? "operands do not fit" : why);
  }

  bool bind(const Form& form, const Statement& s, Inst* inst, std::string* why) {
    const std::vector<Wanted> wanted = wanted_of(form.operands);
    size_t at = 0;  // of s.operands
    uint32_t op = 0, address = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const bool pair = i + 1 < wanted.size() && wanted[i + 1].joined;
      if (!wanted[i].joined) {
        if (at == s.operands.size()) return false;
        ++at;
      }
      const Operand& whole = s.operands[at - 1];
      const bool is_pair = whole.kind == Operand::Kind::kPair;
      if (is_pair != (pair || wanted[i].joined)) return false;
      const Operand& o = is_pair ? whole.parts[wanted[i].joined ? 1 : 0] : whole;
      if (!bind_one(form, wanted[i], o, inst, &op, &address, why)) return false;
    }
    return at == s.operands.size();
  }

  bool bind_one(const Form& form, const Wanted& want, const Operand& o, Inst* inst, uint32_t* op,
                uint32_t* address, std::string* why) {
    using Kind = Operand::Kind;
    if (want.letter == 'a')
      return o.kind == Kind::kAddress && bind_address(o, inst, (*address)++, why);
    if (want.letter == 'L') {
      const auto label = kernel_.labels.find(o.name);
      if (o.kind != Kind::kSymbol || label == kernel_.labels.end()) return false;
      inst->target = static_cast<uint32_t>(label->second);
      return true;
    }
    if (want.letter == 'i') {
      if (o.kind != Kind::kInteger) return false;
      inst->op[(*op)++] = static_cast<uint32_t>(o.value);
      return true;
    }
    if (want.count == 0 || (want.count == 1 && o.kind != Kind::kVector))
      return bind_value(form, want.letter, o, inst, (*op)++, why);
    if (o.kind != Kind::kVector || o.parts.size() != want.count) return false;
    for (const Operand& part : o.parts)
      if (!bind_value(form, want.letter, part, inst, (*op)++, why)) return false;
    return true;
  }

  bool bind_address(const Operand& o, Inst* inst, uint32_t which, std::string* why) {
    Place place{};
    inst->offset[which] = o.value;
    if (o.is_register) {
      if (!find_register(o.name, &place) || place.bits < 32) {
        *why = "address register " + o.name;
        return false;
      }
    } else if (o.name.empty()) {
      place = constant(0, 64);
    } else if (const auto found = addresses_.find(o.name); found != addresses_.end()) {
      place = constant(found->second, 64);
    } else {
      *why = "unknown symbol " + o.name;
      return false;
    }
    inst->base[which] = place.slot;
    inst->wide[which] = place.bits == 64;
    return true;
  }

  bool bind_value(const Form& form, char letter, const Operand& o, Inst* inst, uint32_t op,
                  std::string* why) {
    using Kind = Operand::Kind;
    const bool destination = letter >= 'A' && letter <= 'Z';
    const char small = destination ? static_cast<char>(letter - 'A' + 'a') : letter;
    const uint32_t exact = small == 'p'   ? 1
                           : small == 'h' ? 16
                           : small == 'w' ? 32
                           : small == 'd' ? 64
                                          : 0;
    const uint32_t least =
        exact != 0 ? exact : std::max<uint32_t>(form.bits[destination ? 0 : 1], 16);
    Place place{};
    if (o.kind == Kind::kRegister) {
      if (!find_register(o.name, &place)) {
        *why = "unknown register " + o.name;
        return false;
      }
      if (destination && place.slot < kSpecialBytes) return false;
    } else if (destination) {
      if (o.kind != Kind::kSink) return false;
      place = fresh(least);
    } else if (!literal(o, least, &place, why)) {
      return false;
    }
    if (o.negated && small != 'p') return false;
    const bool fits = exact != 0 ? place.bits == exact : place.bits >= least;
    if (!fits) {
      *why = "operand " + o.name + " has " + std::to_string(place.bits) + " bits";
      return false;
    }
    if (exact == 0) {
      uint8_t& width = inst->width[destination ? 0 : 1];
      const auto bytes = static_cast<uint8_t>(place.bits / 8);
      if (width != 0 && width != bytes) return false;
      width = bytes;
    }
    if (o.negated) inst->negated |= static_cast<uint8_t>(1U << op);
    inst->op[op] = place.slot;
    return true;
  }

  bool literal(const Operand& o, uint32_t bits, Place* place, std::string* why) {
    using Kind = Operand::Kind;
    if (o.kind == Kind::kInteger) {
      const int64_t half = bits >= 64 ? INT64_MAX : int64_t{1} << (bits - 1);
      if (bits > 1 && bits < 64 && (o.value < -half || o.value >= 2 * half)) {
        *why = "constant " + std::to_string(o.value) + " has more than " + std::to_string(bits) +
               " bits";
        return false;
      }
      *place = constant(static_cast<uint64_t>(o.value), bits);
      return true;
    }
    if (o.kind == Kind::kFloat && bits == 32) {
      *place = constant(static_cast<uint64_t>(o.value), bits);
      return true;
    }
    if (o.kind == Kind::kSymbol && bits >= 32) {
      const auto found = addresses_.find(o.name);
      if (found == addresses_.end()) {
        *why = "unknown symbol " + o.name;
        return false;
      }
      const uint64_t address = found->second + static_cast<uint64_t>(o.value);
      if (bits == 32 && address >= kWindowBytes) return false;  // only .shared has 32 bits
      *place = constant(address, bits);
      return true;
    }
    return false;
  }

  void add_exit() {
    Inst exit;
    exit.flow = Flow::kExit;
    program_->code.push_back(exit);
    program_->lines.push_back(0);
    program_->opcodes.emplace_back("end");
  }

  const Module& module_;
  const Kernel& kernel_;
  Memory& memory_;
  std::unique_ptr<Program> program_ = std::make_unique<Program>();
  std::map<std::string, Place, std::less<>> places_;
  std::map<std::string, uint64_t, std::less<>> addresses_;
  std::map<std::pair<uint64_t, uint32_t>, Place> constants_;
  std::string error_;
};

}  // namespace

Result<std::unique_ptr<Program>> decode(const Module& module, const Kernel& kernel,
                                        Memory& memory) {
  return Decoder(module, kernel, memory).run();
}

}  // namespace mpq::ptx
