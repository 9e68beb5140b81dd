// An open model: the file's bytes, what they say, and weights in the layouts that sessions asked
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "format/model.h"
#include "format/reader.h"
#include "format/status.h"
#include "runtime/aligned_block.h"
#include "runtime/file.h"
#include "runtime/plan.h"
#include "runtime/thread_pool.h"
#include "text/tokenizer.h"

namespace mpq::runtime {

class Model {
 public:
  // Shared by its handle and by every session made from it.
  static Result<std::shared_ptr<const Model>> open(File file, const format::ReadOptions& options);

  const format::Model& graph() const { return graph_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }

  // Made from the vocabulary when it is first asked for. Thread-safe. An error for models that take
  // no text.
  Result<const text::Tokenizer*> tokenizer() const;

  // Gives every step of the plan its weights, packing those that no earlier session of the same
  // kernel layout has packed. Thread-safe. They live as long as the model.
  Checked bind_weights(Plan* plan, ThreadPool::Team* team) const;
  // Bytes that bind_weights would add.
  uint64_t missing_weight_bytes(const Plan& plan) const;

 private:
  Model(File file, format::Model graph) : file_(std::move(file)), graph_(std::move(graph)) {}

  struct Key {
    uint32_t node;
    std::string layout;
    size_t bytes;
    auto operator<=>(const Key&) const = default;
  };

  const File file_;
  const format::Model graph_;
  mutable std::mutex mutex_;  // guards what follows
  mutable std::map<Key, AlignedBlock> packed_;
  mutable std::optional<text::Tokenizer> tokenizer_;
};

}  // namespace mpq::runtime
