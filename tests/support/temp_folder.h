// A folder that disappears with the test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace mpq::tests {

struct TempFolder {
  std::filesystem::path path;

  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mpq_test_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  // Writes a file, with the folders on its way, and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

// The cache of scripts/fetch_text_models.sh.
inline std::filesystem::path model_cache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  return cache != nullptr && *cache != '\0'
             ? std::filesystem::path(cache) / "mpq"
             : std::filesystem::path(home == nullptr ? "/" : home) / ".cache" / "mpq";
}

}  // namespace mpq::tests
