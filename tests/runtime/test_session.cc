#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <set>
#include <thread>

#include "runtime/mpq.h"
#include "tests/runtime/support.h"
#include "tests/support/naive_model.h"

namespace mpq::test {
namespace {

using runtime::Session;
using runtime::SessionOptions;

// One model, some images, and what they give by the naive interpreter.
struct Case {
  explicit Case(void (*make)(ModelMaker*), uint32_t seed) : maker(seed) {
    make(&maker);
    file = file_of(maker.model);
    model = open_model(file);
    const format::Model& graph = model->graph();
    for (int image = 0; image < kImages; ++image) {
      std::vector<std::vector<std::byte>> inputs;
      for (const format::TensorId id : graph.inputs)
        inputs.push_back(random_input(&maker, graph.tensors[id]));
      const std::vector<NaiveTensor> values = naive_run(graph, inputs);
      std::vector<std::vector<std::byte>> expected;
      for (format::TensorId id = 0; id < graph.tensors.size(); ++id)
        expected.push_back(api_bytes(graph.tensors[id], values[id]));
      images.push_back(std::move(inputs));
      tensors.push_back(std::move(expected));
    }
  }

  static constexpr int kImages = 8;
  ModelMaker maker;
  format::AlignedBytes file;
  std::shared_ptr<const runtime::Model> model;
  std::vector<std::vector<std::vector<std::byte>>> images;   // [image][input]
  std::vector<std::vector<std::vector<std::byte>>> tensors;  // [image][tensor]
};

// Puts images first, first + 1, ... into the batch.
void set_inputs(const Case& c, const Session& session, uint32_t first) {
  for (size_t i = 0; i < c.model->graph().inputs.size(); ++i) {
    std::byte* to = session.input(i).data();
    for (uint32_t b = 0; b < session.options().batch; ++b) {
      const std::vector<std::byte>& from = c.images[(first + b) % Case::kImages][i];
      std::memcpy(to + b * from.size(), from.data(), from.size());
    }
  }
}

// Counts images of the batch whose bytes differ from the expected ones.
int wrong_images(const Case& c, format::TensorId id, std::span<const std::byte> actual,
                 uint32_t batch, uint32_t first) {
  int wrong = 0;
  for (uint32_t b = 0; b < batch; ++b) {
    const std::vector<std::byte>& expected = c.tensors[(first + b) % Case::kImages][id];
    REQUIRE(actual.size() == expected.size() * batch);
    wrong +=
        std::memcmp(actual.data() + b * expected.size(), expected.data(), expected.size()) != 0;
  }
  return wrong;
}

void check_everywhere(void (*make)(ModelMaker*), uint32_t seed) {
  const Case c(make, seed);
  const auto& outputs = c.model->graph().outputs;
  for (const kernels::IsaMask isa : machine_levels())
    for (const uint32_t threads : {1U, 2U, 3U, 4U, 7U})
      for (const uint32_t batch : {1U, 2U, 3U, 5U, 8U}) {
        const auto session =
            make_session(c.model, {.batch = batch, .threads = threads, .isa = isa});
        for (uint32_t first = 0; first < 3; ++first) {
          set_inputs(c, *session, first);
          REQUIRE(session->run().ok());
          for (size_t i = 0; i < outputs.size(); ++i) {
            CAPTURE(kernels::isa_name(isa));
            CAPTURE(threads);
            CAPTURE(batch);
            CAPTURE(c.model->graph().tensors[outputs[i]].name);
            CHECK(wrong_images(c, outputs[i], session->output(i), batch, first) == 0);
          }
        }
      }
}

}  // namespace

TEST_CASE("session: every operator gives the naive bytes on every ISA, thread count and batch") {
  check_everywhere(make_everything, 1);
  check_everywhere(make_everything, 2);
}

TEST_CASE("session: first layers run image by image give the same bytes wherever the cut is") {
  const Case c(make_everything, 6);
  const auto& outputs = c.model->graph().outputs;
  std::set<uint32_t> cuts;
  for (const kernels::IsaMask isa : machine_levels())
    for (const uint32_t threads : {1U, 2U, 3U})
      for (const uint32_t batch : {2U, 6U})
        for (uint32_t cut = 0; cut <= 20; ++cut) {
          const auto session = make_session(c.model, {.batch = batch,
                                                      .threads = threads,
                                                      .isa = isa,
                                                      .profile = true,
                                                      .front_steps = cut});
          cuts.insert(session->front().steps);
          set_inputs(c, *session, cut);
          for (int run = 0; run < 2; ++run) {
            REQUIRE(session->run().ok());
            for (size_t i = 0; i < outputs.size(); ++i) {
              CAPTURE(kernels::isa_name(isa));
              CAPTURE(threads);
              CAPTURE(batch);
              CAPTURE(cut);
              CHECK(wrong_images(c, outputs[i], session->output(i), batch, cut) == 0);
            }
          }
        }
  CHECK(cuts.size() > 5);
}

TEST_CASE("session: matrices give the naive bytes on every ISA, thread count and batch") {
  check_everywhere(make_matrix, 3);
}

TEST_CASE("session: codes in and floats out give the naive bytes everywhere") {
  check_everywhere(make_codes, 4);
}

TEST_CASE("session: with keep_tensors every tensor can be read after the run") {
  const Case c(make_everything, 5);
  for (const kernels::IsaMask isa : machine_levels()) {
    const auto session =
        make_session(c.model, {.batch = 2, .threads = 2, .isa = isa, .keep_tensors = true});
    set_inputs(c, *session, 0);
    REQUIRE(session->run().ok());
    for (format::TensorId id = 0; id < c.model->graph().tensors.size(); ++id) {
      if (c.model->graph().tensors[id].is_constant()) continue;
      std::vector<std::byte> bytes(session->tensor_bytes(id));
      REQUIRE(session->read_tensor(id, bytes).ok());
      CAPTURE(c.model->graph().tensors[id].name);
      CHECK(wrong_images(c, id, bytes, 2, 0) == 0);
    }
  }
}

TEST_CASE("session: the models under test do not hide errors behind constant tensors") {
  for (const auto make : {make_everything, make_matrix, make_codes}) {
    const Case c(make, 12);
    for (format::TensorId id = 0; id < c.model->graph().tensors.size(); ++id) {
      if (c.model->graph().tensors[id].is_constant()) continue;
      std::set<std::byte> values;
      for (const auto& image : c.tensors) values.insert(image[id].begin(), image[id].end());
      CAPTURE(c.model->graph().tensors[id].name);
      CHECK(values.size() >= (bits_of(c.model->graph().tensors[id].dtype) == 2 ? 3 : 5));
    }
  }
}

TEST_CASE("session: weights that the file holds in a kernel's layout are used, others are packed") {
  ModelMaker maker(13);
  make_matrix(&maker);
  const auto input = random_input(&maker, maker.model.tensors[maker.model.inputs[0]]);
  const auto run = [&](std::vector<format::Prepacked> prepacked) {
    maker.model.prepacked = std::move(prepacked);
    const format::AlignedBytes file = file_of(maker.model);
    const auto session = make_session(open_model(file), {});
    std::copy(input.begin(), input.end(), session->input(0).begin());
    REQUIRE(session->run().ok());
    const auto output = session->output(0);
    return std::vector<std::byte>(output.begin(), output.end());
  };
  const auto plain = run({});
  // The portable kernel's layout: one int8 a code, in the order of the file.
  constexpr uint32_t kHidden = 1;
  const format::Tensor& weights = maker.model.tensors[maker.model.nodes[kHidden].inputs[1]];
  std::vector<std::byte> codes, zeros;
  for (uint64_t i = 0; i < 67 * 40; ++i)
    codes.push_back(static_cast<std::byte>(format::get_code(weights.data, i, 2, true)));
  zeros.resize(codes.size());
  CHECK(run({{kHidden, "oihw8_v1", codes}}) == plain);
  CHECK(run({{kHidden, "oihw8_v1", zeros}}) != plain);  // so they are really used
  CHECK(run({{kHidden, "another_layout_v1", zeros}}) == plain);
  zeros.pop_back();
  CHECK(run({{kHidden, "oihw8_v1", zeros}}) == plain);  // of another size
}

TEST_CASE("session: the comparison sees a single wrong byte") {
  const Case c(make_matrix, 6);
  const auto session = make_session(c.model, {});
  set_inputs(c, *session, 0);
  REQUIRE(session->run().ok());
  const std::span<std::byte> output = session->output(0);
  const format::TensorId id = c.model->graph().outputs[0];
  CHECK(wrong_images(c, id, output, 1, 0) == 0);
  output.back() ^= std::byte{1};
  CHECK(wrong_images(c, id, output, 1, 0) == 1);
}

TEST_CASE("session: codes above the range count as the highest") {
  ModelMaker maker(7);
  make_codes(&maker);
  const format::AlignedBytes file = file_of(maker.model);
  const auto model = open_model(file);
  const auto session = make_session(model, {});
  const size_t count = session->input(0).size();
  std::memset(session->input(0).data(), 15, count);
  REQUIRE(session->run().ok());
  const std::vector<std::byte> highest(session->output(0).begin(), session->output(0).end());
  std::memset(session->input(0).data(), 200, count);
  REQUIRE(session->run().ok());
  CHECK(std::memcmp(highest.data(), session->output(0).data(), highest.size()) == 0);
}

TEST_CASE("session: an input keeps its value over runs, so a second run repeats the first") {
  const Case c(make_everything, 8);
  const auto session =
      make_session(c.model, {.batch = 3, .threads = 2, .isa = runtime::available_isa()});
  set_inputs(c, *session, 0);
  for (int run = 0; run < 3; ++run) {
    REQUIRE(session->run().ok());
    CHECK(wrong_images(c, c.model->graph().outputs[0], session->output(0), 3, 0) == 0);
  }
}

TEST_CASE("session: a memory limit is an error before anything is allocated") {
  ModelMaker maker(9);
  make_everything(&maker);
  const format::AlignedBytes file = file_of(maker.model);
  const auto model = open_model(file);
  struct Count {
    int calls = 0;
    static void* allocate(void* user, size_t bytes, size_t align) {
      ++static_cast<Count*>(user)->calls;
      return std::aligned_alloc(align, (bytes + align - 1) / align * align);
    }
    static void deallocate(void*, void* memory) { std::free(memory); }
  } count;
  SessionOptions options = {.allocator = {Count::allocate, Count::deallocate, &count}};
  const auto plan = runtime::make_plan(model->graph(), {});
  REQUIRE(plan.ok());
  const uint64_t need = plan->arena.bytes + plan->scratch_bytes + plan->weight_bytes;
  options.memory_limit = need - 1;
  const auto refused = Session::create(model, options);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == Status::kLimit);
  CHECK(count.calls == 0);
  options.memory_limit = need;
  CHECK(Session::create(model, options).ok());
  CHECK(count.calls == 1);
}

TEST_CASE("session: sessions of one kernel layout share packed weights") {
  ModelMaker maker(10);
  make_everything(&maker);
  const format::AlignedBytes file = file_of(maker.model);
  const auto model = open_model(file);
  const auto first = make_session(model, {.isa = runtime::available_isa()});
  CHECK(model->missing_weight_bytes(first->plan()) == 0);
  const auto scalar = runtime::make_plan(model->graph(), {});
  REQUIRE(scalar.ok());
  if (runtime::available_isa() != kernels::kIsaScalar)
    CHECK(model->missing_weight_bytes(*scalar) > 0);
  const auto second = make_session(model, {.batch = 2, .isa = runtime::available_isa()});
  CHECK(model->missing_weight_bytes(second->plan()) == 0);
}

TEST_CASE("session: streams at the same time give the naive bytes, on weights packed once") {
  const Case c(make_everything, 12);
  const format::TensorId output = c.model->graph().outputs[0];
  for (const uint32_t threads : {1U, 2U})
    for (uint32_t count = 1; count <= 4; ++count) {
      std::vector<std::unique_ptr<Session>> sessions;
      for (uint32_t i = 0; i < count; ++i) {
        const runtime::PlanOptions options = {
            .batch = 2, .threads = threads, .isa = runtime::available_isa()};
        const auto plan = runtime::make_plan(c.model->graph(), options);
        REQUIRE(plan.ok());
        if (i > 0) CHECK(c.model->missing_weight_bytes(*plan) == 0);
        sessions.push_back(make_session(
            c.model, {.batch = 2, .threads = threads, .isa = runtime::available_isa()}));
      }
      std::vector<std::vector<std::byte>> outputs(count);
      const auto stream = [&](uint32_t i) {
        for (uint32_t turn = 0; turn < 20; ++turn) {
          set_inputs(c, *sessions[i], i + turn);
          if (!sessions[i]->run().ok()) return;
          const std::span<const std::byte> bytes = sessions[i]->output(0);
          outputs[i].insert(outputs[i].end(), bytes.begin(), bytes.end());
        }
      };
      std::vector<std::thread> running;
      for (uint32_t i = 0; i < count; ++i) running.emplace_back(stream, i);
      for (std::thread& thread : running) thread.join();
      for (uint32_t i = 0; i < count; ++i) {
        const size_t bytes = sessions[i]->output(0).size();
        REQUIRE(outputs[i].size() == 20 * bytes);
        for (uint32_t turn = 0; turn < 20; ++turn)
          CHECK(wrong_images(c, output, std::span(outputs[i]).subspan(turn * bytes, bytes), 2,
                             i + turn) == 0);
      }
    }
}

TEST_CASE("session: a host's parallel_for runs every part and gives the same bytes") {
  const Case c(make_everything, 11);
  struct Host {
    size_t calls = 0;
    // Backwards, to differ from the library's own order.
    static void parallel_for(void* user, size_t tasks, void (*task)(void*, size_t), void* arg) {
      ++static_cast<Host*>(user)->calls;
      for (size_t i = tasks; i > 0; --i) task(arg, i - 1);
    }
  } host;
  const auto session = make_session(c.model, {.batch = 8,
                                              .threads = 5,
                                              .isa = runtime::available_isa(),
                                              .parallel_for = Host::parallel_for,
                                              .parallel_for_user = &host});
  set_inputs(c, *session, 0);
  REQUIRE(session->run().ok());
  CHECK(wrong_images(c, c.model->graph().outputs[0], session->output(0), 8, 0) == 0);
  CHECK(host.calls > 0);
}

TEST_CASE("session: step_done hears of every step once, in order, between them") {
  const Case c(make_everything, 11);
  std::vector<size_t> heard;
  mpq_options options;
  MPQ_INIT(&options);
  options.batch = 8;
  options.threads = 2;
  options.step_done = [](void* user, size_t step) {
    static_cast<std::vector<size_t>*>(user)->push_back(step);
  };
  options.step_done_user = &heard;
  const format::AlignedBytes file = file_of(c.model->graph());
  mpq_model* model = nullptr;
  mpq_session *session = nullptr, *clone = nullptr;
  REQUIRE(mpq_model_open_memory(file.bytes().data(), file.bytes().size(), nullptr, &model) ==
          MPQ_OK);
  REQUIRE(mpq_session_create(model, &options, &session) == MPQ_OK);
  REQUIRE(mpq_session_clone(session, &clone) == MPQ_OK);
  REQUIRE(mpq_session_run(session) == MPQ_OK);
  std::vector<size_t> want(mpq_session_step_count(session));
  std::iota(want.begin(), want.end(), size_t{0});
  CHECK(heard == want);
  REQUIRE(mpq_session_run(clone) == MPQ_OK);  // has none
  CHECK(heard == want);
  mpq_session_destroy(clone);
  mpq_session_destroy(session);
  mpq_model_close(model);
}

}  // namespace mpq::test
