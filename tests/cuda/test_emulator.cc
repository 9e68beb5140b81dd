// The emulator itself: its instructions against the PTX ISA's tables, and each of its checks with a
// small kernel that needs it.
#include <doctest/doctest.h>

#include <cstring>

#include "kernels/cuda/primitives.h"
#include "tests/cuda/device.h"
#include "tests/support/rng.h"

namespace mpq::test {
namespace {

using namespace cuda;

// The array that the small kernels work on, and how many words it has.
uint32_t* words = nullptr;
constexpr uint32_t kWords = 64;

std::string run_small(void (*kernel)(const void*), uint32_t threads = 64, uint32_t blocks = 1,
                      const LaunchOptions& options = {}) {
  Device device;
  words = device.upload(std::vector<uint32_t>(kWords, 7));
  return run({"small", kernel, nullptr, blocks, 1, 1, threads, 1024}, device.memory, options).error;
}

struct Planted {
  const char* name;
  const char* message;  // part of it; "" when nothing is wrong
  void (*kernel)(const void*);
  uint32_t blocks = 1;
};

const Planted kSmallKernels[] = {
    {"a neighbour's word after a barrier", "",
     [](const void*) {
       shared_store(4 * thread_index(), thread_index());
       bar_sync();
       store(words + thread_index(), shared_load(4 * (thread_index() ^ 1)));
     }},
    {"a neighbour's word without a barrier", "race",
     [](const void*) {
       shared_store(4 * thread_index(), 1);
       bar_sync();
       shared_store(4 * thread_index(), 2);
       shared_load(4 * (thread_index() ^ 32));
     }},
    {"two threads write one word", "race", [](const void*) { shared_store(0, thread_index()); }},
    {"a word is overwritten while others read it", "race",
     [](const void*) {
       if (thread_index() == 0) shared_store(0, 1);
       bar_sync();
       shared_load(0);
       if (thread_index() == 5) shared_store(0, 2);
     }},
    {"reads what nobody wrote", "before anything was written",
     [](const void*) { shared_load(64); }},
    {"beyond shared memory", "outside the block's", [](const void*) { shared_store(1024, 1); }},
    {"a misaligned word of shared memory", "misaligned",
     [](const void*) { shared_store(4 * thread_index() + 2, 1); }},
    {"beyond an array", "outside all arrays",
     [](const void*) { store(words + thread_index() + 1, 1U); }},
    {"misaligned words of global memory", "misaligned",
     [](const void*) { load(reinterpret_cast<const Words2*>(words + 1)); }},
    {"two threads write one word of global memory", "race",
     [](const void*) { store(words, thread_index()); }},
    {"two blocks write one word of global memory", "race",
     [](const void*) { store(words + thread_index(), 1U); }, 2},
    {"reads what another block has written", "race",
     [](const void*) {
       if (thread_index() >= 32) return;
       store(words + thread_index() + 32 * block_x(), 1U);
       load(words + thread_index() + 32 * (1 - block_x()));
     },
     2},
    {"load_const of what the kernel writes", "load_const",
     [](const void*) {
       store(words + thread_index(), 1U);
       load_const(words + thread_index());
     }},
    {"half of a warp is elsewhere", "diverged",
     [](const void*) {
       if (thread_index() % 2 == 0)
         shuffle_xor(1, 1);
       else
         shuffle_xor(1, 2);
     }},
    {"a lane does not take part", "diverged",
     [](const void*) {
       if (thread_index() != 3) shuffle_xor(1, 1);
     }},
    {"half of the block skips a barrier", "diverged",
     [](const void*) {
       if (thread_index() < 32) bar_sync();
     }},
    {"two halves wait at two barriers", "diverged",
     [](const void*) {
       if (thread_index() < 32)
         bar_sync();
       else
         bar_sync();
     }},
    {"a copy that is waited for", "",
     [](const void*) {
       if (thread_index() < 16) cp_async16(16 * thread_index(), words + 4 * thread_index(), 16);
       cp_commit();
       cp_wait<0>();
       bar_sync();
       shared_load(4 * thread_index());
     }},
    {"a copy that nobody waits for", "before it has waited",
     [](const void*) { cp_async16(16 * thread_index(), words, 16); }},
    {"a copy that was not committed", "before it has waited",
     [](const void*) {
       cp_async16(16 * thread_index(), words, 16);
       cp_wait<0>();
     }},
    {"reads where a copy is under way", "copies to it",
     [](const void*) {
       cp_async16(16 * thread_index(), words, 16);
       cp_commit();
       bar_sync();
       shared_load(16 * thread_index());
     }},
    {"waits for the group before the last", "copies to it",
     [](const void*) {
       cp_async16(16 * thread_index(), words, 16);
       cp_commit();
       cp_wait<1>();
       shared_load(16 * thread_index());
     }},
    {"another thread's copy without a barrier", "race",
     [](const void*) {
       shared_store(16 * thread_index(), 1);
       bar_sync();
       cp_async16(16 * thread_index(), words, 16);
       cp_commit();
       cp_wait<0>();
       shared_load(16 * (thread_index() ^ 32));
     }},
    {"a copy over what is being read", "race",
     [](const void*) {
       if (thread_index() < 4) shared_store(4 * thread_index(), 1);
       bar_sync();
       shared_load(0);
       if (thread_index() == 0) cp_async16(0, words, 16);
     }},
    {"a copy from outside the arrays", "outside all arrays",
     [](const void*) { cp_async16(16 * thread_index(), words + kWords, 16); }},
    {"zeros from nowhere", "",
     [](const void*) {
       cp_async16(16 * thread_index(), nullptr, 0);
       cp_commit();
       cp_wait<0>();
       store(words + thread_index(), shared_load(16 * thread_index()));
     }},
    {"a misaligned copy", "misaligned",
     [](const void*) { cp_async16(16 * thread_index(), words + 1, 16); }},
    {"sums of two blocks, fenced, behind a barrier and a ticket", "",
     [](const void*) {
       auto* sum = reinterpret_cast<int32_t*>(words);
       add_to(sum, 1);
       fence();
       bar_sync();
       if (thread_index() == 0) shared_store(0, take_ticket(words + 1));
       bar_sync();
       if (shared_load(0) == 0) return;
       fence();
       load_shared_by_grid(sum);
     },
     2},
    {"sums that nobody has fenced", "race: the sum",
     [](const void*) {
       auto* sum = reinterpret_cast<int32_t*>(words);
       add_to(sum, 1);
       bar_sync();
       if (thread_index() == 0) shared_store(0, take_ticket(words + 1));
       bar_sync();
       if (shared_load(0) == 0) return;
       fence();
       load_shared_by_grid(sum);
     },
     2},
    {"a ticket before the others' fences", "no barrier between its fence and the ticket",
     [](const void*) {
       auto* sum = reinterpret_cast<int32_t*>(words);
       add_to(sum, 1);
       fence();
       if (thread_index() == 0) shared_store(0, take_ticket(words + 1));
       bar_sync();
       if (shared_load(0) == 0) return;
       fence();
       load_shared_by_grid(sum);
     },
     2},
    {"other blocks' sums without a fence", "without a fence before",
     [](const void*) {
       auto* sum = reinterpret_cast<int32_t*>(words);
       add_to(sum, 1);
       fence();
       bar_sync();
       if (thread_index() == 0) shared_store(0, take_ticket(words + 1));
       bar_sync();
       if (shared_load(0) == 0) return;
       load_shared_by_grid(sum);
     },
     2},
    {"other blocks' sums without a ticket", "has no ticket",
     [](const void*) {
       auto* sum = reinterpret_cast<int32_t*>(words);
       add_to(sum, 1);
       fence();
       bar_sync();
       fence();
       load_shared_by_grid(sum);
     },
     2},
    {"a lane of ldmatrix points beyond shared memory", "outside the block's",
     [](const void*) {
       shared_store4(16 * thread_index(), {});
       bar_sync();
       ldmatrix2(thread_index() == 31 ? 1024 : 16 * (thread_index() % 32));  // not even used
     }},
    {"ldmatrix of what was just written", "race",
     [](const void*) {
       shared_store4(16 * thread_index(), {});
       ldmatrix4(16 * thread_index());
     }},
    {"a transposing ldmatrix of what was just written", "race",
     [](const void*) {
       shared_store4(16 * thread_index(), {});
       ldmatrix4_transposed(16 * thread_index());
     }},
};

TEST_CASE("the emulator names what is wrong with a kernel, and nothing else") {
  for (const Planted& p : kSmallKernels)
    for (const uint64_t seed : {0, 1, 2}) {
      LaunchOptions options;
      options.seed = seed;
      const std::string error = run_small(p.kernel, 64, p.blocks, options);
      INFO(std::string(p.name) << ": " << error);
      if (std::strlen(p.message) == 0)
        CHECK(error == "");
      else
        CHECK(error.find(p.message) != std::string::npos);
    }
}

TEST_CASE("every sum is there after the launch, fenced or not, early or late") {
  for (const Copies copies : {Copies::kEarly, Copies::kLate, Copies::kRandom}) {
    LaunchOptions options;
    options.copies = copies;
    Device device;
    words = device.upload(std::vector<uint32_t>(kWords, 0));
    const auto kernel = [](const void*) {
      add_to(reinterpret_cast<int32_t*>(words), 1);
      if (thread_index() % 3 == 0) fence();
    };
    REQUIRE(run({"sums", kernel, nullptr, 5, 1, 1, 64, 0}, device.memory, options).error == "");
    CHECK(words[0] == 5 * 64);
  }
}

// Operands and results of one product, by lane.
struct Registers {
  uint32_t a[32][4], b[32][2];
  int32_t c[32][4];
} registers;

template <void (*mma)(int32_t (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*,
                      int)>
void run_mma() {
  Device device;
  const auto kernel = [](const void*) {
    const uint32_t lane = thread_index();
    mma(registers.c[lane], registers.a[lane], registers.b[lane], __FILE__, 1);
  };
  REQUIRE(run({"mma", kernel, nullptr, 1, 1, 1, 32, 0}, device.memory, {}).error == "");
}

// The tables of the PTX ISA ("Matrix fragments for mma.m16n8k64", ".m16n8k32"), by register.
struct Place {
  uint32_t lane, index, field;
};
Place a_place(uint32_t row, uint32_t k, uint32_t codes) {
  const uint32_t half = 4 * codes;  // of k
  const bool upper = row >= 8, later = k >= half;
  return {row % 8 * 4 + k % half / codes,
          upper && later ? 3U
          : later        ? 2U
          : upper        ? 1U
                         : 0U,
          k % codes};
}
Place b_place(uint32_t column, uint32_t k, uint32_t codes) {
  const uint32_t half = 4 * codes;
  return {column * 4 + k % half / codes, k >= half ? 1U : 0U, k % codes};
}
int32_t& c_place(uint32_t row, uint32_t column) {
  return registers.c[row % 8 * 4 + column / 2][(row >= 8 ? 2 : 0) + column % 2];
}

template <void (*mma)(int32_t (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*,
                      int)>
void require_products(uint32_t bits, int32_t a_lo, int32_t a_hi, Rng& rng) {
  const uint32_t codes = 32 / bits, depth = 8 * codes, mask = (1U << bits) - 1;
  const int32_t b_lo = -(1 << (bits - 1)), b_hi = -1 - b_lo;
  // One code of A and one of B at a time, of every row, column and k: one sum moves, or none.
  for (uint32_t k = 0; k < depth; ++k)
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t j = (i + k) % 8, other = rng.below(4) == 0 ? (k + 1) % depth : k;
      registers = {};
      const Place a = a_place(i, k, codes), b = b_place(j, other, codes);
      const int32_t x = rng.pick({a_lo, a_hi}), w = rng.pick({b_lo, b_hi, -1});
      registers.a[a.lane][a.index] = (static_cast<uint32_t>(x) & mask) << (a.field * bits);
      registers.b[b.lane][b.index] = (static_cast<uint32_t>(w) & mask) << (b.field * bits);
      run_mma<mma>();
      for (uint32_t row = 0; row < 16; ++row)
        for (uint32_t column = 0; column < 8; ++column)
          REQUIRE(c_place(row, column) == (row == i && column == j && other == k ? x * w : 0));
    }
  // Everything at once.
  std::vector<int32_t> x(16 * depth), w(8 * depth), c(16 * 8);
  registers = {};
  for (uint32_t i = 0; i < x.size(); ++i) {
    x[i] = rng.between(a_lo, a_hi);
    const Place p = a_place(i / depth, i % depth, codes);
    registers.a[p.lane][p.index] |= (static_cast<uint32_t>(x[i]) & mask) << (p.field * bits);
  }
  for (uint32_t i = 0; i < w.size(); ++i) {
    w[i] = rng.between(b_lo, b_hi);
    const Place p = b_place(i / depth, i % depth, codes);
    registers.b[p.lane][p.index] |= (static_cast<uint32_t>(w[i]) & mask) << (p.field * bits);
  }
  for (uint32_t i = 0; i < c.size(); ++i) c_place(i / 8, i % 8) = c[i] = rng.between(-9999, 9999);
  run_mma<mma>();
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t column = 0; column < 8; ++column) {
      int32_t sum = c[row * 8 + column];
      for (uint32_t k = 0; k < depth; ++k) sum += x[row * depth + k] * w[column * depth + k];
      REQUIRE(c_place(row, column) == sum);
    }
}

TEST_CASE("products read and write the registers that the PTX ISA says") {
  Rng rng(test_seed());
  require_products<mma_u4s4>(4, 0, 15, rng);
  require_products<mma_u8s8>(8, 0, 255, rng);
  require_products<mma_s8s8>(8, -128, 127, rng);
}

// Of the last ldmatrix, by lane.
uint32_t loaded[32][4];

TEST_CASE("ldmatrix distributes rows, plain and transposed, as the PTX ISA says") {
  Device device;
  // Byte i of shared memory is i + i / 256: unlike everywhere within a row of matrices.
  const auto fill = [] {
    for (uint32_t i = 0; i < 4; ++i) {
      uint32_t word = 0;
      for (uint32_t e = 0; e < 4; ++e) {
        const uint32_t byte = 16 * thread_index() + 4 * i + e;
        word |= ((byte + byte / 256) & 0xFF) << (8 * e);
      }
      shared_store(16 * thread_index() + 4 * i, word);
    }
    bar_sync();
  };
  static decltype(fill)* fill_shared;
  fill_shared = &fill;
  const auto byte_at = [](uint32_t matrix, uint32_t row, uint32_t byte) {
    const uint32_t at = matrix * 128 + row * 16 + byte;
    return (at + at / 256) & 0xFF;
  };
  const auto plain = [](const void*) {
    (*fill_shared)();
    const Words4 w = ldmatrix4(16 * thread_index());
    std::memcpy(loaded[thread_index()], w.x, sizeof w);
  };
  REQUIRE(run({"plain", plain, nullptr, 1, 1, 1, 32, 512}, device.memory, {}).error == "");
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t m = 0; m < 4; ++m)
      for (uint32_t e = 0; e < 4; ++e)
        REQUIRE((loaded[lane][m] >> (8 * e) & 0xFF) == byte_at(m, lane / 4, lane % 4 * 4 + e));
  const auto transposed = [](const void*) {
    (*fill_shared)();
    const Words4 w = ldmatrix4_transposed(16 * thread_index());
    std::memcpy(loaded[thread_index()], w.x, sizeof w);
  };
  REQUIRE(run({"turned", transposed, nullptr, 1, 1, 1, 32, 512}, device.memory, {}).error == "");
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t m = 0; m < 4; ++m)
      for (uint32_t e = 0; e < 4; ++e)
        REQUIRE((loaded[lane][m] >> (8 * e) & 0xFF) ==
                byte_at(m, lane % 4 * 2 + e / 2, lane / 4 * 2 + e % 2));
}

TEST_CASE("bank conflicts and sectors are counted as a GPU has them") {
  struct Count {
    void (*kernel)(const void*);
    uint64_t conflicts, ldmatrix_conflicts, read_sectors;
  };
  const Count counts[] = {
      {[](const void*) { shared_store(4 * thread_index(), 0); }, 0, 0, 0},
      {[](const void*) { shared_store(8 * thread_index(), 0); }, 1, 0, 0},     // two words a bank
      {[](const void*) { shared_store(128 * thread_index(), 0); }, 31, 0, 0},  // one bank
      {[](const void*) { shared_store4(16 * thread_index(), {}); }, 0, 0, 0},
      {[](const void*) {
         shared_store4(128 * thread_index(), {});  // 8 lanes in a pass, all on four banks
         bar_sync();
         ldmatrix4(128 * thread_index());
       },
       4 * 7, 4 * 7, 0},
      {[](const void*) { load(words + thread_index()); }, 0, 0, 4},
      {[](const void*) { load(words + 2 * thread_index() % kWords); }, 0, 0, 8},
      {[](const void*) { load(words + thread_index() / 8); }, 0, 0, 1},
  };
  for (const Count& c : counts) {
    Device device;
    words = device.upload(std::vector<uint32_t>(kWords, 7));
    LaunchOptions options;
    options.count_transactions = true;
    const Outcome o =
        run({"counted", c.kernel, nullptr, 1, 1, 1, 32, 4096}, device.memory, options);
    CHECK(o.error == "");
    CHECK(o.counters.shared_conflicts == c.conflicts);
    CHECK(o.counters.ldmatrix_conflicts == c.ldmatrix_conflicts);
    CHECK(o.counters.read_sectors == c.read_sectors);
  }
}

TEST_CASE("shuffles, permutations and conversions are PTX's") {
  CHECK(permute_bytes(0x33221100, 0x77665544, 0x6420) == 0x66442200);
  CHECK(permute_bytes(0x33221100, 0x77665544, 0x7531) == 0x77553311);
  CHECK(round_to_int(0.5F) == 0);
  CHECK(round_to_int(1.5F) == 2);
  CHECK(round_to_int(-2.5F) == -2);
  CHECK(round_to_int(3e38F) == INT32_MAX);
  CHECK(round_to_int(-3e38F) == INT32_MIN);
  CHECK(round_to_int(float_of(0x7FC00000)) == 0);
  const auto kernel = [](const void*) {
    const uint32_t lane = thread_index();
    loaded[lane][0] = shuffle_xor(lane, 5);
    loaded[lane][1] = shuffle_down16(lane, 4);
    loaded[lane][2] = shuffle_from16(lane, 3);
  };
  Device device;
  REQUIRE(run({"shuffles", kernel, nullptr, 1, 1, 1, 32, 0}, device.memory, {}).error == "");
  for (uint32_t lane = 0; lane < 32; ++lane) {
    CHECK(loaded[lane][0] == (lane ^ 5));
    CHECK(loaded[lane][1] == (lane % 16 < 12 ? lane + 4 : lane));
    CHECK(loaded[lane][2] == lane / 16 * 16 + 3);
  }
}

}  // namespace
}  // namespace mpq::test
