#include "runtime/tune_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kernels/cpu.h"
#include "runtime/file.h"
#include "runtime/mpq.h"

namespace mpq::runtime {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{4} << 20;

// The first lines; times under others are not of this library on this machine.
std::string head() {
  return "mpq kernel times 1\nlibrary " + std::string(mpq_version_string()) + "\ncpu " +
         kernels::cpu_model() + "\n";
}

// Takes what comes before the next separator off the text.
std::string_view take(std::string_view* text, char separator) {
  const size_t end = std::min(text->find(separator), text->size());
  const std::string_view piece = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return piece;
}

// "KERNEL NANOSECONDS"
bool parse_time(std::string_view text, KernelTime* time) {
  time->kernel = take(&text, ' ');
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, time->ns);
  return !time->kernel.empty() && failure == std::errc() && stop == end;
}

bool parse_line(std::string_view line, KernelTimes* times) {
  const std::string layer(take(&line, '\t'));
  std::vector<KernelTime> rows;
  while (!line.empty())
    if (!parse_time(take(&line, '\t'), &rows.emplace_back())) return false;
  return !layer.empty() && !rows.empty() && times->emplace(layer, std::move(rows)).second;
}

}  // namespace

Result<KernelTimes> load_kernel_times(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) return KernelTimes{};
  MPQ_TRY(const File file, File::read(path.c_str(), kMaxBytes));
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  const std::string expected = head();
  if (!text.starts_with(expected))
    return Error{Status::kUnsupported, path + ": not kernel times of mpq " + mpq_version_string() +
                                           " on this CPU (" + kernels::cpu_model() + ")"};
  KernelTimes times;
  text.remove_prefix(expected.size());
  for (size_t number = 4; !text.empty(); ++number)
    // A line without its end is a file cut short.
    if (text.find('\n') == text.npos || !parse_line(take(&text, '\n'), &times))
      return Error{Status::kCorrupt, path + ": line " + std::to_string(number) +
                                         " is not a layer with kernels and times"};
  return times;
}

Checked save_kernel_times(const std::string& path, const KernelTimes& times) {
  std::string text = head();
  for (const auto& [layer, rows] : times) {
    text += layer;
    for (const KernelTime& row : rows) text += '\t' + row.kernel + ' ' + std::to_string(row.ns);
    text += '\n';
  }
  std::string temporary = path + ".XXXXXX";
  const int descriptor = mkstemp(temporary.data());
  std::FILE* const file = descriptor < 0 ? nullptr : fdopen(descriptor, "w");
  bool ok = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file != nullptr) ok = std::fclose(file) == 0 && ok;
  if (ok && std::rename(temporary.c_str(), path.c_str()) == 0) return Ok{};
  const Error error = {Status::kIo, path + ": cannot write: " + std::strerror(errno)};
  if (descriptor >= 0) unlink(temporary.c_str());
  return error;
}

}  // namespace mpq::runtime
