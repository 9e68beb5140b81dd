// What the host may do to us: floating-point modes, MPQ_ISA, files that change, fork.

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/mpq.h"
#include "tests/runtime/support.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mpq::test {
namespace {

// A file in a folder of its own, removed with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::span<const std::byte> bytes) {
    char folder[] = "/tmp/mpq-test-XXXXXX";
    REQUIRE(mkdtemp(folder) != nullptr);
    folder_ = folder;
    write(bytes);
  }
  ~TemporaryFile() { std::filesystem::remove_all(folder_); }
  void write(std::span<const std::byte> bytes) const {
    std::ofstream(path(), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::string path() const { return folder_ + "/model.mpq"; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

void fill_inputs(ModelMaker* maker, const runtime::Session& session) {
  const format::Model& graph = session.model().graph();
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const auto bytes = random_input(maker, graph.tensors[graph.inputs[i]]);
    std::copy(bytes.begin(), bytes.end(), session.input(i).begin());
  }
}

std::vector<std::byte> outputs(const runtime::Session& session) {
  std::vector<std::byte> all;
  for (size_t i = 0; i < session.model().graph().outputs.size(); ++i) {
    const auto output = session.output(i);
    all.insert(all.end(), output.begin(), output.end());
  }
  return all;
}

}  // namespace

#if defined(__SSE__)
TEST_CASE("environment: the caller's floating-point modes change nothing and are given back") {
  for (const auto make : {make_everything, make_matrix, make_codes}) {
    ModelMaker maker(21);
    make(&maker);
    const format::AlignedBytes file = file_of(maker.model);
    const auto model = open_model(file);
    for (const kernels::IsaMask isa : machine_levels()) {
      const auto session = make_session(model, {.batch = 4, .threads = 3, .isa = isa});
      fill_inputs(&maker, *session);
      REQUIRE(session->run().ok());
      const auto expected = outputs(*session);
      const unsigned saved = _mm_getcsr();
      for (const unsigned rounding : {0x0000U, 0x2000U, 0x4000U, 0x6000U})
        for (const unsigned flush : {0x0000U, 0x8000U, 0x0040U, 0x8040U}) {
          const unsigned hostile = 0x1F80U | rounding | flush;
          _mm_setcsr(hostile);
          const bool ok = session->run().ok();
          const unsigned after = _mm_getcsr();
          const auto fresh = runtime::Session::create(model, {.isa = isa});
          const unsigned after_create = _mm_getcsr();
          _mm_setcsr(saved);
          CHECK(ok);
          CHECK(fresh.ok());
          CHECK(after == hostile);
          CHECK(after_create == hostile);
          CHECK(outputs(*session) == expected);
        }
    }
  }
}

TEST_CASE("environment: without the guard a hostile mode does change results") {
  ModelMaker maker(22);
  make_codes(&maker);
  const format::AlignedBytes file = file_of(maker.model);
  const auto session = make_session(open_model(file), {});
  fill_inputs(&maker, *session);
  REQUIRE(session->run().ok());
  const auto expected = outputs(*session);
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(0x1F80U | 0x4000U);  // round up
  for (const runtime::Step& step : session->plan().steps)
    step.run(step.args.get(), step.parts[0], {});
  _mm_setcsr(saved);
  CHECK(outputs(*session) != expected);
}
#endif

TEST_CASE("environment: MPQ_ISA limits sessions that leave the instruction set open") {
  const auto with = [](const char* value) {
    setenv("MPQ_ISA", value, 1);
    auto chosen = runtime::choose_isa(nullptr);
    unsetenv("MPQ_ISA");
    return chosen;
  };
  REQUIRE(with("scalar").ok());
  CHECK(*with("scalar") == kernels::kIsaScalar);
  CHECK(*with("") == runtime::available_isa());
  CHECK(*runtime::choose_isa(nullptr) == runtime::available_isa());
  REQUIRE_FALSE(with("sse9").ok());
  CHECK(with("sse9").error().code == Status::kInvalidArgument);
  CHECK(with("sse9").error().message.find("MPQ_ISA: sse9") == 0);
  setenv("MPQ_ISA", "sse9", 1);
  CHECK(runtime::choose_isa("scalar").ok());  // the session's own word wins
  unsetenv("MPQ_ISA");
  if ((runtime::available_isa() & kernels::kIsaAmx) == 0)
    CHECK(runtime::choose_isa("amx").error().code == Status::kUnsupportedCpu);
}

TEST_CASE(
    "environment: a file that is truncated, rewritten or deleted does not disturb an open model") {
  ModelMaker maker(23);
  make_everything(&maker);
  const format::AlignedBytes bytes = file_of(maker.model);
  const TemporaryFile file(bytes.bytes());
  auto read = runtime::File::read(file.path().c_str(), 1 << 30);
  REQUIRE(read.ok());
  auto model = runtime::Model::open(*std::move(read), {});
  REQUIRE(model.ok());
  const auto session = make_session(*model, {.isa = runtime::available_isa()});
  fill_inputs(&maker, *session);
  REQUIRE(session->run().ok());
  const auto expected = outputs(*session);
  const std::vector<std::byte> noise(bytes.bytes().size(), std::byte{0x5A});
  for (int i = 0; i < 1000; ++i) {
    if (i == 100) std::filesystem::resize_file(file.path(), 100);
    if (i == 200) file.write(noise);
    if (i == 300) std::filesystem::remove(file.path());
    REQUIRE(session->run().ok());
    REQUIRE(outputs(*session) == expected);
  }
  // A new session packs from the private copy too.
  const auto second = make_session(*model, {});
  for (size_t i = 0; i < session->model().graph().inputs.size(); ++i)
    std::copy(session->input(i).begin(), session->input(i).end(), second->input(i).begin());
  REQUIRE(second->run().ok());
  CHECK(outputs(*second) == expected);
}

TEST_CASE("environment: only regular files are opened, and errors name them") {
  const TemporaryFile file(std::vector<std::byte>(10, std::byte{1}));
  const auto code = [](const std::string& path, uint64_t limit) {
    const auto read = runtime::File::read(path.c_str(), limit);
    REQUIRE_FALSE(read.ok());
    CHECK(read.error().message.find(path) == 0);
    const auto mapped = runtime::File::map(path.c_str(), limit);
    REQUIRE_FALSE(mapped.ok());
    CHECK(mapped.error().code == read.error().code);
    return read.error().code;
  };
  CHECK(code(file.folder(), 1000) == Status::kIo);
  CHECK(code("/dev/zero", 1000) == Status::kIo);
  CHECK(code(file.folder() + "/absent", 1000) == Status::kIo);
  CHECK(code(file.path(), 9) == Status::kLimit);
  const std::string fifo = file.folder() + "/fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(code(fifo, 1000) == Status::kIo);  // and does not wait for a writer
  file.write({});
  CHECK(code(file.path(), 1000) == Status::kCorrupt);
  file.write(std::vector<std::byte>(10, std::byte{7}));
  const auto read = runtime::File::read(file.path().c_str(), 10);
  REQUIRE(read.ok());
  CHECK(read->bytes().size() == 10);
  CHECK(reinterpret_cast<uintptr_t>(read->bytes().data()) % 64 == 0);
  const auto mapped = runtime::File::map(file.path().c_str(), 10);
  REQUIRE(mapped.ok());
  CHECK(std::equal(mapped->bytes().begin(), mapped->bytes().end(), read->bytes().begin()));
}

TEST_CASE("environment: a child of fork may run a session of one thread, not one with workers") {
  ModelMaker maker(24);
  make_everything(&maker);
  const format::AlignedBytes file = file_of(maker.model);
  const auto model = open_model(file);
  const auto single = make_session(model, {.threads = 1});
  const auto many = make_session(model, {.threads = 2});
  const pid_t child = fork();
  if (child == 0) {
    const bool right = single->run().ok() && !many->run().ok() &&
                       many->run().error().code == Status::kInvalidArgument;
    _exit(right ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(many->run().ok());
}

}  // namespace mpq::test
