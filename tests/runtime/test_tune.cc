#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "kernels/cpu.h"
#include "runtime/tune.h"
#include "runtime/tune_cache.h"
#include "tests/runtime/support.h"
#include "tests/support/temp_folder.h"

namespace mpq::test {
namespace {

using runtime::KernelTime;
using runtime::KernelTimes;
using runtime::SessionOptions;
using runtime::TuneReport;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Fixture {
  Fixture() : maker(21) {
    make_everything(&maker);
    file = file_of(maker.model);
    model = open_model(file);
    for (const format::TensorId id : model->graph().inputs)
      inputs.push_back(random_input(&maker, model->graph().tensors[id]));
  }

  runtime::ChooseConv tune(SessionOptions options, TuneReport* report) const {
    auto choice = runtime::tune(*model, options, path, report);
    if (!choice.ok()) FAIL(choice.error().message);
    return *choice;
  }
  // All outputs of one run.
  std::vector<std::byte> run(const SessionOptions& options) const {
    const auto session = make_session(model, options);
    for (size_t i = 0; i < inputs.size(); ++i)
      std::memcpy(session->input(i).data(), inputs[i].data(), inputs[i].size());
    REQUIRE(session->run().ok());
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < model->graph().outputs.size(); ++i)
      bytes.insert(bytes.end(), session->output(i).begin(), session->output(i).end());
    return bytes;
  }
  std::set<std::string> kernels(const SessionOptions& options) const {
    std::set<std::string> names;
    const auto session = make_session(model, options);
    for (const runtime::Step& step : session->plan().steps)
      if (step.macs > 0) names.insert(step.kernel);
    return names;
  }

  ModelMaker maker;
  format::AlignedBytes file;
  std::shared_ptr<const runtime::Model> model;
  std::vector<std::vector<std::byte>> inputs;
  const tests::TempFolder folder;
  const std::string path = (folder.path / "times.txt").string();
};

TEST_CASE_FIXTURE(Fixture, "tune: whatever is fastest, the bytes are the same") {
  const std::vector<std::byte> expected = run({});
  for (const kernels::IsaMask isa : machine_levels())
    for (const uint32_t threads : {1U, 2U}) {
      SessionOptions options = {.threads = threads, .isa = isa};
      TuneReport report;
      options.choose_conv = tune(options, &report);
      CHECK(report.warning.empty());
      CHECK(report.timed == report.layers);
      CHECK(run(options) == expected);
    }
}

TEST_CASE_FIXTURE(Fixture, "tune: layers of a batch that run image by image are chosen for one") {
  const std::vector<std::byte> expected = run({.batch = 4});
  for (const uint32_t threads : {1U, 2U}) {
    SessionOptions options = {
        .batch = 4, .threads = threads, .isa = runtime::available_isa(), .front_steps = 5};
    TuneReport report;
    options.choose_conv = tune(options, &report);
    CHECK(make_session(model, options)->front().steps == 5);
    CHECK(run(options) == expected);
  }
}

TEST_CASE_FIXTURE(Fixture, "tune: any row that a file names is taken, and the bytes are the same") {
  SessionOptions options = {.isa = runtime::available_isa()};
  const std::vector<std::byte> expected = run(options);
  TuneReport report;
  tune(options, &report);
  auto times = runtime::load_kernel_times(path);
  REQUIRE(times.ok());
  CHECK(times->size() == report.timed);
  size_t most = 1;
  for (const auto& [layer, rows] : *times) most = std::max(most, rows.size());
  for (size_t turn = 0; turn < most; ++turn) {
    std::set<std::string> first;
    for (auto& [layer, rows] : *times) {
      std::rotate(rows.begin(), rows.begin() + 1, rows.end());
      first.insert(rows.front().kernel);
    }
    REQUIRE(runtime::save_kernel_times(path, *times).ok());
    TuneReport again;
    options.choose_conv = tune(options, &again);
    CHECK(again.timed == 0);
    CHECK(again.warning.empty());
    const std::set<std::string> ran = kernels(options);
    for (const std::string& name : first) CHECK_MESSAGE(ran.contains(name), name);
    CHECK(run(options) == expected);
  }
}

TEST_CASE_FIXTURE(Fixture, "tune: threads and instruction sets have times of their own") {
  TuneReport one, two;
  tune({.threads = 1, .isa = runtime::available_isa()}, &one);
  tune({.threads = 2, .isa = runtime::available_isa()}, &two);
  CHECK(two.timed == one.timed);
  const auto times = runtime::load_kernel_times(path);
  REQUIRE(times.ok());
  CHECK(times->size() == one.timed + two.timed);
}

TEST_CASE_FIXTURE(Fixture, "tune: a layer timed with other rows than there are is timed again") {
  const SessionOptions options = {.isa = runtime::available_isa()};
  TuneReport report;
  tune(options, &report);
  auto times = runtime::load_kernel_times(path);
  REQUIRE(times.ok());
  if (times->empty()) {
    MESSAGE("SKIPPED: tune: no layer has two rows on this machine");
    return;
  }
  times->begin()->second.front().kernel = "conv_of_yesterday";
  REQUIRE(runtime::save_kernel_times(path, *times).ok());
  TuneReport again;
  tune(options, &again);
  CHECK(again.timed == 1);
  CHECK(read_text(path).find("conv_of_yesterday") == std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "tune: a file that is stale or damaged is named, ignored and replaced") {
  const SessionOptions options = {.isa = runtime::available_isa()};
  TuneReport report;
  tune(options, &report);
  const std::string good = read_text(path);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const std::string cpu = kernels::cpu_model();
  struct Bad {
    std::string text, warning;
  };
  std::vector<Bad> files = {{changed(cpu, "Another CPU"), "on this CPU (" + cpu + ")"},
                            {changed("library 0", "library 9"), "not kernel times of mpq 0"},
                            {"", "empty file"},
                            {std::string(100, '\0'), "not kernel times"},
                            {good + "layer\n", "is not a layer"},
                            {good + "layer\tkernel\n", "is not a layer"},
                            {good + "layer\tkernel 12ns\n", "is not a layer"},
                            {good + "layer\tkernel -1\n", "is not a layer"},
                            {good + "\tkernel 1\n", "is not a layer"},
                            {good + "cut\tkernel 1", "is not a layer"},
                            {good + "twice\tk 1\ntwice\tk 1\n", "is not a layer"}};
  for (const Bad& bad : files) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad.text;
    TuneReport again;
    tune(options, &again);
    CAPTURE(bad.text);
    CAPTURE(again.warning);
    CHECK(again.warning.starts_with(path));
    CHECK(again.warning.find(bad.warning) != std::string::npos);
    CHECK(again.timed == report.timed);
    if (report.timed > 0) CHECK(runtime::load_kernel_times(path).ok());
  }
}

TEST_CASE_FIXTURE(Fixture, "tune: a file that cannot be written costs a warning, not the session") {
  const SessionOptions options = {.isa = runtime::available_isa()};
  TuneReport report;
  const auto choice =
      runtime::tune(*model, options, (folder.path / "absent" / "times").string(), &report);
  REQUIRE(choice.ok());
  if (report.timed > 0) CHECK(report.warning.find("cannot write") != std::string::npos);
  CHECK(!std::filesystem::exists(folder.path / "absent"));
}

TEST_CASE_FIXTURE(Fixture, "tune: the memory limit holds while rows are timed") {
  SessionOptions options = {.isa = runtime::available_isa()};
  TuneReport report;
  const auto session = make_session(model, options);
  // As much as one session needs: its rows are timed, the others are not.
  options.memory_limit =
      session->arena_bytes() + session->scratch_bytes() + session->plan().weight_bytes;
  options.choose_conv = tune(options, &report);
  CHECK(report.other == 0);
  options.memory_limit = 100;
  TuneReport refused;
  const auto choice = runtime::tune(*model, options, "", &refused);
  if (report.timed > 0) {
    REQUIRE(!choice.ok());
    CHECK(choice.error().code == Status::kLimit);
  }
}

}  // namespace
}  // namespace mpq::test
