#include "tests/cuda/emulator/memory.h"

#include <algorithm>

namespace mpq::test {
namespace {

std::string number(uint64_t value) { return std::to_string(value); }

}  // namespace

void GlobalMemory::add(const void* begin, size_t bytes) {
  regions_.push_back(
      {static_cast<const uint8_t*>(begin), bytes, std::vector<uint32_t>(bytes, kNobody)});
}

void GlobalMemory::start_launch() {
  for (Region& r : regions_) std::fill(r.writer.begin(), r.writer.end(), kNobody);
}

const GlobalMemory::Region* GlobalMemory::find(const void* p, uint32_t bytes) const {
  const auto* first = static_cast<const uint8_t*>(p);
  for (const Region& r : regions_)
    if (first >= r.begin && first + bytes <= r.begin + r.bytes) return &r;
  return nullptr;
}

uint32_t* GlobalMemory::writers(const void* p, uint32_t bytes) const {
  const Region* r = find(p, bytes);
  return const_cast<uint32_t*>(r->writer.data()) + (static_cast<const uint8_t*>(p) - r->begin);
}

Fault GlobalMemory::check(const void* p, uint32_t bytes) const {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
    return "misaligned access of " + number(bytes) + " bytes to global memory";
  if (find(p, bytes) == nullptr)
    return "access of " + number(bytes) + " bytes outside all arrays of global memory";
  return {};
}

Fault GlobalMemory::on_read(const void* p, uint32_t bytes, uint32_t thread, bool constant) const {
  const uint32_t* w = writers(p, bytes);
  for (uint32_t i = 0; i < bytes; ++i) {
    if (constant && w[i] != kNobody) return "load_const of what the kernel has written";
    if (w[i] != kNobody && w[i] != thread)
      return "race: global byte read by grid thread " + number(thread) + ", written by " +
             (w[i] == kAtomic ? "an atomic" : number(w[i]));
  }
  return {};
}

Fault GlobalMemory::on_write(const void* p, uint32_t bytes, uint32_t thread) {
  uint32_t* w = writers(p, bytes);
  for (uint32_t i = 0; i < bytes; ++i) {
    // Whoever has taken the last ticket may clear what atomics have summed up.
    if (w[i] != kNobody && w[i] != thread && w[i] != kAtomic)
      return "race: global byte written by grid threads " + number(w[i]) + " and " + number(thread);
    w[i] = thread;
  }
  return {};
}

void GlobalMemory::on_atomic(const void* p, uint32_t bytes) {
  std::fill_n(writers(p, bytes), bytes, kAtomic);
}

void SharedMemory::start_block(uint32_t bytes) {
  bytes_.assign(bytes, 0xA5);
  words_.assign(bytes / 4, Word{});
}

Fault SharedMemory::check(uint32_t address, uint32_t bytes) const {
  if (address % bytes != 0)
    return "misaligned access of " + number(bytes) + " bytes to shared address " + number(address);
  if (uint64_t{address} + bytes > bytes_.size())
    return "shared address " + number(address) + " outside the block's " + number(bytes_.size()) +
           " bytes";
  return {};
}

Fault SharedMemory::on_read(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch) {
  for (uint32_t i = address / 4; i < (address + bytes) / 4; ++i) {
    Word& w = words_[i];
    const bool racing = w.write_epoch == epoch && w.writer != thread;
    if (w.copier != kNobody || racing || !w.written)
      return "shared address " + number(i * 4) + " read by thread " + number(thread) +
             (w.copier != kNobody ? " while thread " + number(w.copier) + " copies to it"
              : racing            ? ": race, thread " + number(w.writer) + " has written it"
                                  : " before anything was written there");
    w.reader = w.read_epoch == epoch && w.reader != thread ? kMany : static_cast<uint16_t>(thread);
    w.read_epoch = epoch;
  }
  return {};
}

Fault SharedMemory::on_write(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch) {
  for (uint32_t i = address / 4; i < (address + bytes) / 4; ++i) {
    Word& w = words_[i];
    const bool after_write = w.write_epoch == epoch && w.writer != thread;
    const bool after_read = w.read_epoch == epoch && w.reader != thread;
    if (w.copier != kNobody || after_write || after_read)
      return "shared address " + number(i * 4) + " written by thread " + number(thread) +
             (w.copier != kNobody ? " while thread " + number(w.copier) + " copies to it"
              : after_write       ? ": race, thread " + number(w.writer) + " has written it"
                                  : ": race, another thread has read it");
    w.writer = static_cast<uint16_t>(thread);
    w.write_epoch = epoch;
    w.written = true;
  }
  return {};
}

Fault SharedMemory::on_copy_start(uint32_t address, uint32_t bytes, uint32_t thread,
                                  uint32_t epoch) {
  Fault fault = on_write(address, bytes, thread, epoch);
  for (uint32_t i = address / 4; i < (address + bytes) / 4; ++i)
    words_[i].copier = static_cast<uint16_t>(thread);
  return fault;
}

void SharedMemory::on_copy_end(uint32_t address, uint32_t bytes, uint32_t thread, uint32_t epoch) {
  for (uint32_t i = address / 4; i < (address + bytes) / 4; ++i) {
    words_[i].copier = kNobody;
    words_[i].writer = static_cast<uint16_t>(thread);
    words_[i].write_epoch = epoch;
  }
}

}  // namespace mpq::test
