// Memory as a GPU's threads see it, with a ledger of who touched what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mpq::test {

// Each check returns what is wrong, in words, or nothing.
using Fault = std::string;

// The arrays that a launch may touch. Writers are remembered by byte until the launch ends.
class GlobalMemory {
 public:
  static constexpr uint32_t kNobody = 0, kAtomic = ~0U;

  void add(const void* begin, size_t bytes);
  void start_launch();  // nobody has written anything
  template <typename F>
  void for_each_array(F f) const {  // f(begin, bytes)
    for (const Region& r : regions_) f(r.begin, r.bytes);
  }
  // Aligned, inside one array.
  Fault check(const void* p, uint32_t bytes) const;
  // `thread` counts from 1 over the whole grid. Call check() first.
  Fault on_read(const void* p, uint32_t bytes, uint32_t thread, bool constant) const;
  Fault on_write(const void* p, uint32_t bytes, uint32_t thread);
  void on_atomic(const void* p, uint32_t bytes);

 private:
  struct Region {
    const uint8_t* begin;
    size_t bytes;
    std::vector<uint32_t> writer;
  };
  std::vector<Region> regions_;
  const Region* find(const void* p, uint32_t bytes) const;
  uint32_t* writers(const void* p, uint32_t bytes) const;
};

// The shared memory of one block. Time is counted in epochs, from barrier to barrier: accesses of
// one epoch by different threads have no order.
class SharedMemory {
 public:
  void start_block(uint32_t bytes);
  uint8_t* at(uint32_t address) { return bytes_.data() + address; }
  Fault check(uint32_t address, uint32_t bytes) const;
  // bytes: a multiple of 4. Call check() first.
  Fault on_read(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch);
  Fault on_write(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch);
  // An asynchronous copy: from its start to its end nobody may touch the bytes.
  Fault on_copy_start(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch);
  void on_copy_end(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch);

 private:
  static constexpr uint16_t kNobody = 0xFFFF, kMany = 0xFFFE;
  struct Word {
    uint32_t write_epoch = 0, read_epoch = 0;
    uint16_t writer = kNobody, reader = kNobody, copier = kNobody;
    bool written = false;
  };
  std::vector<uint8_t> bytes_;
  std::vector<Word> words_;
};

}  // namespace mpq::test
