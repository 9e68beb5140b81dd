#include "runtime/cli/inputs.h"

#include <algorithm>
#include <cstring>

#include "converter/data/read_file.h"
#include "runtime/cli/text.h"
#include "runtime/cli/texts.h"

namespace mpq::cli {

namespace {

ArrayType array_type(mpq_dtype dtype) {
  return dtype == MPQ_F32   ? ArrayType::kF32
         : dtype == MPQ_S32 ? ArrayType::kS32
         : dtype == MPQ_S8  ? ArrayType::kS8
                            : ArrayType::kU8;
}

// splitmix64: well mixed from any seed, and the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    return z ^ z >> 31;
  }

 private:
  uint64_t state_;
};

std::vector<std::byte> random_bytes(const TensorInfo& info, Random* random) {
  std::vector<std::byte> bytes(info.bytes);
  if (info.dtype == MPQ_F32) {
    for (uint64_t i = 0; i < info.elements; ++i) {  // uniform in [-2.5, 2.5): normalised pixels
      const float value = static_cast<float>(random->next() >> 40) * (5.0F / 16777216.0F) - 2.5F;
      std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
    }
    return bytes;
  }
  const auto mask = static_cast<uint8_t>((1U << std::min(mpq_dtype_bits(info.dtype), 8U)) - 1U);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random->next() >> 56) & std::byte{mask};
  return bytes;
}

Result<std::vector<Sample>> split_array(const Model& model, const std::string& path) {
  MPQ_TRY(const Array array, read_npy(path));
  const TensorInfo input = model.inputs()[0];
  if (array.type != array_type(input.dtype) || array.data.empty() ||
      array.data.size() % input.bytes != 0)
    return Error{Status::kInvalidArgument,
                 format("%s: %llu elements of %zu bytes; the model reads %s", path.c_str(),
                        static_cast<unsigned long long>(array.elements()), size_of(array.type),
                        to_string(input).c_str())};
  std::vector<Sample> samples;
  const size_t count = array.data.size() / input.bytes;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = array.data.begin() + static_cast<ptrdiff_t>(i * input.bytes);
    samples.push_back({count == 1 ? path : format("%s[%zu]", path.c_str(), i),
                       {{begin, begin + static_cast<ptrdiff_t>(input.bytes)}}});
  }
  return samples;
}

}  // namespace

Result<ImageReader> ImageReader::create(const Model& model) {
  mpq_image_preprocess preprocess;
  MPQ_INIT(&preprocess);
  const mpq_status status = mpq_model_image_preprocess(model.get(), &preprocess);
  const TensorInfo input = model.inputs()[0];
  if (status != MPQ_OK || input.dtype != MPQ_U8 ||
      input.bytes != uint64_t{preprocess.crop_h} * preprocess.crop_w * 3)
    return Error{Status::kInvalidArgument,
                 model.path() + ": does not read images; give .npy files of " + to_string(input)};
  ImageReader reader;
  reader.spec_.resize = static_cast<format::ImagePreprocess::Resize>(preprocess.resize);
  reader.spec_.resize_shorter = preprocess.resize_shorter;
  reader.spec_.crop_only_small = preprocess.crop_only_small != 0;
  reader.spec_.crop_h = preprocess.crop_h;
  reader.spec_.crop_w = preprocess.crop_w;
  std::copy_n(preprocess.mean, 3, reader.spec_.mean.begin());
  std::copy_n(preprocess.stddev, 3, reader.spec_.stddev.begin());
  return reader;
}

Result<Sample> ImageReader::read(std::span<const std::byte> encoded,
                                 const std::string& name) const {
  MPQ_TRY(const data::Image image, data::decode_image(encoded, name));
  MPQ_TRY(const std::vector<uint8_t> pixels, data::preprocess(image, spec_));
  const auto bytes = std::as_bytes(std::span(pixels));
  return Sample{name, {{bytes.begin(), bytes.end()}}};
}

Result<std::vector<Sample>> load_samples(const Model& model, const std::string& path) {
  if (model.sequence_length() != 0) return text_samples(model, path);
  if (model.inputs().size() != 1)
    return Error{Status::kUnsupported, model.path() + ": has " +
                                           std::to_string(model.inputs().size()) +
                                           " inputs; files can feed one"};
  if (path.ends_with(".npy")) return split_array(model, path);
  MPQ_TRY(const ImageReader reader, ImageReader::create(model));
  const auto encoded = data::read_file(path);
  if (!encoded.ok() && encoded.error().code == Status::kNotFound)
    return Error{Status::kNotFound,
                 encoded.error().message + "; " + model.path() + " takes images"};
  if (!encoded.ok()) return encoded.error();
  MPQ_TRY(Sample sample, reader.read(*encoded, path));
  return std::vector<Sample>{std::move(sample)};
}

std::vector<Sample> random_samples(const Model& model, size_t count, uint64_t seed,
                                   uint32_t tokens) {
  Random random(seed);
  std::vector<Sample> samples(count);
  const uint32_t words = mpq_model_vocabulary_size(model.get());
  constexpr uint32_t kLongest = 48;
  for (size_t i = 0; i < count; ++i) {
    samples[i].name = "random " + std::to_string(i);
    if (const uint32_t longest = model.sequence_length(); longest != 0) {
      const uint64_t length =
          tokens != 0 ? tokens : 1 + random.next() % std::min(longest, kLongest);
      for (uint64_t t = 0; t < length; ++t)
        samples[i].tokens.push_back({static_cast<int32_t>(random.next() % words), 0, 0, 0, 0});
      continue;
    }
    for (const TensorInfo& info : model.inputs())
      samples[i].inputs.push_back(random_bytes(info, &random));
  }
  return samples;
}

std::string dataset_of(const Args& args) {
  const bool named = args.mode() == Mode::kEval && args.files().size() == 2;
  return named ? args.files()[1] : args.text("dataset");
}

Result<SampleSource> SampleSource::create(const Model& model, const Args& args, size_t limit,
                                          size_t random_count, uint32_t random_tokens) {
  SampleSource source;
  for (const std::string& path : args.all("input")) {
    MPQ_TRY(std::vector<Sample> loaded, load_samples(model, path));
    std::move(loaded.begin(), loaded.end(), std::back_inserter(source.samples_));
  }
  std::string path = dataset_of(args);
  if (!path.empty()) {
    if (!source.samples_.empty())
      return Error{Status::kInvalidArgument, "--input and --dataset: one of them"};
    if (model.sequence_length() != 0) {
      MPQ_TRY(source.samples_, set_samples(model, path, limit));
      return source;
    }
    if (data::is_text_dataset(path))
      return Error{Status::kInvalidArgument,
                   path + ": is a set of texts; " + model.path() + " takes images"};
    // The kind may stand before the path; "imagenet" is any labelled set of images, the only kind
    // so far.
    constexpr std::string_view kKind = "imagenet:";
    if (path.starts_with(kKind)) path.erase(0, kKind.size());
    MPQ_TRY(source.reader_, ImageReader::create(model));
    MPQ_TRY(source.set_, data::ImageDataset::open(path));
    const size_t all = source.set_->samples().size();
    source.count_ = limit == 0 ? all : std::min(all, limit);
  }
  if (source.size() != 0) return source;
  MPQ_TRY(const uint64_t seed, args.whole("seed"));
  source.samples_ = random_samples(model, random_count, seed, random_tokens);
  return source;
}

Result<Sample> SampleSource::get(size_t index) const {
  if (!set_) return samples_[index];
  MPQ_TRY(const std::vector<std::byte> encoded, set_->read(index));
  return reader_->read(encoded, set_->samples()[index].path);
}

Result<std::vector<Sample>> gather_samples(const Model& model, const Args& args, size_t count,
                                           uint32_t random_tokens) {
  MPQ_TRY(const SampleSource source,
          SampleSource::create(model, args, count, count, random_tokens));
  std::vector<Sample> samples;
  for (size_t i = 0; i < source.size(); ++i) {
    MPQ_TRY(Sample sample, source.get(i));
    samples.push_back(std::move(sample));
  }
  return samples;
}

Checked fill(Session* session, const std::vector<Sample>& samples, size_t first) {
  if (!samples.empty() && !samples[0].tokens.empty()) {
    // A short last batch of sequences is a smaller one; one of images is filled up.
    const size_t count = std::min<size_t>(session->batch(), samples.size());
    return fill_sequences(session, samples, first, count);
  }
  for (uint32_t position = 0; position < session->batch(); ++position) {
    const Sample& sample = samples[(first + position) % samples.size()];
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      MPQ_CHECK(session->set_sample(i, position, sample.inputs[i]));
  }
  return Ok{};
}

}  // namespace mpq::cli
