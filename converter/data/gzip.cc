#include "converter/data/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

namespace mpq::data {

namespace {

// A zlib stream that is always closed.
struct Inflater {
  z_stream stream{};
  bool open = false;

  Inflater() {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    open = inflateInit2(&stream, kGzipOnly) == Z_OK;
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (open) inflateEnd(&stream);
  }
};

}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
}

Result<std::vector<std::byte>> gunzip(const std::string& name, std::span<const std::byte> bytes,
                                      uint64_t max_bytes) {
  Inflater inflater;
  if (!inflater.open) return Error{Status::kOutOfMemory, name + ": no memory to unpack gzip"};
  z_stream& stream = inflater.stream;
  if (bytes.size() > std::numeric_limits<uInt>::max())
    return Error{Status::kLimit,
                 name + ": gzip file of " + std::to_string(bytes.size()) + " bytes"};
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());

  constexpr size_t kStep = size_t{1} << 18;
  std::vector<std::byte> out;
  for (;;) {
    const size_t done = out.size();
    out.resize(done + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + done);
    stream.avail_out = kStep;
    const int status = inflate(&stream, Z_NO_FLUSH);
    out.resize(done + kStep - stream.avail_out);
    if (out.size() > max_bytes)
      return Error{Status::kLimit,
                   name + ": unpacks to more than " + std::to_string(max_bytes) + " bytes"};
    const std::string at = " at byte " + std::to_string(bytes.size() - stream.avail_in);
    if (status == Z_STREAM_END) {
      if (stream.avail_in == 0) return out;
      if (inflateReset(&stream) != Z_OK) return Error{Status::kInternal, name + ": zlib"};
    } else if (status == Z_BUF_ERROR || (status == Z_OK && stream.avail_out == kStep)) {
      return Error{Status::kCorrupt, name + ": gzip file is cut short" + at};
    } else if (status != Z_OK) {
      return Error{Status::kCorrupt,
                   name + ": damaged gzip file" + at +
                       (stream.msg == nullptr ? "" : std::string(": ") + stream.msg)};
    }
  }
}

}  // namespace mpq::data
