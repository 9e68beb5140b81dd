// NVIDIA's W4A4 ResNet-50 end to end: release folder -> importer -> file -> runtime on real images.
// Every accumulator of the classifier must equal the integer program of oracle/w4a4.h, and the best
// classes and their accumulators those of a third program (w4a4_dev800_top5.csv).
//   check_w4a4 [--images N] [--oracle N] [--threads T] [--isa NAME] [--plant]
// Images: 4 by default, 0 means all 800. --oracle: how many of them also go through the integer
// program, which is slow; all by default.
// --plant changes one weight of the file: the check must fail.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "converter/data/dataset.h"
#include "converter/data/image.h"
#include "converter/nvidia/import.h"
#include "format/writer.h"
#include "oracle/w4a4.h"
#include "runtime/mpq.h"

namespace {

namespace fs = std::filesystem;
constexpr size_t kClasses = 1000, kBest = 5;

struct Options {
  size_t images = 4, oracle = SIZE_MAX;
  uint32_t threads = 1;
  const char* isa = nullptr;
  bool plant = false;
};

struct Expected {
  int label = -1;
  std::vector<int32_t> classes, accumulators;
};

std::vector<int32_t> numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<int32_t> values;
  for (int32_t value = 0; in >> value;) values.push_back(value);
  return values;
}

// image,label,class1..5,acc1..5
std::map<std::string, Expected> read_expected(const fs::path& path) {
  std::map<std::string, Expected> rows;
  std::ifstream in(path);
  std::string line;
  for (std::getline(in, line); std::getline(in, line);) {
    std::istringstream fields(line);
    std::string image, label, classes, accumulators;
    std::getline(fields, image, ',');
    std::getline(fields, label, ',');
    std::getline(fields, classes, ',');
    std::getline(fields, accumulators);
    rows[image] = {std::atoi(label.c_str()), numbers(classes), numbers(accumulators)};
  }
  return rows;
}

// Unpacked once into a cache folder; a rename makes it appear whole.
fs::path unpack(const fs::path& archive) {
  const fs::path cache = fs::temp_directory_path() / "mpq-test-cache";
  const fs::path release = cache / "resnet50_w4a4_nvidia";
  if (fs::exists(release / "model" / "model")) return release;
  fs::create_directories(cache);
  std::string scratch = (cache / "unpack.XXXXXX").string();
  if (mkdtemp(scratch.data()) == nullptr) return {};
  const std::string command = "tar -xJf '" + archive.string() + "' -C '" + scratch + "'";
  std::error_code ignored;
  if (std::system(command.c_str()) == 0)
    fs::rename(fs::path(scratch) / "resnet50_w4a4_nvidia", release, ignored);
  fs::remove_all(scratch, ignored);
  return fs::exists(release / "model" / "model") ? release : fs::path();
}

int fail(const std::string& what) {
  std::fprintf(stderr, "check_w4a4: %s\n", what.c_str());
  return 1;
}

struct Session {
  mpq_model* model = nullptr;
  mpq_session* session = nullptr;
  ~Session() {
    mpq_session_destroy(session);
    mpq_model_close(model);
  }
};

// What the classifier multiplies its accumulators by.
std::vector<float> logit_scale(const mpq::format::Model& model) {
  std::vector<float> scale(kClasses);
  for (const auto& tensor : model.tensors)
    if (tensor.name == "fc.multiplier")
      std::memcpy(scale.data(), tensor.data.data(), tensor.data.size());
  return scale;
}

std::vector<int32_t> best_classes(const std::vector<int32_t>& acc,
                                  const std::vector<float>& scale) {
  std::vector<int32_t> order(acc.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::partial_sort(order.begin(), order.begin() + kBest, order.end(), [&](int32_t a, int32_t b) {
    return static_cast<float>(acc[a]) * scale[a] > static_cast<float>(acc[b]) * scale[b];
  });
  order.resize(kBest);
  return order;
}

// Flips the low bit of the first layer's first 64 weights.
void plant(mpq::convert::LoweredModel* lowered) {
  for (size_t i = 0; i < lowered->model.tensors.size(); ++i)
    if (lowered->model.tensors[i].name == "conv1.weight")
      for (auto& bytes : lowered->storage)
        if (bytes.data() == lowered->model.tensors[i].data.data())
          for (size_t k = 0; k < 64; ++k) bytes[k] ^= std::byte{1};
}

int check(const Options& options, const fs::path& data) {
  const fs::path release = unpack(data / "resnet50_w4a4_nvidia.tar.xz");
  if (release.empty()) return fail("cannot unpack the release");
  auto imported =
      mpq::convert::nvidia::import_release(release.string(), {.accumulators = true, .labels = {}});
  if (!imported.ok()) return fail(imported.error().message);
  if (options.plant) plant(&imported->lowered);
  const auto file = mpq::format::write(imported->lowered.model);
  if (!file.ok()) return fail(file.error().message);
  mpq::oracle::W4a4 oracle;
  if (!oracle.load(release.string())) return fail("the oracle cannot read the release");

  Session s;
  mpq_options session_options;
  MPQ_INIT(&session_options);
  session_options.threads = options.threads;
  session_options.isa = options.isa;
  if (mpq_model_open_memory(file->data(), file->size(), nullptr, &s.model) != MPQ_OK ||
      mpq_session_create(s.model, &session_options, &s.session) != MPQ_OK)
    return fail(mpq_last_error());

  const auto dataset = mpq::data::ImageDataset::open((data / "imagenet_val_dev800.tar").string());
  if (!dataset.ok()) return fail(dataset.error().message);
  const auto expected = read_expected(data / "w4a4_dev800_top5.csv");
  const size_t count = options.images == 0 ? dataset->samples().size()
                                           : std::min(options.images, dataset->samples().size());
  const std::vector<float> scale = logit_scale(imported->lowered.model);
  const auto& image_spec = imported->lowered.model.image;
  size_t differing = 0, differing_images = 0, top1 = 0, top5 = 0, table_rows = 0;
  for (size_t i = 0; i < count; ++i) {
    const auto& sample = dataset->samples()[i];
    const auto bytes = dataset->read(i);
    if (!bytes.ok()) return fail(bytes.error().message);
    const auto image = mpq::data::decode_image(*bytes, sample.path);
    if (!image.ok()) return fail(image.error().message);
    const auto pixels = mpq::data::preprocess(*image, image_spec);
    if (!pixels.ok()) return fail(pixels.error().message);
    std::vector<int32_t> acc(kClasses);
    if (mpq_session_set_input(s.session, 0, pixels->data(), pixels->size()) != MPQ_OK ||
        mpq_session_run(s.session) != MPQ_OK ||
        mpq_session_get_output(s.session, 0, acc.data(), acc.size() * sizeof(int32_t)) != MPQ_OK)
      return fail(mpq_last_error());
    if (i < options.oracle) {
      const std::vector<int32_t> truth = oracle.run(pixels->data());
      size_t wrong = 0;
      for (size_t c = 0; c < kClasses; ++c) wrong += acc[c] != truth[c] ? 1 : 0;
      differing += wrong;
      differing_images += wrong != 0 ? 1 : 0;
    }
    const auto row = expected.find(fs::path(sample.path).filename().string());
    if (row == expected.end() || row->second.classes.size() != kBest)
      return fail(sample.path + ": not in the table");
    for (size_t k = 0; k < kBest; ++k) {
      if (acc[row->second.classes[k]] != row->second.accumulators[k])
        return fail(sample.path + ": class " + std::to_string(row->second.classes[k]) +
                    ": accumulator " + std::to_string(acc[row->second.classes[k]]) +
                    ", the table says " + std::to_string(row->second.accumulators[k]));
      ++table_rows;
    }
    const std::vector<int32_t> best = best_classes(acc, scale);
    if (best != row->second.classes)
      return fail(sample.path + ": the five best classes are not those of the table");
    top1 += best[0] == sample.label ? 1 : 0;
    top5 += std::find(best.begin(), best.end(), sample.label) != best.end() ? 1 : 0;
  }
  std::printf(
      "%zu of %zu images through the oracle, %zu classes each: %zu accumulators differ, in %zu "
      "images\n",
      std::min(options.oracle, count), count, kClasses, differing, differing_images);
  std::printf("%zu entries of the table equal; top-1 %zu, top-5 %zu of %zu\n", table_rows, top1,
              top5, count);
  return differing == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--plant")
      options.plant = true;
    else if (i + 1 < argc && word == "--images")
      options.images = std::strtoul(argv[++i], nullptr, 10);
    else if (i + 1 < argc && word == "--oracle")
      options.oracle = std::strtoul(argv[++i], nullptr, 10);
    else if (i + 1 < argc && word == "--threads")
      options.threads = static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 10));
    else if (i + 1 < argc && word == "--isa")
      options.isa = argv[++i];
    else
      return fail("unknown argument " + word);
  }
  const char* const given = std::getenv("MPQ_DATA");
  const fs::path data =
      given != nullptr ? fs::path(given) : fs::path(MPQ_SOURCE_ROOT) / ".." / "shared" / "data";
  for (const char* name :
       {"resnet50_w4a4_nvidia.tar.xz", "imagenet_val_dev800.tar", "w4a4_dev800_top5.csv"})
    if (!fs::exists(data / name)) {
      std::printf("SKIPPED: w4a4: %s is absent\n", name);
      return 77;
    }
  return check(options, data);
}
