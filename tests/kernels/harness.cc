#include "tests/kernels/harness.h"

#include <xmmintrin.h>

#include <cstdio>
#include <cstring>

#include "tests/support/guarded_buffer.h"

namespace mpq::test {
namespace {

enum class Side { kEnd, kStart };

// Guarded memory for each operand of a problem, kept from problem to problem.
class Memory {
 public:
  // What lies in bytes without a given value follows from the two seeds.
  std::vector<uint8_t*> place(const Problem& problem, Side side, uint64_t unspecified_seed,
                              uint64_t poison_seed) {
    Rng unspecified(unspecified_seed), poison(poison_seed);
    std::vector<uint8_t*> at;
    for (size_t i = 0; i < problem.operands.size(); ++i) {
      const Operand& o = problem.operands[i];
      if (buffers_.size() <= i) buffers_.emplace_back();
      if (buffers_[i].capacity() < o.bytes.size() + 64)
        buffers_[i] = GuardedBuffer(o.bytes.size() * 2 + 64);
      uint8_t* p = side == Side::kEnd ? buffers_[i].at_end(o.bytes.size(), o.alignment)
                                      : buffers_[i].at_start();
      for (size_t b = 0; b < o.bytes.size(); ++b)
        p[b] = o.roles[b] == Role::kInput || o.roles[b] == Role::kUpdated ? o.bytes[b]
               : o.roles[b] == Role::kUnspecified ? static_cast<uint8_t>(unspecified.next())
                                                  : static_cast<uint8_t>(poison.next());
      at.push_back(p);
    }
    return at;
  }

 private:
  std::vector<GuardedBuffer> buffers_;
};

using Contents = std::vector<std::vector<uint8_t>>;

Contents contents(const Problem& problem, const std::vector<uint8_t*>& at) {
  Contents all;
  for (size_t i = 0; i < at.size(); ++i)
    all.emplace_back(at[i], at[i] + problem.operands[i].bytes.size());
  return all;
}

std::string hex_window(const std::vector<uint8_t>& bytes, size_t at) {
  std::string text;
  char word[4];
  for (size_t i = at >= 4 ? at - 4 : 0; i < at + 8 && i < bytes.size(); ++i) {
    std::snprintf(word, sizeof(word),
                  i == at       ? "[%02x"
                  : i == at + 1 ? "]%02x"
                                : " %02x",
                  bytes[i]);
    text += word;
  }
  return text;
}

// The first byte of the roles asked for that differs, in words; empty if none does.
std::string first_difference(const Problem& problem, const Contents& got, const Contents& expected,
                             bool outputs) {
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& o = problem.operands[i];
    for (size_t b = 0; b < o.bytes.size(); ++b) {
      const bool wanted = outputs ? o.roles[b] == Role::kOutput || o.roles[b] == Role::kUpdated
                                  : o.roles[b] == Role::kInput || o.roles[b] == Role::kUnspecified;
      if (!wanted || got[i][b] == expected[i][b]) continue;
      return o.name + " byte " + std::to_string(b) + " of " + std::to_string(o.bytes.size()) +
             (o.coordinates ? " (" + o.coordinates(b) + ")" : "") + ": got" +
             hex_window(got[i], b) + ", expected" + hex_window(expected[i], b);
    }
  }
  return {};
}

std::string fault_place(const Problem& problem, const std::vector<uint8_t*>& at,
                        const void* address) {
  const auto* touched = static_cast<const uint8_t*>(address);
  for (size_t i = 0; i < at.size(); ++i) {
    const ptrdiff_t offset = touched - at[i];
    const auto size = static_cast<ptrdiff_t>(problem.operands[i].bytes.size());
    if (offset >= -4096 && offset < size + 4096)
      return problem.operands[i].name + " byte " + std::to_string(offset) + " of " +
             std::to_string(size);
  }
  return "no operand";
}

constexpr unsigned kMxcsrFlags = 0x3f;  // sticky exception flags may change; control bits may not

unsigned control_word() { return _mm_getcsr() & ~kMxcsrFlags; }

}  // namespace

Verdict check(const Problem& problem, Rng& rng) {
  static Memory memory;
  const uint64_t open_a = rng.next(), open_b = rng.next(), poison_a = rng.next(),
                 poison_b = rng.next();

  const auto at_reference = memory.place(problem, Side::kEnd, open_a, poison_b);
  problem.reference(at_reference);
  const Contents expected = contents(problem, at_reference);

  Verdict verdict;
  // One run; what it left behind, or the verdict is set.
  const auto run = [&](Side side, uint64_t open, Rng* parts) {
    const auto at = memory.place(problem, side, open, poison_a);
    const Contents before = contents(problem, at);
    const unsigned control = control_word();
    const void* address = nullptr;
    if (!survives([&] { problem.kernel(at, parts); }, &address)) {
      verdict = {"fault", fault_place(problem, at, address)};
      return Contents{};
    }
    Contents after = contents(problem, at);
    if (control_word() != control) {
      verdict = {"state",
                 "MXCSR " + std::to_string(control_word()) + ", was " + std::to_string(control)};
      _mm_setcsr(control);
    }
    if (const std::string where = first_difference(problem, after, before, false); !where.empty())
      verdict = {"outside", where};
    return after;
  };

  const Contents first = run(Side::kEnd, open_a, nullptr);
  if (!verdict.ok()) return verdict;
  const Contents second = run(Side::kStart, open_b, nullptr);
  if (!verdict.ok()) return verdict;
  if (const std::string where = first_difference(problem, second, first, true); !where.empty())
    return {"unspecified", where};
  if (const std::string where = first_difference(problem, first, expected, true); !where.empty())
    return {"bytes", where};

  for (const Side side : {Side::kEnd, Side::kStart}) {
    const Contents parts = run(side, open_a, &rng);
    if (!verdict.ok()) return verdict;
    if (const std::string where = first_difference(problem, parts, expected, true); !where.empty())
      return {"partition", where};
  }
  return {};
}

std::vector<std::pair<uint32_t, uint32_t>> random_cuts(uint32_t count, Rng& rng) {
  std::vector<std::pair<uint32_t, uint32_t>> cuts;
  for (uint32_t begin = 0; begin < count;) {
    const uint32_t size = rng.chance(2) ? 1 : 1 + rng.below(count - begin);
    cuts.emplace_back(begin, begin + size);
    begin += size;
  }
  return cuts;
}

bool skip_is_failure(kernels::IsaMask isa, const char* required) {
  kernels::IsaMask promised = 0;
  if (required == nullptr) return false;
  return !kernels::parse_isa(required, &promised) || (isa & ~promised) == 0;
}

void skip_kernel(const char* name, kernels::IsaMask isa) {
  static std::set<std::string> said;
  if (!said.insert(name).second) return;
  std::printf("SKIPPED: %s: no %s\n", name, kernels::isa_name(isa));
  const char* required = std::getenv("MPQ_TEST_REQUIRE");
  if (skip_is_failure(isa, required))
    FAIL_CHECK(name << " cannot run here, and MPQ_TEST_REQUIRE=" << required);
}

void require_ok(const char* kernel, const Problem& problem, const Verdict& verdict) {
  if (verdict.ok()) return;
  FAIL(kernel << ": check '" << verdict.check << "': " << verdict.detail << "\n  " << problem.text
              << "\n  MPQ_TEST_SEED=" << test_seed());
}

}  // namespace mpq::test
