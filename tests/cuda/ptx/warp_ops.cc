// PTX ISA, instructions that look across the lanes of a warp, barriers and control flow.
#include <algorithm>

#include "tests/cuda/ptx/opcodes.h"

namespace mpq::ptx {
namespace {

// True if the lanes of every membermask are here, and the lane itself is one of them.
bool members(Warp& w, const Inst& in, uint32_t operand, uint32_t lanes) {
  const uint32_t* masks = values<uint32_t>(w, in.op[operand]);
  bool fine = true;
  for_lanes(lanes, [&](uint32_t i) {
    if ((masks[i] >> i & 1) == 0) {
      fine = false;
      w.fail(in, i, "the lane is not in its own membermask");
    } else if ((masks[i] & w.alive & ~lanes) != 0) {
      fine = false;
      w.fail(in, i, "lanes of the membermask are elsewhere");
    }
  });
  return fine;
}

bool whole_warp(Warp& w, const Inst& in, uint32_t lanes) {
  if (lanes != kAllLanes) w.fail(in, 0, "an aligned instruction reached by a part of the warp");
  return lanes == kAllLanes;
}

enum class Shuffle : uint8_t { kUp, kDown, kButterfly, kIndex };

// d{|p}, a, b, c, membermask
template <Shuffle kMode, bool kPredicate>
void shuffle(Warp& w, const Inst& in, uint32_t lanes) {
  constexpr uint32_t kA = kPredicate ? 2 : 1;
  if (!members(w, in, kA + 3, lanes)) return;
  uint32_t a[kLanes];
  std::memcpy(a, values<uint32_t>(w, in.op[kA]), sizeof a);
  const uint32_t* b = values<uint32_t>(w, in.op[kA + 1]);
  const uint32_t* c = values<uint32_t>(w, in.op[kA + 2]);
  uint32_t result[kLanes];
  uint32_t in_range = 0;
  for_lanes(lanes, [&](uint32_t i) {
    const auto lane = static_cast<int32_t>(i), bval = static_cast<int32_t>(b[i] & 31);
    const auto clamp = static_cast<int32_t>(c[i] & 31),
               segment = static_cast<int32_t>(c[i] >> 8 & 31);
    const int32_t max_lane = (lane & segment) | (clamp & ~segment);
    int32_t j = lane;
    bool p = false;
    switch (kMode) {
      case Shuffle::kUp:
        j = lane - bval;
        p = j >= max_lane;
        break;
      case Shuffle::kDown:
        j = lane + bval;
        p = j <= max_lane;
        break;
      case Shuffle::kButterfly:
        j = lane ^ bval;
        p = j <= max_lane;
        break;
      case Shuffle::kIndex:
        j = (lane & segment) | (bval & ~segment);
        p = j <= max_lane;
        break;
    }
    if (!p) j = lane;
    if ((lanes >> j & 1) == 0) return w.fail(in, i, "reads the inactive lane " + std::to_string(j));
    result[i] = a[j];
    in_range |= uint32_t{p} << i;
  });
  uint32_t* d = values<uint32_t>(w, in.op[0]);
  for_lanes(lanes, [&](uint32_t i) { d[i] = result[i]; });
  if (kPredicate) set_predicate(w, in.op[1], in_range, lanes);
}

template <Shuffle kMode>
void add_shuffle(Opcodes& t, const std::string& mode) {
  t.add("shfl.sync." + mode + ".b32", {.operands = "W|Pwwww", .execute = shuffle<kMode, true>});
  t.add("shfl.sync." + mode + ".b32", {.operands = "Wwwww", .execute = shuffle<kMode, false>});
}

void add_votes(Opcodes& t) {
  const auto row = [&](const char* mode, auto op) {
    using Op = decltype(op);
    t.add("vote.sync." + std::string(mode) + ".pred",
          {.operands = "Ppw", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
             if (!members(w, in, 2, lanes)) return;
             set_predicate(w, in.op[0], Op{}(predicate(w, in, 1) & lanes, lanes) ? kAllLanes : 0,
                           lanes);
           }});
  };
  row("all", [](uint32_t p, uint32_t lanes) { return p == lanes; });
  row("any", [](uint32_t p, uint32_t) { return p != 0; });
  row("uni", [](uint32_t p, uint32_t lanes) { return p == 0 || p == lanes; });
  t.add("vote.sync.ballot.b32",
        {.operands = "Wpw", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           if (!members(w, in, 2, lanes)) return;
           uint32_t* d = values<uint32_t>(w, in.op[0]);
           const uint32_t bits = predicate(w, in, 1) & lanes;
           for_lanes(lanes, [&](uint32_t i) { d[i] = bits; });
         }});
  t.add("match.any.sync.b32",
        {.operands = "Www", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           if (!members(w, in, 2, lanes)) return;
           const uint32_t* a = values<uint32_t>(w, in.op[1]);
           uint32_t result[kLanes];
           for_lanes(lanes, [&](uint32_t i) {
             result[i] = 0;
             for_lanes(lanes, [&](uint32_t j) { result[i] |= uint32_t{a[i] == a[j]} << j; });
           });
           uint32_t* d = values<uint32_t>(w, in.op[0]);
           for_lanes(lanes, [&](uint32_t i) { d[i] = result[i]; });
         }});
  t.add("activemask.b32", {.operands = "W", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                             uint32_t* d = values<uint32_t>(w, in.op[0]);
                             for_lanes(lanes, [&](uint32_t i) { d[i] = lanes; });
                           }});
}

template <typename T, typename Op>
void add_reduction(Opcodes& t, const std::string& name, Op) {
  t.add("redux.sync." + name,
        {.operands = "Www", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
           if (!members(w, in, 2, lanes)) return;
           const T* a = values<T>(w, in.op[1]);
           T sum = a[__builtin_ctz(lanes)];
           for_lanes(lanes & (lanes - 1), [&](uint32_t i) { sum = Op{}(sum, a[i]); });
           T* d = values<T>(w, in.op[0]);
           for_lanes(lanes, [&](uint32_t i) { d[i] = sum; });
         }});
}

// Matrix i, row r: the 16 bytes at the address of lane 8 i + r. Lane L receives of matrix i the
// 4 bytes 4 (L % 4) of row L / 4; transposed: elements [2 (L % 4)][L / 4] and the one below it.
template <uint32_t kCount, bool kTranspose>
void load_matrix(Warp& w, const Inst& in, uint32_t lanes) {
  if (!whole_warp(w, in, lanes)) return;
  const uint32_t addresses = w.block->program->target < 80 ? kLanes : 8 * kCount;
  uint16_t element[kCount][8][8];
  for (uint32_t lane = 0; lane < addresses; ++lane) {
    const uint8_t* row = resolve(w, in, lane, 0, Space::kShared, 16, false);
    if (row == nullptr) return;
    if (lane < 8 * kCount) std::memcpy(element[lane / 8][lane % 8], row, 16);
  }
  for (uint32_t i = 0; i < kCount; ++i)
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t r = lane / 4, c = 2 * (lane % 4);
      const uint32_t low = kTranspose ? element[i][c][r] : element[i][r][c];
      const uint32_t high = kTranspose ? element[i][c + 1][r] : element[i][r][c + 1];
      values<uint32_t>(w, in.op[i])[lane] = high << 16 | low;
    }
  ++w.block->counters->ldmatrix;
}
template <uint32_t kCount>
void add_load_matrix(Opcodes& t) {
  const std::string n = std::to_string(kCount);
  for (const std::string shared : {".shared", ".shared::cta"}) {
    const std::string head = "ldmatrix.sync.aligned.m8n8.x" + n;
    t.add(head + shared + ".b16", {.operands = n + "Wa", .execute = load_matrix<kCount, false>});
    t.add(head + ".trans" + shared + ".b16",
          {.operands = n + "Wa", .execute = load_matrix<kCount, true>});
  }
}

}  // namespace

void add_warp(Opcodes& t) {
  add_shuffle<Shuffle::kUp>(t, "up");
  add_shuffle<Shuffle::kDown>(t, "down");
  add_shuffle<Shuffle::kButterfly>(t, "bfly");
  add_shuffle<Shuffle::kIndex>(t, "idx");
  add_votes(t);
  add_reduction<uint32_t>(t, "add.u32", [](uint32_t a, uint32_t b) { return a + b; });
  add_reduction<uint32_t>(t, "add.s32", [](uint32_t a, uint32_t b) { return a + b; });
  add_reduction<uint32_t>(t, "min.u32", [](uint32_t a, uint32_t b) { return a < b ? a : b; });
  add_reduction<uint32_t>(t, "max.u32", [](uint32_t a, uint32_t b) { return a > b ? a : b; });
  add_reduction<int32_t>(t, "min.s32", [](int32_t a, int32_t b) { return a < b ? a : b; });
  add_reduction<int32_t>(t, "max.s32", [](int32_t a, int32_t b) { return a > b ? a : b; });
  add_reduction<uint32_t>(t, "and.b32", [](uint32_t a, uint32_t b) { return a & b; });
  add_reduction<uint32_t>(t, "or.b32", [](uint32_t a, uint32_t b) { return a | b; });
  add_reduction<uint32_t>(t, "xor.b32", [](uint32_t a, uint32_t b) { return a ^ b; });
  add_load_matrix<1>(t);
  add_load_matrix<2>(t);
  add_load_matrix<4>(t);
  t.add("bar.warp.sync", {.operands = "w", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                            members(w, in, 0, lanes);
                          }});

  for (const char* barrier : {"bar.sync", "barrier.sync", "barrier.sync.aligned", "bar.cta.sync",
                              "barrier.cta.sync", "barrier.cta.sync.aligned"}) {
    t.add(barrier, {.operands = "w", .variant = 1, .flow = Flow::kBarrier});
    t.add(barrier, {.operands = "ww", .variant = 2, .flow = Flow::kBarrier});
  }
  t.add("bra", {.operands = "L", .flow = Flow::kBranch});
  t.add("bra.uni", {.operands = "L", .variant = 1, .flow = Flow::kBranch});
  t.add("ret", {.operands = "", .flow = Flow::kExit});
  t.add("exit", {.operands = "", .flow = Flow::kExit});
  t.add("trap", {.operands = "", .execute = [](Warp& w, const Inst& in, uint32_t lanes) {
                   w.fail(in, static_cast<uint32_t>(__builtin_ctz(lanes)), "trap");
                 }});
  // Grids run one after the other, so what these wait for has happened.
  const Execute nothing = [](Warp&, const Inst&, uint32_t) {};
  t.add("griddepcontrol.wait", {.operands = "", .execute = nothing});
  t.add("griddepcontrol.launch_dependents", {.operands = "", .execute = nothing});
  t.add("nanosleep.u32", {.operands = "w", .execute = nothing});
}

}  // namespace mpq::ptx
