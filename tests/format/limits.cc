// Files made to cost much more than they weigh: each is accepted or refused within a second of CPU
// time and with a heap of at most 4 times its metadata (and 256 KiB). A program of its own, because
// it counts every allocation.
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>

#include "format/aligned.h"
#include "format/header.h"
#include "format/reader.h"
#include "format/serialize.h"
#include "mpq_generated.h"
#include "tests/support/tiny_models.h"

namespace {
size_t live_bytes = 0, peak_bytes = 0;

void* counted(void* p) {
  if (p == nullptr) std::abort();
  live_bytes += malloc_usable_size(p);
  peak_bytes = std::max(peak_bytes, live_bytes);
  return p;
}
void release(void* p) {
  if (p == nullptr) return;
  live_bytes -= malloc_usable_size(p);
  std::free(p);
}
}  // namespace

void* operator new(size_t size) { return counted(std::malloc(size)); }
void* operator new(size_t size, std::align_val_t align) {
  return counted(std::aligned_alloc(static_cast<size_t>(align), mpq::format::round_up(size, 64)));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }

namespace {

using namespace mpq;
using namespace mpq::format;
using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

constexpr size_t kMany = 65000;

struct Root {  // what a hostile file fills in
  std::vector<uint8_t> text = std::vector<uint8_t>(1000, 'x');
  std::vector<uint32_t> dims, operands;
  std::vector<Offset<fb::Tensor>> tensors;
  std::vector<Offset<fb::Node>> nodes;
  std::vector<Offset<fb::KeyValue>> key_values;
  std::vector<Offset<fb::MapGroup>> groups;
  std::vector<Offset<fb::Prepacked>> prepacked;
};

std::vector<std::byte> hostile(const std::function<void(FlatBufferBuilder&, Root&)>& fill) {
  FlatBufferBuilder b;
  Root r;
  fill(b, r);
  const auto map = fb::CreatePrecisionMap(b);
  const auto text = b.CreateVector(r.text);
  const auto dims = b.CreateVector(r.dims), operands = b.CreateVector(r.operands);
  const auto tensors = b.CreateVector(r.tensors);
  const auto nodes = b.CreateVector(r.nodes);
  const auto groups = b.CreateVector(r.groups);
  const auto key_values = b.CreateVector(r.key_values);
  const auto prepacked = b.CreateVector(r.prepacked);
  fb::ModelBuilder model(b);
  model.add_requant_mode(fb::RequantMode::FmaHalfEven);
  model.add_text(text);
  model.add_dims(dims);
  model.add_operands(operands);
  model.add_tensors(tensors);
  model.add_nodes(nodes);
  model.add_map(map);
  model.add_map_groups(groups);
  model.add_key_values(key_values);
  model.add_prepacked(prepacked);
  b.Finish(model.Finish(), fb::ModelIdentifier());
  return assemble({b.GetBufferPointer(), b.GetSize()}, {});
}

// A valid chain of `layers` max pools, with names of `name_bytes` that differ at the end only.
std::vector<std::byte> chain(size_t layers, size_t name_bytes) {
  test::TinyModel t;
  const auto name = [&](char kind, size_t i) {
    std::string digits = std::to_string(i);
    return std::string(name_bytes - digits.size() - 1, '_') + kind + digits;
  };
  TensorId x = t.activation(name('x', 0), DType::kU8, {1, 1, 1, 1}, 1.0F);
  t.model.inputs = {x};
  for (size_t i = 1; i <= layers; ++i) {
    const TensorId y = t.activation(name('x', i), DType::kU8, {1, 1, 1, 1}, 1.0F);
    t.node(name('n', i), MaxPoolAttrs{}, {x}, {y});
    x = y;
  }
  t.model.outputs = {x};
  return serialize(t.model);
}

struct Case {
  const char* name;
  bool loads;
  std::function<std::vector<std::byte>()> make;
};

const Case kCases[] = {
    {"one tensor table in 4 million places", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.tensors.assign(4000000, fb::CreateTensor(b, 0, 1));
       });
     }},
    {"65000 places for one tensor table", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.tensors.assign(kMany, fb::CreateTensor(b, 0, 1));
       });
     }},
    {"65000 tensors with one long name", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         for (uint32_t i = 0; i < kMany; ++i)
           r.tensors.push_back(fb::CreateTensor(b, i % 500, 255));
       });
     }},
    {"one name of 16 MB for each of 65000 tensors", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.text.assign(12000000, 'x');
         for (uint32_t i = 0; i < kMany; ++i) r.tensors.push_back(fb::CreateTensor(b, i, 11000000));
       });
     }},
    {"one shape of a million dimensions for each tensor", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.dims.assign(1000000, 1);
         for (uint32_t i = 0; i < kMany; ++i)
           r.tensors.push_back(fb::CreateTensor(b, i % 500, 3, fb::DType::F32, 0, 1000000));
       });
     }},
    {"a million operands for each of 60000 nodes", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.operands.assign(1000000, 0);
         const auto attributes = fb::CreateQuantize(b).Union();
         for (uint32_t i = 0; i < 60000; ++i)
           r.nodes.push_back(
               fb::CreateNode(b, i % 500, 3, fb::Attributes::Quantize, attributes, 0, 1000000));
       });
     }},
    {"64 KB for each of 60000 keys", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.text.assign(70000, 'x');
         for (uint32_t i = 0; i < 60000; ++i)
           r.key_values.push_back(fb::CreateKeyValue(b, i, 3, 0, 65535));
       });
     }},
    {"one group in 4 million places", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.groups.assign(4000000, fb::CreateMapGroup(b, 1.0));
       });
     }},
    {"65000 prepacked entries in one table", false,
     [] {
       return hostile([](FlatBufferBuilder& b, Root& r) {
         r.prepacked.assign(kMany, fb::CreatePrepacked(b, 0, 0, 200));
       });
     }},
    {"16 MB of text", false,
     [] { return hostile([](FlatBufferBuilder&, Root& r) { r.text.assign(16700000, 'x'); }); }},
    {"a valid chain of 60000 nodes", true, [] { return chain(60000, 40); }},
    {"a valid chain of 20000 nodes with long names that differ at the end", true,
     [] { return chain(20000, 250); }},
};

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr double kSlowdown = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr double kSlowdown = 10;
#else
constexpr double kSlowdown = 1;
#endif
#else
constexpr double kSlowdown = 1;
#endif

}  // namespace

int main() {
  int failures = 0;
  for (const Case& c : kCases) {
    const AlignedBytes file{std::span<const std::byte>(c.make())};
    const uint64_t metadata = read_header(file.bytes()).metadata_size;
    const size_t before = peak_bytes = live_bytes;
    const double start = cpu_seconds();
    bool loads = false;
    std::string message;
    {
      const auto model = read(file.bytes());
      loads = model.ok();
      if (!loads) message = model.error().message;
    }
    const double seconds = cpu_seconds() - start;
    const size_t heap = peak_bytes - before;
    const bool good =
        loads == c.loads && seconds <= kSlowdown && heap <= 4 * metadata + (256U << 10);
    failures += good ? 0 : 1;
    std::printf("%-4s %-70s %9.1f KB %7.1f ms, heap %5.2f x  %s\n", good ? "ok" : "BAD", c.name,
                static_cast<double>(metadata) / 1e3, seconds * 1e3,
                static_cast<double>(heap) / static_cast<double>(metadata), message.c_str());
  }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
