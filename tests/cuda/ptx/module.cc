#include "tests/cuda/ptx/module.h"

#include <charconv>

#include "tests/cuda/ptx/lexer.h"

namespace mpq::ptx {
namespace {

struct Type {
  std::string_view name;
  uint32_t bits;
};
constexpr Type kTypes[] = {{".pred", 1}, {".b8", 8},   {".u8", 8},   {".s8", 8},   {".b16", 16},
                           {".u16", 16}, {".s16", 16}, {".b32", 32}, {".u32", 32}, {".s32", 32},
                           {".f32", 32}, {".b64", 64}, {".u64", 64}, {".s64", 64}};

const Type* type_named(std::string_view name) {
  for (const Type& t : kTypes)
    if (t.name == name) return &t;
  return nullptr;
}

constexpr struct {
  std::string_view name;
  Space space;
} kSpaces[] = {{".global", Space::kGlobal},
               {".shared", Space::kShared},
               {".local", Space::kLocal},
               {".const", Space::kConst},
               {".param", Space::kParam}};

const Space* space_named(std::string_view name) {
  for (const auto& s : kSpaces)
    if (s.name == name) return &s.space;
  return nullptr;
}

// Every function that can fail returns false after it has set the error.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Module> run() {
    while (next().kind != Token::Kind::kEnd)
      if (!top_level()) return Error{Status::kUnsupported, error_};
    return std::move(module_);
  }

 private:
  const Token& next(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool accept(std::string_view mark) {
    if (!next().is(mark)) return false;
    ++at_;
    return true;
  }
  bool fail(const std::string& what) {
    error_ = "ptx line " + std::to_string(next().line) + ": " + what;
    return false;
  }
  bool expect(std::string_view mark) {
    return accept(mark) ||
           fail("expected '" + std::string(mark) + "', found '" + std::string(next().text) + "'");
  }
  bool word(std::string_view* out) {
    if (next().kind != Token::Kind::kWord)
      return fail("expected a name, found '" + std::string(next().text) + "'");
    *out = tokens_[at_++].text;
    return true;
  }
  bool integer(int64_t* out) {
    const bool minus = accept("-");
    if (next().kind != Token::Kind::kInteger)
      return fail("expected an integer, found '" + std::string(next().text) + "'");
    *out = tokens_[at_++].value;
    if (minus) *out = static_cast<int64_t>(0 - static_cast<uint64_t>(*out));
    return true;
  }

  bool top_level() {
    if (accept(".version")) {
      std::string_view text;
      if (!word(&text)) return false;
      const size_t dot = text.find('.');
      uint32_t major = 0, minor = 0;
      std::from_chars(text.data(), text.data() + dot, major);
      std::from_chars(text.data() + dot + 1, text.data() + text.size(), minor);
      module_.version = major * 10 + minor;
      return true;
    }
    if (accept(".target")) {
      std::string_view text;
      if (!word(&text)) return false;
      if (!text.starts_with("sm_")) return fail("unknown target '" + std::string(text) + "'");
      std::from_chars(text.data() + 3, text.data() + text.size(), module_.target);
      return true;
    }
    if (accept(".address_size")) {
      int64_t bits = 0;
      if (!integer(&bits)) return false;
      return bits == 64 || fail("address size " + std::to_string(bits) + ", 64 expected");
    }
    while (accept(".visible") || accept(".extern") || accept(".weak")) {
    }
    if (accept(".entry")) return kernel();
    if (space_named(next().text) != nullptr) {
      Variable v;
      if (!variable(&v) || !expect(";")) return false;
      module_.variables.push_back(std::move(v));
      return true;
    }
    if (next().is(".func"))
      return fail("a device function: kernels are inlined whole, calls are not executed");
    return fail("unknown directive '" + std::string(next().text) + "'");
  }

  // .space {.align n} .type name {[count]} {= initial}
  bool variable(Variable* v) {
    v->space = *space_named(tokens_[at_++].text);
    if (accept(".align")) {
      int64_t align = 0;
      if (!integer(&align)) return false;
      v->align = static_cast<uint32_t>(align);
    }
    std::string_view type_text, name;
    if (!word(&type_text)) return false;
    const Type* type = type_named(type_text);
    if (type == nullptr || type->bits < 8)
      return fail("unknown type '" + std::string(type_text) + "'");
    v->bytes = type->bits / 8;
    v->align = std::max(v->align, type->bits / 8);
    while (accept(".ptr") || accept(".global") || accept(".align")) {  // of pointer parameters
      int64_t ignored = 0;
      if (next().kind == Token::Kind::kInteger && !integer(&ignored)) return false;
    }
    if (!word(&name)) return false;
    v->name = name;
    if (accept("[")) {
      int64_t count = 0;
      if (!next().is("]") && !integer(&count)) return false;
      if (!expect("]")) return false;
      v->bytes *= static_cast<uint64_t>(count);
    }
    return !accept("=") || initial(v, type->bits / 8);
  }

  bool initial(Variable* v, uint32_t width) {
    v->initially.assign(v->bytes, 0);
    const bool list = accept("{");
    for (uint64_t at = 0;; at += width) {
      const bool real = next().kind == Token::Kind::kFloat;
      int64_t value = real ? next().value : 0;
      if (real) ++at_;
      if (!real && !integer(&value)) return false;
      if (at + width > v->bytes) return fail("too many initial values");
      for (uint32_t i = 0; i < width; ++i)
        v->initially[at + i] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
      if (!list || !accept(",")) break;
    }
    return !list || expect("}");
  }

  bool kernel() {
    Kernel k;
    std::string_view name;
    if (!word(&name) || !expect("(")) return false;
    k.name = name;
    while (!accept(")")) {
      if (!next().is(".param")) return fail("expected .param");
      Variable v;
      if (!variable(&v)) return false;
      k.parameters.push_back(std::move(v));
      if (!next().is(")") && !expect(",")) return false;
    }
    for (;;) {  // performance directives: bounds that the launch is held to
      int64_t n = 0;
      if (accept(".maxntid")) {
        k.max_threads = 1;
        do {
          if (!integer(&n)) return false;
          k.max_threads *= static_cast<uint32_t>(n);
        } while (accept(","));
      } else if (accept(".minnctapersm")) {
        if (!integer(&n)) return false;
      } else {
        break;
      }
    }
    kernel_ = &k;
    scopes_.assign(1, {});
    scope_count_ = 0;
    if (!expect("{")) return false;
    while (!scopes_.empty())
      if (!body()) return false;
    module_.kernels.push_back(std::move(k));
    return true;
  }

  // A name that an inner { } declares again is a new one.
  struct Scope {
    uint32_t id = 0;
    size_t begin = 0;  // its first statement
    std::map<std::string, std::string, std::less<>> names;
  };
  std::string scoped(std::string_view name) const {
    return scopes_.back().id == 0 ? std::string(name)
                                  : std::string(name) + "@" + std::to_string(scopes_.back().id);
  }
  std::string lookup(std::string_view name) const {
    for (size_t i = scopes_.size(); i-- > 0;) {
      const auto found = scopes_[i].names.find(name);
      if (found != scopes_[i].names.end()) return found->second;
    }
    return std::string(name);
  }
  void declare(std::string_view name, uint32_t bits) {
    const std::string full = scoped(name);
    scopes_.back().names[std::string(name)] = full;
    kernel_->registers[full] = std::max(bits, bits == 1 ? 1U : 16U);
  }

  bool body() {
    if (accept("{")) {
      scopes_.push_back({++scope_count_, kernel_->statements.size(), {}});
      return true;
    }
    if (accept("}")) {
      rename_labels(scopes_.back());
      scopes_.pop_back();
      return true;
    }
    if (accept(";")) return true;
    if (accept(".reg")) return registers();
    if (accept(".pragma")) {
      const bool is_hint = next().text == "nounroll" || next().text.starts_with("used_bytes_mask ");
      if (next().kind != Token::Kind::kString || !is_hint) return fail("unknown pragma");
      ++at_;
      return expect(";");
    }
    if (const Space* space = space_named(next().text)) {
      if (*space != Space::kShared && *space != Space::kLocal)
        return fail("a variable of this space inside a kernel");
      Variable v;
      if (!variable(&v) || !expect(";")) return false;
      kernel_->variables.push_back(std::move(v));
      return true;
    }
    if (next().kind == Token::Kind::kWord && next(1).is(":")) {
      const std::string full = scoped(next().text);
      scopes_.back().names[std::string(next().text)] = full;
      if (!kernel_->labels.emplace(full, kernel_->statements.size()).second)
        return fail("label '" + full + "' twice");
      at_ += 2;
      return true;
    }
    return statement();
  }

  // References to labels of a scope may come before the label.
  void rename_labels(const Scope& scope) {
    for (size_t i = scope.begin; i < kernel_->statements.size(); ++i)
      for (Operand& o : kernel_->statements[i].operands) {
        const auto found = scope.names.find(o.name);
        if (o.kind == Operand::Kind::kSymbol && found != scope.names.end()) o.name = found->second;
      }
  }

  bool registers() {
    std::string_view type_text;
    if (!word(&type_text)) return false;
    const Type* type = type_named(type_text);
    if (type == nullptr) return fail("unknown type '" + std::string(type_text) + "'");
    do {
      std::string_view name;
      if (!word(&name)) return false;
      if (accept("<")) {
        int64_t count = 0;
        if (!integer(&count) || !expect(">")) return false;
        for (int64_t i = 0; i < count; ++i)
          declare(std::string(name) + std::to_string(i), type->bits);
      } else {
        declare(name, type->bits);
      }
    } while (accept(","));
    return expect(";");
  }

  bool statement() {
    Statement s;
    s.line = next().line;
    if (accept("@")) {
      s.guard_negated = accept("!");
      std::string_view guard;
      if (!word(&guard)) return false;
      s.guard = lookup(guard);
    }
    std::string_view opcode;
    if (!word(&opcode)) return false;
    s.opcode = opcode;
    if (opcode.starts_with('.')) return fail("unknown directive '" + s.opcode + "'");
    if (!next().is(";")) do {
        Operand o;
        if (!operand(&o)) return false;
        s.operands.push_back(std::move(o));
      } while (accept(","));
    if (!expect(";")) return false;
    kernel_->statements.push_back(std::move(s));
    return true;
  }

  bool operand(Operand* o) {
    if (!simple_operand(o)) return false;
    if (!accept("|")) return true;
    Operand pair;
    pair.kind = Operand::Kind::kPair;
    pair.parts = {*o, {}};
    if (!simple_operand(&pair.parts[1])) return false;
    *o = std::move(pair);
    return true;
  }

  bool simple_operand(Operand* o) {
    if (accept("{")) {
      o->kind = Operand::Kind::kVector;
      do {
        Operand part;
        if (!simple_operand(&part)) return false;
        o->parts.push_back(std::move(part));
      } while (accept(","));
      return expect("}");
    }
    if (accept("[")) {
      o->kind = Operand::Kind::kAddress;
      if (next().kind == Token::Kind::kWord) {
        named(o);
        o->kind = Operand::Kind::kAddress;
      } else if (!integer(&o->value)) {
        return false;
      }
      return offset(o) && expect("]");
    }
    if (next().kind == Token::Kind::kFloat) {
      o->kind = Operand::Kind::kFloat;
      o->value = tokens_[at_++].value;
      return true;
    }
    o->negated = accept("!");
    if (next().kind == Token::Kind::kWord) {
      if (accept("_")) {
        o->kind = Operand::Kind::kSink;
        return true;
      }
      named(o);
      return offset(o);
    }
    o->kind = Operand::Kind::kInteger;
    return integer(&o->value);
  }

  void named(Operand* o) {
    o->name = lookup(tokens_[at_++].text);
    o->is_register = o->name.starts_with('%') || kernel_->registers.contains(o->name);
    o->kind = o->is_register ? Operand::Kind::kRegister : Operand::Kind::kSymbol;
  }

  // + integer, +-integer, - integer
  bool offset(Operand* o) {
    if (o->kind == Operand::Kind::kRegister) return true;
    const bool plus = accept("+");
    if (!plus && !next().is("-")) return true;
    return integer(&o->value);
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::string error_;
  Module module_;
  Kernel* kernel_ = nullptr;
  std::vector<Scope> scopes_;
  uint32_t scope_count_ = 0;
};

}  // namespace

const Kernel* Module::kernel(std::string_view name) const {
  for (const Kernel& k : kernels)
    if (k.name == name) return &k;
  return nullptr;
}

Result<Module> parse(std::string_view text) {
  MPQ_TRY(auto tokens, tokenize(text));
  return Parser(std::move(tokens)).run();
}

}  // namespace mpq::ptx
