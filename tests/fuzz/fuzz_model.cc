#include <cstdlib>
#include <cstring>

#include "format/aligned.h"
#include "format/bits.h"
#include "format/header.h"
#include "format/reader.h"
#include "format/serialize.h"
#include "format/writer.h"
#include "tests/fuzz/target.h"

namespace mpq::test {
namespace {

using namespace format;

void require(bool condition) {
  if (!condition) std::abort();
}

void check_sound(const Model& model, std::span<const std::byte> file) {
  uint64_t sum = 0;  // touches every byte of data, so that a sanitizer sees it
  for (const Tensor& t : model.tensors) {
    if (!t.is_constant()) continue;
    require(t.data.data() >= file.data() &&
            t.data.data() + t.data.size() <= file.data() + file.size());
    uint64_t elements = 0;
    require(checked_elements(t.shape, &elements));
    require(t.data.size() == packed_bytes(elements, bits_of(t.dtype)));
    for (const std::byte b : t.data) sum += std::to_integer<uint64_t>(b);
  }
  require(sum < UINT64_MAX);
  // What one reader accepts, the writer can write and every reader accepts again.
  const auto written = write(model);
  require(written.ok());
}

}  // namespace

void fuzz_model(const uint8_t* data, size_t size) {
  AlignedBytes file{std::as_bytes(std::span(data, size))};
  const std::span<std::byte> bytes = file.bytes();
  (void)looks_like_model(bytes);
  if (const auto model = read(bytes); model.ok()) check_sound(*model, bytes);
  if (size < sizeof(Header)) return;

  // The header again, as if the file were meant so. Magic and reserved bytes stay as they are.
  Header header = read_header(bytes);
  header.file_size = size;
  if (header.metadata_size > size) header.metadata_size = size;
  if (header.metadata_size <= sizeof(Header)) return;
  header.segment_base =
      header.metadata_size == size ? size : round_up(header.metadata_size, kSegmentAlignment);
  std::memcpy(bytes.data(), &header, sizeof header);
  seal(bytes);
  if (const auto model = read(bytes, {.verify_segments = false}); model.ok())
    check_sound(*model, bytes);
}

}  // namespace mpq::test

#ifdef MPQ_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mpq::test::fuzz_model(data, size);
  return 0;
}
#endif
