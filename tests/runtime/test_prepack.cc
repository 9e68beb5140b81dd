// Weights packed ahead of time: the same outputs, really used, and never needed.
#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "format/reader.h"
#include "kernels/conv/base64.h"
#include "kernels/conv/winograd_quarters.h"
#include "runtime/prepack.h"
#include "tests/runtime/support.h"

namespace mpq::test {
namespace {

using format::AlignedBytes;
using format::Model;
using kernels::IsaMask;

constexpr IsaMask kVnni = kernels::kIsaAvx2 | kernels::kIsaAvx512Vnni;
constexpr IsaMask kLevels[] = {kernels::kIsaScalar, kernels::kIsaAvx2, kVnni,
                               kVnni | kernels::kIsaAmx};

AlignedBytes prepacked(const AlignedBytes& file, IsaMask isa) {
  const auto bytes = runtime::prepack(open_model(file)->graph(), isa);
  if (!bytes.ok()) FAIL(bytes.error().message);
  return AlignedBytes(std::span<const std::byte>(*bytes));
}

bool same(const AlignedBytes& a, const AlignedBytes& b) {
  return std::ranges::equal(a.bytes(), b.bytes());
}

// Borrows from `file`.
Model read(const AlignedBytes& file) {
  auto model = format::read(file.bytes(), {});
  if (!model.ok()) FAIL(model.error().message);
  return *std::move(model);
}

// Every output, one after the other.
std::vector<std::byte> outputs(const AlignedBytes& file, IsaMask isa,
                               const std::vector<std::vector<std::byte>>& inputs) {
  const auto model = open_model(file);
  const auto session = make_session(model, {.isa = isa});
  for (size_t i = 0; i < inputs.size(); ++i)
    std::ranges::copy(inputs[i], session->input(i).begin());
  REQUIRE(session->run().ok());
  std::vector<std::byte> all;
  for (size_t i = 0; i < model->graph().outputs.size(); ++i)
    all.insert(all.end(), session->output(i).begin(), session->output(i).end());
  return all;
}

struct Case {
  ModelMaker maker{21};
  AlignedBytes file;
  std::vector<std::vector<std::byte>> inputs;
  explicit Case(void (*make)(ModelMaker*)) {
    make(&maker);
    file = file_of(maker.model);
    for (const format::TensorId id : maker.model.inputs)
      inputs.push_back(random_input(&maker, maker.model.tensors[id]));
  }
};

size_t dense_nodes(const Model& model) {
  return static_cast<size_t>(std::ranges::count_if(model.nodes, [](const format::Node& n) {
    return n.op() == format::OpCode::kConv2d || n.op() == format::OpCode::kLinear;
  }));
}

}  // namespace

TEST_CASE("prepack: outputs are the same bytes, for layouts of every level on every level") {
  for (const auto make : {make_everything, make_matrix}) {
    const Case c(make);
    const auto expected = outputs(c.file, kernels::kIsaScalar, c.inputs);
    for (const IsaMask packed_for : kLevels) {
      const AlignedBytes file = prepacked(c.file, packed_for);
      for (const IsaMask isa : machine_levels()) CHECK(outputs(file, isa, c.inputs) == expected);
    }
  }
}

TEST_CASE("prepack: every layer with weights has the layout of the kernel its session chooses") {
  const Case c(make_everything);
  for (const IsaMask isa : kLevels) {
    const AlignedBytes file = prepacked(c.file, isa);
    const Model model = read(file);
    CHECK(model.prepacked.size() == dense_nodes(model));
    const auto plan = runtime::make_plan(model, {.isa = isa});
    REQUIRE(plan.ok());
    for (const runtime::WeightsRequest& w : plan->weights)
      CHECK(std::ranges::any_of(model.prepacked, [&](const format::Prepacked& p) {
        return p.node == w.node && p.layout == w.layout && p.data.size() == w.packed_bytes;
      }));
  }
}

TEST_CASE("prepack: sessions use the segments instead of packing") {
  const Case c(make_everything);
  for (const IsaMask isa : machine_levels()) {
    const AlignedBytes file = prepacked(c.file, isa);
    const Model model = read(file);
    const auto plan = runtime::make_plan(model, {.isa = isa});
    REQUIRE(plan.ok());
    for (const runtime::WeightsRequest& w : plan->weights) {
      // A segment that says something else than the file's weights is what arrives.
      Model planted = model;
      std::vector<std::byte> other;
      for (format::Prepacked& p : planted.prepacked) {
        if (p.node != w.node || p.layout != w.layout) continue;
        other.assign(p.data.begin(), p.data.end());
        other.back() ^= std::byte{0x11};
        p.data = other;
      }
      REQUIRE(other.size() == w.packed_bytes);
      std::vector<std::byte> memory(w.bytes), scratch(w.scratch_bytes);
      w.pack(planted, memory.data(), scratch.data());
      CHECK(std::equal(other.begin(), other.end(), memory.begin()));
      w.pack(model, memory.data(), scratch.data());
      CHECK_FALSE(std::equal(other.begin(), other.end(), memory.begin()));
    }
    Model planted = model;
    std::vector<std::vector<std::byte>> zeros;
    for (format::Prepacked& p : planted.prepacked)
      p.data = zeros.emplace_back(p.data.size(), std::byte{0});
    CHECK(outputs(file_of(planted), isa, c.inputs) != outputs(c.file, isa, c.inputs));
  }
}

TEST_CASE("prepack: a segment that would lead its kernel astray is made anew") {
  const Case c(make_everything);
  for (const IsaMask isa : machine_levels()) {
    const AlignedBytes file = prepacked(c.file, isa);
    const Model model = read(file);
    for (size_t i = 0; i < model.prepacked.size(); ++i) {
      const std::string layout = model.prepacked[i].layout;
      const bool base64 = layout == kernels::kBase64Layout,
                 winograd = layout == kernels::kWinogradQuartersLayout;
      if (!base64 && !winograd) continue;
      // The number of stretches behind the starts of a panel, and the end of the first one.
      const size_t number = kernels::kPanelChannels * sizeof(int32_t),
                   end = sizeof(kernels::WinogradQuartersHeader);
      std::vector<std::pair<size_t, uint32_t>> plants = {{number, 0}, {number, 0x10000000}};
      if (base64) plants.emplace_back(number, kernels::kMaxStretch + 1);
      if (winograd) plants.insert(plants.end(), {{end, 0}, {end, 0xFFFFFFFF}});
      for (const auto& plant : plants) {
        const size_t at = plant.first;
        const uint32_t value = plant.second;
        CAPTURE(layout);
        CAPTURE(at);
        CAPTURE(value);
        Model planted = model;
        std::vector<std::byte> bad(model.prepacked[i].data.begin(), model.prepacked[i].data.end());
        std::memcpy(&bad[at], &value, sizeof value);
        planted.prepacked[i].data = bad;
        CHECK(outputs(file_of(planted), isa, c.inputs) == outputs(c.file, isa, c.inputs));
      }
    }
  }
}

TEST_CASE("prepack: without the segments the file is what it was") {
  const Case c(make_everything);
  const AlignedBytes file = prepacked(c.file, kVnni);
  CHECK(file.bytes().size() > c.file.bytes().size());
  Model model = read(file);
  model.prepacked.clear();
  CHECK(same(file_of(model), c.file));
}

TEST_CASE("prepack: layouts of several levels live together, in any order of making") {
  const Case c(make_everything);
  const AlignedBytes both = prepacked(prepacked(c.file, kernels::kIsaScalar), kVnni);
  CHECK(same(both, prepacked(prepacked(c.file, kVnni), kernels::kIsaScalar)));
  CHECK(same(both, prepacked(both, kVnni)));
  std::set<std::pair<uint32_t, std::string>> expected;
  for (const IsaMask isa : {kernels::kIsaScalar, kVnni}) {
    const AlignedBytes one = prepacked(c.file, isa);
    for (const format::Prepacked& p : read(one).prepacked) expected.emplace(p.node, p.layout);
  }
  const Model model = read(both);
  CHECK(model.prepacked.size() == expected.size());
  for (const format::Prepacked& p : model.prepacked) CHECK(expected.contains({p.node, p.layout}));
}

TEST_CASE("prepack: wrong segments of the same layout are made anew, unknown layouts stay") {
  const Case c(make_everything);
  const AlignedBytes right = prepacked(c.file, kVnni);
  Model model = read(right);
  const std::vector<std::byte> wrong(100, std::byte{7});
  model.prepacked[0].data = wrong;
  const uint32_t node = model.prepacked[0].node;
  CHECK(same(prepacked(file_of(model), kVnni), right));
  model.prepacked.push_back({node, "another_layout_v1", wrong});
  const AlignedBytes more = prepacked(file_of(model), kVnni);
  const Model result = read(more);
  CHECK(result.prepacked.size() == model.prepacked.size());
  CHECK(std::ranges::count_if(result.prepacked, [&](const format::Prepacked& p) {
          return p.node == node && p.layout == "another_layout_v1" &&
                 std::ranges::equal(p.data, wrong);
        }) == 1);
}

}  // namespace mpq::test
