// Known answers of a network, as a CSV of the best classes of each image and their accumulators.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/cli/engine.h"

namespace mpq::cli {

// Lines `image,label,classes,accumulators`, the last two separated by spaces; one header line.
class Expected {
 public:
  static Result<Expected> load(const std::string& path);

  struct Answer {
    std::vector<size_t> classes;
    std::vector<int64_t> accumulators;
  };
  const Answer* find(const std::string& image) const;
  size_t size() const { return answers_.size(); }

 private:
  std::unordered_map<std::string, Answer> answers_;
};

// What was compared, over all images and outputs.
struct Agreement {
  uint64_t images = 0, missing = 0;                   // missing: images without an expected answer
  uint64_t accumulators = 0, accumulators_equal = 0;  // s32 outputs: the listed classes
  uint64_t lists = 0, lists_equal = 0;                // f32 outputs: the best classes in order
  std::string first_difference;
  bool exact() const {
    return images != 0 && missing == 0 && accumulators == accumulators_equal &&
           lists == lists_equal;
  }
};

// One image's output row against its answer.
void compare_answer(const Expected& expected, const std::string& image, const TensorInfo& info,
                    const std::byte* row, size_t classes, Agreement* agreement);

}  // namespace mpq::cli
