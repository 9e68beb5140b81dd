// PTX ISA, "ld", "st", "atom", "red", "cp.async", fences. Everything is done in program order by
// one thread, so orders, scopes and cache hints change nothing; what they promise is kept.
#include <algorithm>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

template <typename E>
void load(Warp& w, const Inst& in, uint32_t lanes) {
  const uint32_t count = in.variant, width = in.width[0];
  for_lanes(lanes, [&](uint32_t i) {
    const uint8_t* from = resolve(w, in, i, 0, in.space, count * sizeof(E), false);
    if (from == nullptr) return;
    for (uint32_t k = 0; k < count; ++k) {
      E e;
      std::memcpy(&e, from + k * sizeof(E), sizeof(E));
      const auto extended = static_cast<uint64_t>(static_cast<int64_t>(e));
      if (width == 4) {
        values<uint32_t>(w, in.op[k])[i] = static_cast<uint32_t>(extended);
      } else if (width == 8) {
        values<uint64_t>(w, in.op[k])[i] = extended;
      } else {
        values<uint16_t>(w, in.op[k])[i] = static_cast<uint16_t>(extended);
      }
    }
  });
}

template <typename E>
void store(Warp& w, const Inst& in, uint32_t lanes) {
  const uint32_t count = in.variant, width = in.width[1];
  for_lanes(lanes, [&](uint32_t i) {
    uint8_t* to = resolve(w, in, i, 0, in.space, count * sizeof(E), true);
    if (to == nullptr) return;
    for (uint32_t k = 0; k < count; ++k) {
      const auto e = width == 2   ? static_cast<E>(values<uint16_t>(w, in.op[k])[i])
                     : width == 4 ? static_cast<E>(values<uint32_t>(w, in.op[k])[i])
                                  : static_cast<E>(values<uint64_t>(w, in.op[k])[i]);
      std::memcpy(to + k * sizeof(E), &e, sizeof(E));
    }
  });
}

struct SpaceName {
  const char* text;
  Space space;
};
constexpr SpaceName kLoadSpaces[] = {{"", Space::kGeneric},       {".global", Space::kGlobal},
                                     {".shared", Space::kShared}, {".shared::cta", Space::kShared},
                                     {".local", Space::kLocal},   {".const", Space::kConst},
                                     {".param", Space::kParam}};
constexpr SpaceName kStoreSpaces[] = {{"", Space::kGeneric},
                                      {".global", Space::kGlobal},
                                      {".shared", Space::kShared},
                                      {".shared::cta", Space::kShared},
                                      {".local", Space::kLocal}};
constexpr const char* kLoadOrders[] = {"",
                                       ".weak",
                                       ".volatile",
                                       ".relaxed.cta",
                                       ".relaxed.gpu",
                                       ".relaxed.sys",
                                       ".acquire.cta",
                                       ".acquire.gpu",
                                       ".acquire.sys"};
constexpr const char* kStoreOrders[] = {"",
                                        ".weak",
                                        ".volatile",
                                        ".relaxed.cta",
                                        ".relaxed.gpu",
                                        ".relaxed.sys",
                                        ".release.cta",
                                        ".release.gpu",
                                        ".release.sys"};
// Hints exist for .global and generic addresses.
constexpr const char* kLoadHints[] = {"",
                                      ".ca",
                                      ".cg",
                                      ".cs",
                                      ".nc",
                                      ".L1::no_allocate",
                                      ".nc.L1::no_allocate",
                                      ".nc.L2::64B",
                                      ".nc.L2::128B",
                                      ".nc.L2::256B",
                                      ".L2::64B",
                                      ".L2::128B",
                                      ".L2::256B",
                                      ".nc.L1::no_allocate.L2::128B",
                                      ".nc.L1::no_allocate.L2::256B",
                                      ".nc.L1::evict_last",
                                      ".nc.L1::evict_first"};
constexpr const char* kStoreHints[] = {"", ".wb", ".cg", ".cs", ".wt", ".L1::no_allocate"};

template <typename E>
void add_type(Opcodes& t, const std::string& type) {
  constexpr uint8_t kBits = 8 * sizeof(E);
  for (const uint8_t count : {uint8_t{1}, uint8_t{2}, uint8_t{4}}) {
    if (count * sizeof(E) > 16) continue;
    const std::string vector = count == 1 ? "" : ".v" + std::to_string(count);
    const std::string many = count == 1 ? "" : std::to_string(count);
    const auto hinted = [](Space s) { return s == Space::kGlobal || s == Space::kGeneric; };
    for (const auto& [space_text, space] : kLoadSpaces)
      for (const std::string order : kLoadOrders)
        for (const std::string hint : kLoadHints) {
          if (!hint.empty() && (!order.empty() || !hinted(space))) continue;
          const Form form{.operands = many + "Xa",
                          .execute = load<E>,
                          .variant = count,
                          .bits = {kBits},
                          .space = space};
          t.add("ld" + order + space_text + hint + vector + "." + type, form);
        }
    for (const auto& [space_text, space] : kStoreSpaces)
      for (const std::string order : kStoreOrders)
        for (const std::string hint : kStoreHints) {
          if (!hint.empty() && (!order.empty() || !hinted(space))) continue;
          const Form form{.operands = "a" + many + "x",
                          .execute = store<E>,
                          .variant = count,
                          .bits = {0, kBits},
                          .space = space};
          t.add("st" + order + space_text + hint + vector + "." + type, form);
        }
  }
}

// kDestination: atom; else red. The operands after the address: one, or two for cas.
template <typename T, bool kDestination, typename Op>
void atomic(Warp& w, const Inst& in, uint32_t lanes) {
  constexpr uint32_t kFirst = kDestination ? 1 : 0;
  for_lanes(lanes, [&](uint32_t i) {
    uint8_t* at = resolve(w, in, i, 0, in.space, sizeof(T), true);
    if (at == nullptr) return;
    T old;
    std::memcpy(&old, at, sizeof(T));
    const T b = values<T>(w, in.op[kFirst])[i];
    const T c = in.variant == 2 ? values<T>(w, in.op[kFirst + 1])[i] : T{0};
    const T result = Op{}(old, b, c);
    std::memcpy(at, &result, sizeof(T));
    if (kDestination) values<T>(w, in.op[0])[i] = old;
  });
}

template <typename T, typename Op>
void add_atomic(Opcodes& t, const std::string& name, Op, bool has_red, uint8_t sources = 1) {
  constexpr SpaceName kSpaces[] = {{"", Space::kGeneric},
                                   {".global", Space::kGlobal},
                                   {".shared", Space::kShared},
                                   {".shared::cta", Space::kShared}};
  const std::string operands = typed(sources == 2 ? "att" : "at", sizeof(T));
  for (const auto& [space_text, space] : kSpaces)
    for (const std::string order : {"", ".relaxed", ".acquire", ".release", ".acq_rel"})
      for (const std::string scope : {"", ".cta", ".gpu", ".sys"}) {
        if (!order.empty() && scope.empty()) continue;
        const std::string opcode = order + scope + space_text + "." + name;
        t.add("atom" + opcode, {.operands = join({typed("T", sizeof(T)), operands}),
                                .execute = atomic<T, true, Op>,
                                .variant = sources,
                                .space = space});
        if (has_red && order.find("acq") == std::string::npos)
          t.add("red" + opcode, {.operands = operands,
                                 .execute = atomic<T, false, Op>,
                                 .variant = sources,
                                 .space = space});
      }
}

void add_atomics(Opcodes& t) {
  const auto add = [](auto a, auto b, auto) { return a + b; };
  const auto lowest = [](auto a, auto b, auto) { return a < b ? a : b; };
  const auto highest = [](auto a, auto b, auto) { return a > b ? a : b; };
  const auto both = [](auto a, auto b, auto) { return a & b; };
  const auto either = [](auto a, auto b, auto) { return a | b; };
  const auto differ = [](auto a, auto b, auto) { return a ^ b; };
  const auto exchange = [](auto, auto b, auto) { return b; };
  const auto swap_if = [](auto a, auto b, auto c) { return a == b ? c : a; };
  add_atomic<uint32_t>(t, "add.u32", add, true);
  add_atomic<uint32_t>(t, "add.s32", add, true);
  add_atomic<uint64_t>(t, "add.u64", add, true);
  add_atomic<uint32_t>(t, "min.u32", lowest, true);
  add_atomic<int32_t>(t, "min.s32", lowest, true);
  add_atomic<uint64_t>(t, "min.u64", lowest, true);
  add_atomic<int64_t>(t, "min.s64", lowest, true);
  add_atomic<uint32_t>(t, "max.u32", highest, true);
  add_atomic<int32_t>(t, "max.s32", highest, true);
  add_atomic<uint64_t>(t, "max.u64", highest, true);
  add_atomic<int64_t>(t, "max.s64", highest, true);
  add_atomic<uint32_t>(t, "and.b32", both, true);
  add_atomic<uint64_t>(t, "and.b64", both, true);
  add_atomic<uint32_t>(t, "or.b32", either, true);
  add_atomic<uint64_t>(t, "or.b64", either, true);
  add_atomic<uint32_t>(t, "xor.b32", differ, true);
  add_atomic<uint64_t>(t, "xor.b64", differ, true);
  add_atomic<uint32_t>(t, "exch.b32", exchange, false);
  add_atomic<uint64_t>(t, "exch.b64", exchange, false);
  add_atomic<uint32_t>(t, "cas.b32", swap_if, false, 2);
  add_atomic<uint64_t>(t, "cas.b64", swap_if, false, 2);
  add_atomic<uint32_t>(
      t, "inc.u32", [](uint32_t a, uint32_t b, uint32_t) { return a >= b ? 0 : a + 1; }, true);
  add_atomic<uint32_t>(
      t, "dec.u32", [](uint32_t a, uint32_t b, uint32_t) { return a == 0 || a > b ? b : a - 1; },
      true);
}

// [shared], [global], bytes{, source bytes}; variant: 1 if source bytes are given, 2: .cg.
void copy_async(Warp& w, const Inst& in, uint32_t lanes) {
  Block& block = *w.block;
  const uint32_t bytes = in.op[0];
  const bool legal = bytes == 16 || ((in.variant & 2) == 0 && (bytes == 4 || bytes == 8));
  if (!legal) return w.fail(in, 0, "copies of " + std::to_string(bytes) + " bytes");
  for_lanes(lanes, [&](uint32_t i) {
    const uint32_t from = (in.variant & 1) != 0 ? values<uint32_t>(w, in.op[1])[i] : bytes;
    if (from > bytes) return w.fail(in, i, "source of " + std::to_string(from) + " bytes");
    uint8_t* to = resolve(w, in, i, 0, Space::kShared, bytes, true);
    const uint64_t source = address_of(w, in, i, 1);
    if (source % bytes != 0) return w.fail(in, i, "misaligned source");
    if (to == nullptr) return;
    if (from > 0 && block.memory->at(source, from, false, &in.hint[1]) == nullptr)
      return w.fail(in, i, "source outside every allocation");
    const PendingCopy copy{source,
                           static_cast<uint32_t>(to - block.shared.data()),
                           w.group[i],
                           static_cast<uint8_t>(i),
                           static_cast<uint8_t>(bytes),
                           static_cast<uint8_t>(from)};
    const bool now =
        block.async == Async::kAtOnce || (block.async == Async::kRandom && block.rng->chance(2));
    if (now) return complete(w, in, copy);
    // Until the wait the bytes are undefined.
    for (uint32_t k = 0; k < bytes; ++k) to[k] = static_cast<uint8_t>(0x9d + 0x3b * k);
    w.copies.push_back(copy);
  });
  block.counters->async_copies += static_cast<uint64_t>(__builtin_popcount(lanes));
}

void commit(Warp& w, uint32_t lanes) {
  for_lanes(lanes, [&](uint32_t i) { ++w.group[i]; });
}
void wait_groups(Warp& w, const Inst& in, uint32_t lanes, uint32_t pending) {
  size_t kept = 0;
  for (const PendingCopy& copy : w.copies) {
    const bool waits = (lanes >> copy.lane & 1) != 0;
    if (waits && copy.group + pending < w.group[copy.lane]) {
      complete(w, in, copy);
    } else {
      w.copies[kept++] = copy;
    }
  }
  w.copies.resize(kept);
}

void add_async(Opcodes& t) {
  for (const std::string cache : {"ca", "cg"})
    for (const std::string shared : {".shared", ".shared::cta"})
      for (const std::string hint : {"", ".L2::64B", ".L2::128B", ".L2::256B"}) {
        const std::string opcode = "cp.async." + cache + shared + ".global" + hint;
        const uint8_t cg = cache == "cg" ? 2 : 0;
        t.add(opcode, {.operands = "aai", .execute = copy_async, .variant = cg});
        t.add(opcode,
              {.operands = "aaiw", .execute = copy_async, .variant = static_cast<uint8_t>(cg | 1)});
      }
  t.add(
      "cp.async.commit_group",
      {.operands = "", .execute = [](Warp& w, const Inst&, uint32_t lanes) { commit(w, lanes); }});
  t.add("cp.async.wait_group",
        {.operands = "i", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           wait_groups(w, in, lanes, in.op[0]);
         }});
  t.add("cp.async.wait_all",
        {.operands = "", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           commit(w, lanes);
           wait_groups(w, in, lanes, 0);
         }});
}

}  // namespace

void add_memory(Opcodes& t) {
  add_type<uint8_t>(t, "b8");
  add_type<uint8_t>(t, "u8");
  add_type<int8_t>(t, "s8");
  add_type<uint16_t>(t, "b16");
  add_type<uint16_t>(t, "u16");
  add_type<int16_t>(t, "s16");
  add_type<uint32_t>(t, "b32");
  add_type<uint32_t>(t, "u32");
  add_type<int32_t>(t, "s32");
  add_type<uint32_t>(t, "f32");
  add_type<uint64_t>(t, "b64");
  add_type<uint64_t>(t, "u64");
  add_type<int64_t>(t, "s64");
  add_atomics(t);
  add_async(t);
  const Execute nothing = [](Warp&, const Inst&, uint32_t) {};
  for (const char* fence :
       {"membar.cta", "membar.gl", "membar.sys", "fence.acq_rel.cta", "fence.acq_rel.gpu",
        "fence.acq_rel.sys", "fence.sc.cta", "fence.sc.gpu", "fence.sc.sys"})
    t.add(fence, {.operands = "", .execute = nothing});
  for (const char* prefetch :
       {"prefetch.global.L1", "prefetch.global.L2", "prefetch.L1", "prefetch.L2"})
    t.add(prefetch, {.operands = "a", .execute = nothing});
}

}  // namespace mpq::ptx
