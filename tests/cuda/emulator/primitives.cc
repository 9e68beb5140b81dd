// kernels/cuda/primitives.h on the emulated machine.
#include "kernels/cuda/primitives.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tests/cuda/emulator/state.h"

namespace mpq::cuda {

using test::Access;
using test::AsyncCopy;
using test::Call;
using test::GpuThread;
using test::machine;
using test::Mutation;
using test::Site;

#define MPQ_FROM const char *file, int line

uint32_t thread_index() { return machine->self().index; }
uint32_t block_x() { return machine->block().at[0]; }
uint32_t block_y() { return machine->block().at[1]; }
uint32_t block_z() { return machine->block().at[2]; }
uint32_t grid_x() { return machine->launch().grid_x; }

void bar_sync(MPQ_FROM) {
  const Site site = {file, line};
  if (machine->made(Call::kBarrier, site)) machine->barrier(site);
}

namespace {

template <typename T>
T read_shared(uint32_t address, const Site& site) {
  machine->made(Call::kSharedLoad, site);
  if (machine->planted(Mutation::kNextChunk, site)) address += 16;
  machine->require(machine->block().shared.check(address, sizeof(T)), site, Call::kSharedLoad);
  machine->require(machine->block().shared.on_read(address, sizeof(T), machine->self().index,
                                                   machine->block().epoch),
                   site, Call::kSharedLoad);
  machine->note(site, Access::Kind::kShared, address, sizeof(T));
  T value;
  std::memcpy(&value, machine->block().shared.at(address), sizeof(T));
  return value;
}

template <typename T>
void write_shared(uint32_t address, const T& value, const Site& site) {
  if (!machine->made(Call::kSharedStore, site)) return;
  machine->require(machine->block().shared.check(address, sizeof(T)), site, Call::kSharedStore);
  machine->require(machine->block().shared.on_write(address, sizeof(T), machine->self().index,
                                                    machine->block().epoch),
                   site, Call::kSharedStore);
  machine->note(site, Access::Kind::kShared, address, sizeof(T));
  std::memcpy(machine->block().shared.at(address), &value, sizeof(T));
}

template <typename T>
T read_global(const T* p, bool constant, const Site& site) {
  machine->require(machine->global->check(p, sizeof(T)), site, Call::kNone);
  machine->require(machine->global->on_read(p, sizeof(T), machine->grid_thread(), constant), site,
                   Call::kNone);
  machine->note(site, Access::Kind::kRead, reinterpret_cast<uintptr_t>(p), sizeof(T));
  return *p;
}

}  // namespace

uint32_t shared_load(uint32_t address, MPQ_FROM) {
  const Site site = {file, line};
  return read_shared<uint32_t>(address, site);
}
Words4 shared_load4(uint32_t address, MPQ_FROM) {
  const Site site = {file, line};
  return read_shared<Words4>(address, site);
}
void shared_store(uint32_t address, uint32_t value, MPQ_FROM) {
  const Site site = {file, line};
  write_shared(address, value, site);
}
void shared_store4(uint32_t address, const Words4& value, MPQ_FROM) {
  const Site site = {file, line};
  write_shared(address, value, site);
}

template <typename T>
T load_const(const T* p, MPQ_FROM) {
  const Site site = {file, line};
  return read_global(p, true, site);
}
template <typename T>
T load(const T* p, MPQ_FROM) {
  const Site site = {file, line};
  return read_global(p, false, site);
}
template <>
int32_t load_shared_by_grid(const int32_t* p, MPQ_FROM) {
  const Site site = {file, line};
  machine->require(machine->global->check(p, sizeof *p), site, Call::kNone);
  machine->require(machine->on_load_of_sums(p), site, Call::kNone);
  machine->note(site, Access::Kind::kRead, reinterpret_cast<uintptr_t>(p), sizeof *p);
  return *p;
}
template <typename T>
void store(T* p, T value, MPQ_FROM) {
  const Site site = {file, line};
  if (!machine->made(Call::kGlobalStore, site)) return;
  machine->require(machine->global->check(p, sizeof(T)), site, Call::kGlobalStore);
  machine->require(machine->global->on_write(p, sizeof(T), machine->grid_thread()), site,
                   Call::kGlobalStore);
  machine->note(site, Access::Kind::kWrite, reinterpret_cast<uintptr_t>(p), sizeof(T));
  *p = value;
}

#define MPQ_INSTANTIATE(T)                           \
  template T load_const(const T*, const char*, int); \
  template T load(const T*, const char*, int);       \
  template void store(T*, T, const char*, int);
MPQ_INSTANTIATE(uint8_t)
MPQ_INSTANTIATE(int8_t)
MPQ_INSTANTIATE(uint16_t)
MPQ_INSTANTIATE(uint32_t)
MPQ_INSTANTIATE(int32_t)
MPQ_INSTANTIATE(float)
MPQ_INSTANTIATE(Words2)
MPQ_INSTANTIATE(Words4)
#undef MPQ_INSTANTIATE

void add_to(int32_t* p, int32_t value, MPQ_FROM) {
  const Site site = {file, line};
  if (!machine->made(Call::kAdd, site)) return;
  machine->require(machine->global->check(p, sizeof *p), site, Call::kAdd);
  machine->global->on_atomic(p, sizeof *p);
  machine->note(site, Access::Kind::kWrite, reinterpret_cast<uintptr_t>(p), sizeof *p);
  machine->on_add(p);
  ++machine->counters.atomics;
  if (machine->planted(Mutation::kTwice, site)) value *= 2;
  if (machine->late())
    machine->self().late_adds.emplace_back(p, value);
  else
    *p += value;
}

uint32_t take_ticket(uint32_t* p, MPQ_FROM) {
  const Site site = {file, line};
  machine->made(Call::kTicket, site);
  machine->require(machine->global->check(p, sizeof *p), site, Call::kTicket);
  machine->global->on_atomic(p, sizeof *p);
  machine->on_ticket();
  return (*p)++ + (machine->planted(Mutation::kEarlyTicket, site) ? 1 : 0);
}

void fence(MPQ_FROM) {
  const Site site = {file, line};
  if (!machine->made(Call::kFence, site)) return;
  GpuThread& self = machine->self();
  for (const auto& [p, value] : self.late_adds) *p += value;
  self.late_adds.clear();
  self.fenced = true;
  machine->on_fence();
}

namespace {

void land(AsyncCopy* c) {
  uint8_t* to = machine->block().shared.at(c->address);
  std::memset(to, 0, 16);
  if (c->bytes != 0) std::memcpy(to, c->from, c->bytes);
  c->landed = true;
}

void wait(uint32_t pending, const Site& site) {
  if (!machine->made(Call::kWait, site)) return;
  if (machine->planted(Mutation::kOneMorePending, site)) ++pending;
  GpuThread& self = machine->self();
  std::vector<AsyncCopy> under_way;
  for (AsyncCopy& c : self.copies)
    if (c.group + pending < self.group) {
      if (!c.landed) land(&c);
      machine->block().shared.on_copy_end(c.address, 16, self.index, machine->block().epoch);
    } else {
      under_way.push_back(c);
    }
  self.copies.swap(under_way);
}

}  // namespace

void cp_async16(uint32_t address, const void* from, uint32_t bytes, MPQ_FROM) {
  const Site site = {file, line};
  if (!machine->made(Call::kCopy, site)) return;
  if (machine->planted(Mutation::kNoZeroFill, site)) bytes = 16;
  machine->require(machine->block().shared.check(address, 16), site, Call::kCopy);
  if (bytes != 0) {
    machine->require(machine->global->check(from, 16), site, Call::kCopy);
    machine->require(machine->global->on_read(from, 16, machine->grid_thread(), true), site,
                     Call::kCopy);
    machine->note(site, Access::Kind::kRead, reinterpret_cast<uintptr_t>(from), 16);
  }
  GpuThread& self = machine->self();
  machine->require(
      machine->block().shared.on_copy_start(address, 16, self.index, machine->block().epoch), site,
      Call::kCopy);
  AsyncCopy c = {address, from, bytes, self.group, false};
  std::memset(machine->block().shared.at(address), 0xC3, 16);
  if (!machine->late()) land(&c);
  self.copies.push_back(c);
  ++machine->counters.copies;
  machine->counters.copied_bytes += bytes;
}

void cp_commit(MPQ_FROM) {
  const Site site = {file, line};
  if (machine->made(Call::kCommit, site)) ++machine->self().group;
}

template <int pending>
void cp_wait(MPQ_FROM) {
  const Site site = {file, line};
  wait(pending, site);
}
template void cp_wait<0>(const char*, int);
template void cp_wait<1>(const char*, int);
template void cp_wait<2>(const char*, int);

namespace {

struct LdmatrixPart {
  uint32_t address;
  uint32_t out[4];
};

// Element e of 16 bits of row r of a matrix of 8 x 8.
uint32_t element(const uint8_t* row, uint32_t e) {
  return static_cast<uint32_t>(row[2 * e] | row[2 * e + 1] << 8);
}

template <uint32_t matrices, bool transposed>
LdmatrixPart ldmatrix(Call call, uint32_t address, const Site& site) {
  machine->made(call, site);
  if (machine->planted(Mutation::kNextChunk, site)) address += 16;
  LdmatrixPart mine = {address, {}};
  machine->together(call, site, &mine, [&](auto part_of) {
    const auto at = [&](uint32_t lane) {
      if (machine->planted(Mutation::kNeighbourRow, site)) lane ^= 1;
      return static_cast<LdmatrixPart*>(part_of(lane))->address;
    };
    for (uint32_t i = 0; i < 32; ++i)  // even of lanes whose rows are not used
      machine->require(machine->block().shared.check(at(i), 16), site, call);
    for (uint32_t i = 0; i < matrices; ++i) {
      const uint8_t* rows[8];
      uint32_t busy[8] = {}, passes = 0;
      for (uint32_t r = 0; r < 8; ++r) {
        const uint32_t address_of_row = at(8 * i + r);
        rows[r] = machine->block().shared.at(address_of_row);
        bool again = false;  // the same row twice is read once
        for (uint32_t q = 0; q < r; ++q) again |= rows[q] == rows[r];
        if (!again) passes = std::max(passes, ++busy[address_of_row / 16 % 8]);
        // Lane 4 r + t reads word t of row r; of transposed ones each word has two readers, so that
        // nobody may have written it in this epoch.
        for (uint32_t t = 0; t < 4; ++t)
          machine->require(machine->block().shared.on_read(
                               address_of_row + 4 * t, 4,
                               transposed ? 0xFFF0 : machine->self().index / 32 * 32 + 4 * r + t,
                               machine->block().epoch),
                           site, call);
      }
      machine->counters.ldmatrix_passes += passes;
      machine->counters.ldmatrix_conflicts += passes - 1;
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint32_t g = lane / 4, t = lane % 4;
        const uint32_t low = transposed ? element(rows[2 * t], g) : element(rows[g], 2 * t);
        const uint32_t high =
            transposed ? element(rows[2 * t + 1], g) : element(rows[g], 2 * t + 1);
        static_cast<LdmatrixPart*>(part_of(lane))->out[i] = low | high << 16;
      }
    }
    ++machine->counters.ldmatrix;
  });
  return mine;
}

}  // namespace

Words4 ldmatrix4(uint32_t address, MPQ_FROM) {
  const Site site = {file, line};
  const LdmatrixPart p = ldmatrix<4, false>(Call::kLdmatrix4, address, site);
  return {{p.out[0], p.out[1], p.out[2], p.out[3]}};
}
Words2 ldmatrix2(uint32_t address, MPQ_FROM) {
  const Site site = {file, line};
  const LdmatrixPart p = ldmatrix<2, false>(Call::kLdmatrix2, address, site);
  return {{p.out[0], p.out[1]}};
}
Words4 ldmatrix4_transposed(uint32_t address, MPQ_FROM) {
  const Site site = {file, line};
  const LdmatrixPart p = ldmatrix<4, true>(Call::kLdmatrix4Transposed, address, site);
  return {{p.out[0], p.out[1], p.out[2], p.out[3]}};
}

namespace {

struct MmaPart {
  int32_t* c;
  const uint32_t *a, *b;
};

// Code e of a register.
template <uint32_t bits, bool is_signed>
int32_t field(uint32_t word, uint32_t e) {
  const uint32_t top = word << (32 - bits - e * bits);
  return is_signed ? static_cast<int32_t>(top) >> (32 - bits)
                   : static_cast<int32_t>(top >> (32 - bits));
}

template <uint32_t bits, bool signed_a>
void mma(Call call, int32_t* c, const uint32_t* a, const uint32_t* b, const Site& site) {
  constexpr uint32_t kCodes = 32 / bits, kDepth = 8 * kCodes;  // of a register; of the product
  if (!machine->made(call, site)) return;
  MmaPart mine = {c, a, b};
  machine->together(call, site, &mine, [&](auto part_of) {
    int16_t codes[16][kDepth], weights[8][kDepth];
    const bool swap_a = machine->planted(Mutation::kSwapA, site);
    const bool swap_b = machine->planted(Mutation::kSwapB, site);
    const bool swap_sums = machine->planted(Mutation::kSwapSums, site);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto* p = static_cast<const MmaPart*>(part_of(lane));
      const uint32_t g = lane / 4, t = lane % 4;
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t word = p->a[swap_a && (i == 1 || i == 2) ? 3 - i : i];
        for (uint32_t e = 0; e < kCodes; ++e)
          codes[g + 8 * (i % 2)][kCodes * (t + i / 2 * 4) + e] =
              static_cast<int16_t>(field<bits, signed_a>(word, e));
      }
      for (uint32_t i = 0; i < 2; ++i)
        for (uint32_t e = 0; e < kCodes; ++e)
          weights[g][kCodes * (t + i * 4) + e] =
              static_cast<int16_t>(field<bits, true>(p->b[swap_b ? 1 - i : i], e));
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const auto* p = static_cast<const MmaPart*>(part_of(lane));
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        int32_t sum = 0;
        for (uint32_t k = 0; k < kDepth; ++k) sum += codes[row][k] * weights[column][k];
        int32_t& to = p->c[swap_sums && (i == 1 || i == 2) ? 3 - i : i];
        to = static_cast<int32_t>(static_cast<uint32_t>(to) + static_cast<uint32_t>(sum));
      }
    }
    ++(bits == 4 ? machine->counters.products_4bit : machine->counters.products_8bit);
  });
}

}  // namespace

void mma_u4s4(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_FROM) {
  const Site site = {file, line};
  mma<4, false>(Call::kMmaU4S4, c, a, b, site);
}
void mma_u8s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_FROM) {
  const Site site = {file, line};
  mma<8, false>(Call::kMmaU8S8, c, a, b, site);
}
void mma_s8s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], MPQ_FROM) {
  const Site site = {file, line};
  mma<8, true>(Call::kMmaS8S8, c, a, b, site);
}

namespace {

struct ShufflePart {
  uint32_t x, from, out;
};

uint32_t shuffle(Call call, uint32_t x, uint32_t from, const Site& site) {
  if (!machine->made(call, site)) return x;
  if (machine->planted(Mutation::kOtherLane, site)) from ^= 1;
  ShufflePart mine = {x, from, 0};
  machine->together(call, site, &mine, [&](auto part_of) {
    for (uint32_t i = 0; i < 32; ++i) {
      auto* p = static_cast<ShufflePart*>(part_of(i));
      p->out = static_cast<ShufflePart*>(part_of(p->from))->x;
    }
  });
  return mine.out;
}

}  // namespace

uint32_t shuffle_xor(uint32_t x, uint32_t mask, MPQ_FROM) {
  const Site site = {file, line};
  return shuffle(Call::kShuffleXor, x, (thread_index() ^ mask) % 32, site);
}
uint32_t shuffle_down16(uint32_t x, uint32_t delta, MPQ_FROM) {
  const Site site = {file, line};
  const uint32_t lane = thread_index() % 32;
  return shuffle(Call::kShuffleDown16, x, lane % 16 + delta < 16 ? lane + delta : lane, site);
}
uint32_t shuffle_from16(uint32_t x, uint32_t lane, MPQ_FROM) {
  const Site site = {file, line};
  return shuffle(Call::kShuffleFrom16, x, thread_index() % 32 / 16 * 16 + lane % 16, site);
}

uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t s) {
  const uint64_t both = a | static_cast<uint64_t>(b) << 32;
  uint32_t out = 0;
  for (uint32_t i = 0; i < 4; ++i)
    out |= static_cast<uint32_t>(both >> ((s >> (4 * i) & 7) * 8) & 0xFF) << (8 * i);
  return out;
}

float load_table(const float* p) { return *p; }

float fma(float a, float b, float c) { return std::fmaf(a, b, c); }
float add(float a, float b) { return a + b; }
float sub(float a, float b) { return a - b; }
float mul(float a, float b) { return a * b; }
float max_number(float a, float b) { return std::fmax(a, b); }
float min_number(float a, float b) { return std::fmin(a, b); }
float div(float a, float b) { return a / b; }
float sqrt(float a) { return std::sqrt(a); }
float to_float(int32_t x) { return static_cast<float>(x); }
int32_t round_to_int(float x) {
  if (std::isnan(x)) return 0;
  if (x >= 0x1p31F) return INT32_MAX;
  if (x < -0x1p31F) return INT32_MIN;
  return static_cast<int32_t>(std::nearbyintf(x));
}
float round_half_even(float x) { return std::nearbyintf(x); }
uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
float float_of(uint32_t x) { return std::bit_cast<float>(x); }

}  // namespace mpq::cuda
