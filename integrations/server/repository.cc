#include "integrations/server/repository.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "integrations/server/log.h"

namespace mpq::serve {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxModelBytes = uint64_t{4} << 30, kMaxConfigBytes = 1 << 20;

// A descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int opened) : fd(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

// Opens a regular file below `folder`: no symbolic link, no way out.
int open_below(const fs::path& folder, const fs::path& file) {
  const Descriptor root(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (root.fd < 0) return -1;
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root.fd, file.c_str(), &how, sizeof how));
}

std::string fingerprint_of(const struct stat& s) {
  return std::to_string(s.st_dev) + ":" + std::to_string(s.st_ino) + ":" +
         std::to_string(s.st_size) + ":" + std::to_string(s.st_mtim.tv_sec) + "." +
         std::to_string(s.st_mtim.tv_nsec);
}

// The whole file, or why not. `file_bytes` may be null: only the fingerprint is wanted.
bool read_below(const fs::path& folder, const fs::path& file, uint64_t most, FileBytes* file_bytes,
                std::string* fingerprint, std::string* why) {
  const Descriptor input(open_below(folder, file));
  struct stat s {};
  if (input.fd < 0 || fstat(input.fd, &s) != 0 || !S_ISREG(s.st_mode)) {
    *why = file.string() + ": no regular file that can be read";
    return false;
  }
  *fingerprint = fingerprint_of(s);
  if (file_bytes == nullptr) return true;
  if (static_cast<uint64_t>(s.st_size) > most) {
    *why = file.string() + ": larger than " + std::to_string(most) + " bytes";
    return false;
  }
  file_bytes->resize(static_cast<size_t>(s.st_size));
  const std::span<std::byte> bytes = file_bytes->bytes();
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(input.fd, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  if (done == bytes.size()) return true;
  *why = file.string() + ": changed while it was read";
  return false;
}

std::optional<uint64_t> version_number(const std::string& name) {
  if (name.empty() || name.size() > 18 || name[0] == '0' ||
      name.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::stoull(name);
}

bool is_model_file(const fs::path& file) {
  return file.extension() == ".fb" || file.extension() == ".mpq";
}

// model.fb, or the only model file there.
std::optional<std::string> model_file_in(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (is_model_file(entry.path())) found.push_back(entry.path().filename().string());
  if (std::find(found.begin(), found.end(), "model.fb") != found.end()) return "model.fb";
  if (found.size() != 1) return std::nullopt;
  return found[0];
}

// Version numbers below `folder`, those that the configuration wants.
std::vector<uint64_t> wanted_versions(const fs::path& folder, const ModelConfig& config) {
  std::vector<uint64_t> numbers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (const auto number = version_number(entry.path().filename().string()))
      numbers.push_back(*number);
  std::sort(numbers.rbegin(), numbers.rend());
  if (!config.versions.empty())
    std::erase_if(numbers, [&](uint64_t n) {
      return std::find(config.versions.begin(), config.versions.end(), n) == config.versions.end();
    });
  else if (config.latest_versions != 0 && numbers.size() > config.latest_versions)
    numbers.resize(config.latest_versions);
  return numbers;
}

std::shared_ptr<Served> load_version(const fs::path& root, const std::string& name,
                                     uint64_t version, const fs::path& file,
                                     const ModelConfig& config, const std::string& config_print,
                                     const std::shared_ptr<Served>& old, std::string* why) {
  std::string print;
  if (!read_below(root, file, kMaxModelBytes, nullptr, &print, why)) return nullptr;
  if (old != nullptr && old->fingerprint == print + config_print) return old;
  const auto start = Clock::now();
  FileBytes bytes;
  if (!read_below(root, file, kMaxModelBytes, &bytes, &print, why)) return nullptr;
  auto served = std::make_shared<Served>();
  served->facts = load_facts(name, std::to_string(version), config, std::move(bytes), why);
  if (served->facts == nullptr) return nullptr;
  served->batcher = Batcher::create(served->facts, why);
  if (served->batcher == nullptr) return nullptr;
  served->fingerprint = print + config_print;
  const std::chrono::duration<double, std::milli> ms = Clock::now() - start;
  log(Level::kInfo, old == nullptr ? "model_loaded" : "model_reloaded",
      {{"model", name},
       {"version", std::to_string(version)},
       {"load_ms", ms.count()},
       {"memory_bytes", served->batcher->memory_bytes()}});
  return served;
}

}  // namespace

bool is_model_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && name.size() <= 128 && letter(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || c == '.' || c == '-'; });
}

std::vector<std::string> Repository::names_on_disk() const {
  if (is_file_) return {place_.stem().string()};
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(place_, error)) {
    std::string name = entry.path().filename().string();
    if (entry.is_directory(error) && !entry.is_symlink(error) && is_model_name(name))
      names.push_back(std::move(name));
  }
  return names;
}

bool Repository::load_locked(const std::string& name) {
  Versions old, loaded;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = models_.find(name); found != models_.end()) old = found->second;
  }
  std::map<uint64_t, std::string> failed;
  const auto old_of = [&old](uint64_t version) {
    const auto found = old.find(version);
    return found == old.end() ? nullptr : found->second;
  };
  const auto add = [&](const fs::path& root, uint64_t version, const fs::path& file,
                       const ModelConfig& config, const std::string& config_print) {
    std::string why;
    auto served =
        load_version(root, name, version, file, config, config_print, old_of(version), &why);
    if (served == nullptr) {
      failed[version] = why;
      log(Level::kError, "model_failed",
          {{"model", name}, {"version", std::to_string(version)}, {"why", why}});
      served = old_of(version);  // goes on serving
    }
    if (served != nullptr) loaded[version] = std::move(served);
  };

  if (is_file_) {
    const fs::path folder = place_.has_parent_path() ? place_.parent_path() : ".";
    add(folder, 1, place_.filename(), ModelConfig(), "");
  } else {
    ModelConfig config;
    std::string print, why;
    FileBytes text;
    std::error_code error;
    bool ok = true;
    if (fs::exists(place_ / name / "config.json", error)) {
      ok = read_below(place_, fs::path(name) / "config.json", kMaxConfigBytes, &text, &print, &why);
      if (ok) {
        const auto wrong = parse_config(
            {reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()}, &config);
        if (wrong) {
          ok = false;
          why = *wrong;
        }
      }
    }
    if (!ok) {
      failed[0] = why;
      loaded = old;
      log(Level::kError, "model_failed", {{"model", name}, {"why", why}});
    } else {
      for (const uint64_t version : wanted_versions(place_ / name, config)) {
        const fs::path folder = fs::path(name) / std::to_string(version);
        const auto file = model_file_in(place_ / folder);
        add(place_, version, folder / file.value_or("model.fb"), config, print);
      }
    }
  }
  const bool ok = failed.empty() && !loaded.empty();
  if (loaded.empty() && failed.empty()) {
    failed[0] = "no version: the file is looked for at " + name + "/1/model.fb";
    log(Level::kError, "model_failed", {{"model", name}, {"why", failed[0]}});
  }
  {
    const std::lock_guard lock(mutex_);
    if (failed.empty())
      failures_.erase(name);
    else
      failures_[name] = std::move(failed);
  }
  replace(name, std::move(loaded));
  return ok;
}

// Puts new versions in place of old ones, then ends those that nobody will find any more.
void Repository::replace(const std::string& name, Versions versions) {
  Versions old;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = models_.find(name); found != models_.end()) old = found->second;
    if (versions.empty())
      models_.erase(name);
    else
      models_[name] = versions;
  }
  for (auto& [version, served] : old) {
    const auto found = versions.find(version);
    if (found != versions.end() && found->second == served) continue;
    served->batcher->close();  // answers what it has
    if (found == versions.end())
      log(Level::kInfo, "model_retired", {{"model", name}, {"version", std::to_string(version)}});
  }
}

bool Repository::load(const std::string& name) {
  const std::lock_guard lock(loading_);
  return load_locked(name);
}

bool Repository::unload(const std::string& name) {
  const std::lock_guard lock(loading_);
  {
    const std::lock_guard inner(mutex_);
    failures_.erase(name);
    if (models_.find(name) == models_.end()) return false;
  }
  replace(name, {});
  return true;
}

bool Repository::scan() {
  const std::lock_guard lock(loading_);
  const std::vector<std::string> names = names_on_disk();
  std::set<std::string> gone;
  {
    const std::lock_guard inner(mutex_);
    for (const auto& [name, _] : models_) gone.insert(name);
    for (const auto& [name, _] : failures_) gone.insert(name);
  }
  bool ok = true;
  for (const std::string& name : names) {
    gone.erase(name);
    ok = load_locked(name) && ok;
  }
  for (const std::string& name : gone) {
    {
      const std::lock_guard inner(mutex_);
      failures_.erase(name);
    }
    replace(name, {});
  }
  return ok;
}

void Repository::close() {
  const std::lock_guard lock(loading_);
  std::map<std::string, Versions> models;
  {
    const std::lock_guard inner(mutex_);
    models = models_;
  }
  for (const auto& [name, versions] : models)
    for (const auto& [version, served] : versions) served->batcher->close();
}

std::shared_ptr<Served> Repository::find(const std::string& name,
                                         const std::string& version) const {
  const std::lock_guard lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return nullptr;
  if (version.empty()) return model->second.rbegin()->second;
  const auto number = version_number(version);
  const auto found = number ? model->second.find(*number) : model->second.end();
  return found == model->second.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<Served>> Repository::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Served>> all;
  for (const auto& [name, versions] : models_)
    for (const auto& [version, served] : versions) all.push_back(served);
  return all;
}

std::vector<IndexRow> Repository::index() const {
  const std::lock_guard lock(mutex_);
  std::vector<IndexRow> rows;
  for (const auto& [name, versions] : models_)
    for (const auto& [version, served] : versions)
      rows.push_back({name, std::to_string(version), "READY", ""});
  for (const auto& [name, versions] : failures_)
    for (const auto& [version, why] : versions)
      rows.push_back({name, std::to_string(version), "UNAVAILABLE", why});
  return rows;
}

bool Repository::all_served() const {
  const std::lock_guard lock(mutex_);
  return !models_.empty() && std::all_of(failures_.begin(), failures_.end(), [this](const auto& f) {
    return models_.find(f.first) != models_.end();
  });
}

}  // namespace mpq::serve
