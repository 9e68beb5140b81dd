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

  const auto corrupt = [&](const std::string& what) {
    const size_t at = bytes.size() - stream.avail_in;
    return Error{Status::kCorrupt, name + ": " + what + " at byte " + std::to_string(at)};
  };
  constexpr size_t kStep = size_t{1} << 18;
  std::vector<std::byte> out;
  for (size_t used = 0;;) {
    if (used == out.size()) out.resize(used + kStep);
    const size_t room = std::min(out.size() - used, kStep);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    stream.avail_out = static_cast<uInt>(room);
    const int status = inflate(&stream, Z_NO_FLUSH);
    const size_t got = room - stream.avail_out;
    used += got;
    if (used > max_bytes)
      return Error{Status::kLimit,
                   name + ": unpacks to more than " + std::to_string(max_bytes) + " bytes"};
    if (status == Z_STREAM_END) {
      if (stream.avail_in == 0) {
        out.resize(used);
        return out;
      }
      if (inflateReset(&stream) != Z_OK) return Error{Status::kInternal, name + ": zlib"};
    } else if (status == Z_BUF_ERROR || (status == Z_OK && got == 0)) {
      return corrupt("gzip file is cut short");
    } else if (status != Z_OK) {
      const std::string why = stream.msg == nullptr ? "unreadable" : stream.msg;
      return corrupt("damaged gzip file (" + why + ")");
    }
  }
}

}  // namespace mpq::data
