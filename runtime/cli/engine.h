// The C API as C++ values: handles that close themselves, errors that name the file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"
#include "runtime/cli/args.h"
#include "runtime/mpq.h"

namespace mpq::cli {

// Success, or the library's last error with `where` in front.
Checked check(mpq_status status, const std::string& where);

struct CloseModel {
  void operator()(mpq_model* model) const { mpq_model_close(model); }
};
struct DestroySession {
  void operator()(mpq_session* session) const { mpq_session_destroy(session); }
};

struct TensorInfo {
  std::string name;
  mpq_dtype dtype = MPQ_F32;
  std::vector<int64_t> shape;
  uint64_t elements = 0, bytes = 0;
  float scale = 0.0F;
  int32_t zero_point = 0;
};
std::string to_string(const TensorInfo& info);  // "image u8 1x224x224x3"

class Model {
 public:
  // Loads the file as the options --verify and --mmap say.
  static Result<Model> open(const std::string& path, const Args& args);

  mpq_model* get() const { return model_.get(); }
  const std::string& path() const { return path_; }
  double load_seconds() const { return load_seconds_; }
  std::string sha256() const;
  std::vector<TensorInfo> inputs() const;
  std::vector<TensorInfo> outputs() const;
  std::vector<mpq_node_info> nodes() const;
  std::vector<std::string> labels() const;
  std::string label(size_t index) const;  // "" when the model has none
  uint32_t sequence_length() const { return mpq_model_sequence_length(get()); }  // 0: no sequences

 private:
  std::unique_ptr<mpq_model, CloseModel> model_;
  std::string path_;
  double load_seconds_ = 0.0;
};

struct SessionSpec {
  uint32_t batch = 1, threads = 0;
  std::string isa = "auto";
  bool profile = false, keep_tensors = false;
  uint32_t max_tokens = 0;          // of a run; 0: as many as the batch may have
  std::string device;               // "": as --device says
  mpq_step_fn step_done = nullptr;  // after every step; see mpq.h
  void* step_done_user = nullptr;
};

class Session {
 public:
  static Result<Session> create(const Model& model, const SessionSpec& spec, const Args& args);

  // Another one with the same options and kernels, on the same weights.
  Result<Session> clone() const;

  mpq_session* get() const { return session_.get(); }
  const std::string& where() const { return where_; }
  uint32_t batch() const { return mpq_session_batch(get()); }
  uint32_t threads() const { return mpq_session_threads(get()); }
  std::string isa() const;                                   // or the GPU's name
  double create_seconds() const { return create_seconds_; }  // 0: a clone
  // With this batch, or with the sequences of the last set_sequences.
  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  std::vector<mpq_step_info> steps() const;
  mpq_memory_info memory() const;

  Checked set_input(size_t index, const void* data, size_t bytes);
  // One image's part of an input, in place.
  Checked set_sample(size_t index, uint32_t position, const std::vector<std::byte>& bytes);
  // Sequences one behind the other, of lengths[i] tokens. Types are of models that have them.
  Checked set_sequences(const std::vector<int32_t>& ids, const std::vector<int32_t>& types,
                        const std::vector<uint32_t>& lengths);
  Checked run();
  // Borrowed until the next run.
  Result<const std::byte*> output(size_t index) const;
  // The part of an output that is one image's or one sequence's: a row, or a row a token.
  Result<std::span<const std::byte>> sample_output(size_t index, uint32_t position) const;

 private:
  void look();  // fills inputs_ and outputs_

  std::unique_ptr<mpq_session, DestroySession> session_;
  std::string where_;
  std::vector<TensorInfo> inputs_, outputs_;
  std::vector<uint32_t> starts_;  // first token of each sequence, then their number
  double create_seconds_ = 0.0;
};

}  // namespace mpq::cli
