#include "runtime/cli/expected.h"

#include <charconv>

#include "converter/data/read_file.h"
#include "runtime/cli/classes.h"
#include "runtime/cli/text.h"

namespace mpq::cli {

namespace {

template <typename T>
bool parse_numbers(const std::string& text, std::vector<T>* numbers) {
  for (const std::string& part : split(trim(text), ' ')) {
    T value = 0;
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (failure != std::errc() || end != part.data() + part.size()) return false;
    numbers->push_back(value);
  }
  return true;
}

}  // namespace

Result<Expected> Expected::load(const std::string& path) {
  MPQ_TRY(const std::vector<std::byte> bytes, data::read_file(path));
  Expected expected;
  size_t number = 0;
  for (const std::string& line :
       split({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, '\n')) {
    if (++number == 1 || trim(line).empty()) continue;
    const std::vector<std::string> fields = split(trim(line), ',');
    Answer answer;
    if (fields.size() != 4 || !parse_numbers(fields[2], &answer.classes) ||
        !parse_numbers(fields[3], &answer.accumulators) ||
        answer.classes.size() != answer.accumulators.size())
      return Error{Status::kCorrupt, format("%s: line %zu: not `image,label,classes,accumulators`",
                                            path.c_str(), number)};
    expected.answers_.emplace(fields[0], std::move(answer));
  }
  if (expected.answers_.empty()) return Error{Status::kCorrupt, path + ": no answers"};
  return expected;
}

const Expected::Answer* Expected::find(const std::string& image) const {
  const auto found = answers_.find(image.substr(image.rfind('/') + 1));
  return found == answers_.end() ? nullptr : &found->second;
}

void compare_answer(const Expected& expected, const std::string& image, const TensorInfo& info,
                    const std::byte* row, size_t classes, Agreement* agreement) {
  const Expected::Answer* const answer = expected.find(image);
  ++agreement->images;
  if (answer == nullptr) {
    ++agreement->missing;
    return;
  }
  std::string difference;
  if (info.dtype == MPQ_S32) {
    for (size_t i = 0; i < answer->classes.size(); ++i) {
      const size_t index = answer->classes[i];
      const auto got =
          index < classes ? static_cast<int64_t>(element(row, info.dtype, index)) : INT64_MIN;
      ++agreement->accumulators;
      agreement->accumulators_equal += got == answer->accumulators[i] ? 1 : 0;
      if (got != answer->accumulators[i] && difference.empty())
        difference = format("class %zu: %lld, expected %lld", index, static_cast<long long>(got),
                            static_cast<long long>(answer->accumulators[i]));
    }
  } else {
    const std::vector<ClassScore> best =
        best_classes(row, info.dtype, classes, answer->classes.size());
    ++agreement->lists;
    for (size_t i = 0; i < answer->classes.size() && difference.empty(); ++i)
      if (i >= best.size() || best[i].index != answer->classes[i])
        difference = format("rank %zu: class %zu, expected %zu", i + 1,
                            i < best.size() ? best[i].index : classes, answer->classes[i]);
    agreement->lists_equal += difference.empty() ? 1 : 0;
  }
  if (agreement->first_difference.empty() && !difference.empty())
    agreement->first_difference = image + ": " + info.name + ": " + difference;
}

}  // namespace mpq::cli
