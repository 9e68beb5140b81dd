#include "tests/e2e/cli_support.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "format/writer.h"
#include "tests/support/naive_model.h"
#include "tests/support/tiny_models.h"

namespace mpq::test {

namespace fs = std::filesystem;

namespace {

constexpr int kSamples = 3;

// Bytes of sample s of a model's only input: a fixed pattern, floats in steps of 1/32.
std::vector<std::byte> sample(const format::Tensor& input, int s) {
  uint64_t elements = 0;
  REQUIRE(checked_elements(input.shape, &elements));
  std::vector<std::byte> bytes;
  for (uint64_t i = 0; i < elements; ++i) {
    const auto code = static_cast<uint8_t>(i * 89 + static_cast<uint64_t>(s) * 57 + i * i % 23);
    if (input.dtype == DType::kU8) {
      bytes.push_back(static_cast<std::byte>(code));
      continue;
    }
    const float value = (static_cast<float>(code) - 128.0F) / 32.0F;
    const auto* const raw = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
  }
  return bytes;
}

std::string npy(const char* type, const std::string& shape, const std::string& data) {
  std::string header =
      std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(117 - header.size(), ' ');
  header += '\n';
  return std::string("\x93NUMPY\1\0", 8) + static_cast<char>(header.size()) + '\0' + header + data;
}

TinyModel tiny(const std::string& model) {
  return model == "conv" ? tiny_conv_net() : tiny_linear_net();
}

void write_model(const std::string& name) {
  const TinyModel t = tiny(name);
  const auto bytes = format::write(t.model);
  REQUIRE(bytes.ok());
  write(name + ".fb", {reinterpret_cast<const char*>(bytes->data()), bytes->size()});
  const format::Tensor& input = t.model.tensors[t.model.inputs[0]];
  std::string data, shape = std::to_string(kSamples);
  for (int s = 0; s < kSamples; ++s)
    for (const std::byte b : sample(input, s)) data += static_cast<char>(b);
  for (size_t i = 1; i < input.shape.size(); ++i) shape += ", " + std::to_string(input.shape[i]);
  write(name + ".npy", npy(input.dtype == DType::kU8 ? "|u1" : "<f4", shape, data));
}

struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "mpqrun_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
};

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Outcome wait_for(pid_t child) {
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
          file_text(folder() / "stdout"), file_text(folder() / "stderr")};
}

// `exec` makes the shell's process id the program's.
pid_t start(const std::string& words, const std::string& environment,
            const std::string& standard_output) {
  const std::string command = "cd '" + folder().string() + "' && exec env " + environment + " '" +
                              std::getenv("MPQRUN") + "' " + words + " >" + standard_output +
                              " 2>stderr </dev/null";
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  return child;
}

}  // namespace

const fs::path& folder() {
  static const Folder made;
  return made.path;
}

std::string path_of(const std::string& name) { return (folder() / name).string(); }

std::string write(const std::string& name, const std::string& bytes) {
  std::ofstream(folder() / name, std::ios::binary) << bytes;
  return path_of(name);
}

std::string read(const std::string& name) { return file_text(folder() / name); }

void make_models() {
  for (const char* name : {"conv", "linear"}) write_model(name);
  TinyModel changed = tiny_conv_net();
  for (format::Tensor& tensor : changed.model.tensors)
    if (tensor.name == "conv2.bias")
      tensor.data = changed.storage.emplace_back(tensor.data.size(), std::byte{0});
  const auto bytes = format::write(changed.model);
  REQUIRE(bytes.ok());
  write("conv_changed.fb", {reinterpret_cast<const char*>(bytes->data()), bytes->size()});
}

Outcome mpqrun(const std::string& words, const std::string& environment,
               const std::string& standard_output) {
  return wait_for(start(words, environment, standard_output));
}

Outcome mpqrun_signalled(const std::string& words, int signal, int after_ms) {
  const pid_t child = start(words, "", "stdout");
  std::this_thread::sleep_for(std::chrono::milliseconds(after_ms));
  kill(child, signal);
  return wait_for(child);
}

std::vector<std::vector<std::vector<std::byte>>> expected_outputs(const std::string& model) {
  const TinyModel t = tiny(model);
  std::vector<std::vector<std::vector<std::byte>>> samples;
  for (int s = 0; s < kSamples; ++s) {
    const auto values = naive_run(t.model, {sample(t.model.tensors[t.model.inputs[0]], s)});
    samples.emplace_back();
    for (const format::TensorId id : t.model.outputs)
      samples.back().push_back(api_bytes(t.model.tensors[id], values[id]));
  }
  return samples;
}

bool contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE("\"" << text << "\" lacks \"" << part << "\"");
  return false;
}

}  // namespace mpq::test
