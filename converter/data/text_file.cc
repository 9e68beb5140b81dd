#include "converter/data/text_file.h"

#include <algorithm>
#include <vector>

#include "converter/data/gzip.h"
#include "converter/data/read_file.h"
#include "converter/data/tar.h"

namespace mpq::data {

namespace {

using Bytes = std::vector<std::byte>;

bool is_tar(const Bytes& bytes) {
  constexpr std::string_view kMagic = "ustar";
  constexpr size_t kMagicOffset = 257;
  return bytes.size() >= kMagicOffset + kMagic.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()) + kMagicOffset,
                          kMagic.size()) == kMagic;
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// "test.tsv" is the end of "sst2/test.tsv" and not of "sst2/mytest.tsv".
bool is_end_of(std::string_view end, std::string_view path) {
  return path == end || (path.ends_with(end) && path[path.size() - end.size() - 1] == '/');
}

Result<TarMember> choose(const std::string& archive, const std::string& wanted,
                         const std::vector<TarMember>& members) {
  const auto fits = [&](const TarMember& member) {
    if (!wanted.empty()) return is_end_of(wanted, member.path);
    return members.size() == 1 || file_name(member.path).find("test") != std::string::npos;
  };
  std::vector<TarMember> chosen;
  std::copy_if(members.begin(), members.end(), std::back_inserter(chosen), fits);
  if (chosen.size() == 1) return chosen.front();
  std::string names;
  constexpr size_t kMaxNames = 12;
  for (size_t i = 0; i < std::min(members.size(), kMaxNames); ++i)
    names += (i == 0 ? "" : ", ") + members[i].path;
  return Error{Status::kInvalidArgument, archive + ": " + std::to_string(chosen.size()) +
                                             " files fit '" + wanted + "'; write " + archive +
                                             "#FILE with one of: " + names +
                                             (members.size() > kMaxNames ? ", ..." : "")};
}

}  // namespace

Result<std::string> read_text_file(const std::string& place) {
  const size_t hash = place.rfind('#');
  const std::string path = place.substr(0, hash);
  const std::string wanted = hash == std::string::npos ? "" : place.substr(hash + 1);
  MPQ_TRY(Bytes bytes, read_file(path));
  if (is_gzip(bytes)) {
    MPQ_TRY(bytes, gunzip(path, bytes, kMaxFileBytes));
  }
  std::span<const std::byte> content(bytes);
  if (is_tar(bytes)) {
    MPQ_TRY(const std::vector<TarMember> members, list_tar(path, bytes));
    MPQ_TRY(const TarMember member, choose(path, wanted, members));
    content = content.subspan(member.offset, member.size);
  } else if (hash != std::string::npos) {
    return Error{Status::kInvalidArgument,
                 path + ": is no tar archive with a file '" + wanted + "'"};
  }
  return std::string(reinterpret_cast<const char*>(content.data()), content.size());
}

}  // namespace mpq::data
