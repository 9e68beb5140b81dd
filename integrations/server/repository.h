// The models that are served, from a folder: NAME/VERSION/model.fb (or any one *.fb, *.mpq), with
// NAME/config.json beside the versions if the defaults do not suit.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "integrations/server/batcher.h"
#include "integrations/server/facts.h"

namespace mpq::serve {

/// [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
bool is_model_name(std::string_view name);

struct Served {
  std::shared_ptr<const Facts> facts;
  std::unique_ptr<Batcher> batcher;
  std::string fingerprint;  // of the file and of config.json: a change means a reload
};

/// A row of the repository index.
struct IndexRow {
  std::string name, version, state, reason;
};

/// Any thread may find; one at a time may load. A version is replaced as a whole: requests that
/// came before are answered by the old one, later ones by the new one, and a new file that cannot
/// be loaded leaves the old one in place.
class Repository {
 public:
  /// A folder of models, or one file (served under its stem as version 1).
  explicit Repository(std::filesystem::path place)
      : place_(std::move(place)), is_file_(!std::filesystem::is_directory(place_)) {}

  /// Loads what is new or changed, retires what is gone. Returns whether all models loaded.
  bool scan();
  /// The same for one model.
  bool load(const std::string& name);
  /// False: there is none.
  bool unload(const std::string& name);
  void close();

  /// The newest version when version is "". nullptr: none.
  std::shared_ptr<Served> find(const std::string& name, const std::string& version) const;
  std::vector<std::shared_ptr<Served>> all() const;
  std::vector<IndexRow> index() const;
  /// Every model has a version that is served, be it an old one.
  bool all_served() const;

 private:
  using Versions = std::map<uint64_t, std::shared_ptr<Served>>;
  bool load_locked(const std::string& name);
  void replace(const std::string& name, Versions versions);
  std::vector<std::string> names_on_disk() const;

  std::filesystem::path place_;
  bool is_file_;
  std::mutex loading_;
  mutable std::mutex mutex_;  // of what follows
  std::map<std::string, Versions> models_;
  std::map<std::string, std::map<uint64_t, std::string>> failures_;
};

}  // namespace mpq::serve
