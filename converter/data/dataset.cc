#include "converter/data/dataset.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <string_view>
#include <unordered_map>

#include "converter/data/read_file.h"
#include "converter/data/tar.h"

namespace mpq::data {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLabelsFile = "labels.txt";
constexpr std::string_view kClassFiles[] = {"synset_words.txt", "classes.txt", "class_names.txt"};
constexpr int kMaxDepth = 8;
constexpr int32_t kMaxClasses = 1 << 20;

std::string_view trim(std::string_view s) {
  const auto space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!s.empty() && space(s.front())) s.remove_prefix(1);
  while (!s.empty() && space(s.back())) s.remove_suffix(1);
  return s;
}

bool is_image(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(trim(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Regular files below a folder, relative to it, sorted.
Result<std::vector<TarMember>> list_folder(const std::string& root) {
  std::vector<TarMember> files;
  std::error_code failure;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, failure);
  for (; !failure && it != fs::recursive_directory_iterator(); it.increment(failure)) {
    if (it.depth() >= kMaxDepth) it.disable_recursion_pending();
    std::error_code ignored;
    if (it->is_regular_file(ignored))
      files.push_back({it->path().lexically_relative(root).string()});
  }
  if (failure) return Error{Status::kIo, root + ": " + failure.message()};
  std::sort(files.begin(), files.end(),
            [](const TarMember& a, const TarMember& b) { return a.path < b.path; });
  return files;
}

// The folder that holds everything (archives usually have one), with a slash; empty if there is
// none.
std::string common_folder(const std::vector<TarMember>& files) {
  if (files.empty()) return "";
  std::string common = files.front().path;
  for (const TarMember& file : files) {
    const auto [end, unused] =
        std::mismatch(common.begin(), common.end(), file.path.begin(), file.path.end());
    common.erase(end, common.end());
  }
  const size_t slash = common.rfind('/');
  return slash == std::string::npos ? "" : common.substr(0, slash + 1);
}

struct LabelLine {
  std::string path, name;
  int32_t label = -1;
};

bool parse_class(std::string_view text, LabelLine* line) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), line->label);
  const std::string_view rest = text.substr(static_cast<size_t>(end - text.data()));
  if (failure != std::errc() || line->label < 0 || line->label >= kMaxClasses) return false;
  if (!rest.empty() && std::string_view(" \t,").find(rest.front()) == std::string_view::npos)
    return false;
  line->name = trim(rest.starts_with(",") ? rest.substr(1) : rest);
  return true;
}

// "path, class", "path class" or "path class name". With a comma the path may contain spaces.
bool parse_label_line(std::string_view text, LabelLine* line) {
  for (const char* separators : {",", " \t"}) {
    const size_t at = text.find_first_of(separators);
    if (at == std::string_view::npos || !parse_class(trim(text.substr(at + 1)), line)) continue;
    line->path = trim(text.substr(0, at));
    if (line->path.starts_with("./")) line->path.erase(0, 2);
    return !line->path.empty();
  }
  return false;
}

// "n01440764 tench, Tinca tinca" -> "tench, Tinca tinca"; other lines as they are.
std::string class_name(std::string_view line) {
  const size_t space = line.find(' ');
  const bool synset = space == 9 && line.front() == 'n' &&
                      std::all_of(line.begin() + 1, line.begin() + 9,
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  return std::string(synset ? trim(line.substr(space)) : line);
}

void set_name(std::vector<std::string>* names, size_t index, std::string_view name) {
  if (names->size() <= index) names->resize(index + 1);
  (*names)[index] = name;
}

}  // namespace

// What both a folder and an archive are made of, and how a file of it is read.
struct ImageDataset::Source {
  std::vector<TarMember> files;
  std::unordered_map<std::string, size_t> index;  // by path
  std::string folder;                             // of the samples, with a slash, or empty
};

Result<ImageDataset> ImageDataset::open(const std::string& path) {
  ImageDataset set;
  set.root_ = path;
  if (is_idx(path)) return open_idx(path);
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  if (!fs::exists(status)) return Error{Status::kNotFound, path + ": no such file or folder"};
  set.is_tar_ = !fs::is_directory(status);

  Source source;
  MPQ_TRY(source.files, set.is_tar_ ? list_tar(path) : list_folder(path));
  for (size_t i = 0; i < source.files.size(); ++i) source.index.emplace(source.files[i].path, i);
  source.folder = common_folder(source.files);
  const bool labelled = source.index.contains(source.folder + std::string(kLabelsFile));
  MPQ_CHECK(labelled ? set.load_labels(source) : set.load_folders(source));
  if (set.samples_.empty())
    return Error{Status::kInvalidArgument, path + ": no JPEG or PNG images in it"};
  return set;
}

Result<ImageDataset> ImageDataset::open_idx(const std::string& path) {
  MPQ_TRY(IdxImages images, read_idx(path));
  ImageDataset set;
  set.root_ = path;
  for (size_t i = 0; i < images.count(); ++i)
    set.add_sample({.path = std::to_string(i)}, std::to_string(i),
                   images.labels.empty() ? -1 : images.labels[i]);
  set.idx_ = std::make_shared<const IdxImages>(std::move(images));
  return set;
}

Checked ImageDataset::load_labels(const Source& source) {
  const std::string labels = source.folder + std::string(kLabelsFile);
  MPQ_TRY(const std::vector<std::byte> bytes, read_member(source.files[source.index.at(labels)]));
  size_t number = 0;
  for (const std::string_view text :
       lines_of({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
    ++number;
    if (text.empty() || text.starts_with("#")) continue;
    const std::string where = root_ + ": " + labels + ": line " + std::to_string(number) + ": ";
    LabelLine line;
    if (!parse_label_line(text, &line)) return Error{Status::kCorrupt, where + "not `path class`"};
    const auto found = source.index.find(source.folder + line.path);
    if (found == source.index.end())
      return Error{Status::kNotFound, where + "no file " + line.path};
    add_sample(source.files[found->second], line.path, line.label);
    if (!line.name.empty()) set_name(&class_names_, static_cast<size_t>(line.label), line.name);
  }
  for (const std::string_view name : kClassFiles) {
    const auto found = source.index.find(source.folder + std::string(name));
    if (found == source.index.end()) continue;
    MPQ_TRY(const std::vector<std::byte> names, read_member(source.files[found->second]));
    size_t index = 0;
    for (const std::string_view text :
         lines_of({reinterpret_cast<const char*>(names.data()), names.size()}))
      set_name(&class_names_, index++, class_name(text));
    break;
  }
  return Ok{};
}

// A class per folder in sorted order, or no classes when all images lie in one folder.
Checked ImageDataset::load_folders(const Source& source) {
  std::vector<TarMember> images;
  std::copy_if(source.files.begin(), source.files.end(), std::back_inserter(images),
               [](const TarMember& file) { return is_image(file.path); });
  const std::string folder = common_folder(images);
  // One folder of images straight below the root of a data set is a class too small to tell: no
  // label.
  const auto class_of = [&folder](const TarMember& image) {
    const size_t slash = image.path.find('/', folder.size());
    return slash == std::string::npos ? std::string()
                                      : image.path.substr(folder.size(), slash - folder.size());
  };
  std::map<std::string, int32_t> classes;
  for (const TarMember& image : images) classes.emplace(class_of(image), -1);
  const bool labelled = !classes.contains("");  // images beside the folders: not a class tree
  for (auto& [name, label] : classes) {
    if (!labelled) continue;
    label = static_cast<int32_t>(class_names_.size());
    class_names_.push_back(name);
  }
  for (const TarMember& image : images)
    add_sample(image, image.path.substr(folder.size()), classes.at(class_of(image)));
  return Ok{};
}

void ImageDataset::add_sample(const TarMember& file, const std::string& path, int32_t label) {
  samples_.push_back({path, label});
  files_.push_back({file.path, file.offset, file.size});
}

Result<std::vector<std::byte>> ImageDataset::read_member(const TarMember& file) const {
  if (!is_tar_) return read_file((fs::path(root_) / file.path).string());
  if (file.size > kMaxFileBytes)
    return Error{Status::kLimit, root_ + ": " + file.path + ": larger than any image"};
  MPQ_TRY(const File archive, File::open(root_));
  return archive.read(file.offset, file.size);
}

Result<std::vector<std::byte>> ImageDataset::read(size_t index) const {
  if (index >= files_.size())
    return Error{Status::kInvalidArgument, root_ + ": sample " + std::to_string(index) + " of " +
                                               std::to_string(files_.size())};
  if (idx_ != nullptr) {  // as a grey picture of netpbm's
    const std::string header =
        "P5 " + std::to_string(idx_->width) + " " + std::to_string(idx_->height) + " 255\n";
    const auto text = std::as_bytes(std::span(header));
    const size_t size = size_t{idx_->width} * idx_->height;
    std::vector<std::byte> bytes(text.begin(), text.end());
    const auto first = idx_->pixels.begin() + static_cast<ptrdiff_t>(index * size);
    bytes.insert(bytes.end(), first, first + static_cast<ptrdiff_t>(size));
    return bytes;
  }
  return read_member(files_[index]);
}

}  // namespace mpq::data
