#include "converter/train/checkpoint.h"

#include <cstring>
#include <filesystem>

#include "converter/data/read_file.h"
#include "converter/data/write_file.h"

namespace mpq::convert::train {
namespace {

// magic, digest of the run, step, counts and contents, digest of all before it; little-endian.
constexpr std::array<char, 8> kMagic = {'M', 'P', 'Q', 'T', '0', '0', '0', '1'};
constexpr uint64_t kMaxBytes = uint64_t{8} << 30;

void append(std::vector<std::byte>* to, const void* data, size_t size) {
  const auto* const bytes = static_cast<const std::byte*>(data);
  to->insert(to->end(), bytes, bytes + size);
}
void append(std::vector<std::byte>* to, uint64_t number) { append(to, &number, sizeof number); }

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool take(void* to, uint64_t size) {
    if (size > bytes_.size()) return false;
    if (size > 0) std::memcpy(to, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
    return true;
  }
  template <typename T>
  bool take_vector(std::vector<T>* to) {
    uint64_t count = 0;
    if (!take(&count, sizeof count) || count > bytes_.size() / sizeof(T)) return false;
    to->resize(count);
    return take(to->data(), count * sizeof(T));
  }
  bool is_empty() const { return bytes_.empty(); }
  size_t left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

bool parse(std::span<const std::byte> bytes, Snapshot* c) {
  Reader reader(bytes);
  std::array<char, 8> magic;
  uint64_t tensors = 0;
  if (!reader.take(magic.data(), magic.size()) || magic != kMagic ||
      !reader.take(c->run.data(), c->run.size()) || !reader.take(&c->step, sizeof c->step) ||
      !reader.take_vector(&c->numbers) || !reader.take(&tensors, sizeof tensors) ||
      tensors > reader.left() / sizeof(uint64_t))
    return false;
  c->tensors.resize(tensors);
  for (std::vector<float>& tensor : c->tensors)
    if (!reader.take_vector(&tensor)) return false;
  return reader.is_empty();
}

}  // namespace

Checked write_checkpoint(const std::string& path, const Snapshot& c) {
  std::vector<std::byte> bytes;
  append(&bytes, kMagic.data(), kMagic.size());
  append(&bytes, c.run.data(), c.run.size());
  append(&bytes, c.step);
  append(&bytes, c.numbers.size());
  append(&bytes, c.numbers.data(), c.numbers.size() * sizeof(double));
  append(&bytes, c.tensors.size());
  for (const std::vector<float>& tensor : c.tensors) {
    append(&bytes, tensor.size());
    append(&bytes, tensor.data(), tensor.size() * sizeof(float));
  }
  const format::Digest digest = format::sha256(bytes);
  append(&bytes, digest.data(), digest.size());
  return data::write_file(path, bytes);
}

Result<std::optional<Snapshot>> read_checkpoint_of(const std::string& path,
                                                   const format::Digest& run) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::optional<Snapshot>();
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path, kMaxBytes));
  Snapshot checkpoint;
  format::Digest digest;
  if (bytes.size() < digest.size())
    return Error{Status::kCorrupt,
                 path + ": no checkpoint: " + std::to_string(bytes.size()) + " bytes"};
  const auto body = std::span(bytes).first(bytes.size() - digest.size());
  std::memcpy(digest.data(), bytes.data() + body.size(), digest.size());
  if (format::sha256(body) != digest)
    return Error{Status::kChecksum, path + ": damaged, its digest does not match"};
  if (!parse(body, &checkpoint)) return Error{Status::kCorrupt, path + ": no checkpoint"};
  if (checkpoint.run != run)
    return Error{Status::kInvalidArgument,
                 path +
                     ": belongs to a run of other options, data or weights; name another file "
                     "or remove it"};
  return std::optional<Snapshot>(std::move(checkpoint));
}

}  // namespace mpq::convert::train
