// Connections of gRPC without sockets: good ones written by nghttp2's client, then mutations of
// their bytes from a fixed seed. Nothing may crash, no byte may stay counted as being received, and
// good calls between the bad ones must have their answers.
//   grpc_replay MODEL [connections]
// With MPQ_LIBFUZZER: the same on the bytes of a fuzzer, MODEL from the environment (MPQ_TINY).
#include <nghttp2/nghttp2.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "integrations/server/grpc_session.h"
#include "integrations/server/inference.pb.h"
#include "integrations/server/repository.h"

namespace {

using namespace mpq::serve;
using Bytes = std::string;

// What a session asks to be run later, here by whoever waits for it.
class Later {
 public:
  void post(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.notify_one();
  }
  /// Runs what is there, waits up to `patience` for more; false: there was nothing.
  bool run(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, patience, [this] { return !calls_.empty(); })) return false;
    while (!calls_.empty()) {
      const auto call = std::move(calls_.front());
      calls_.pop_front();
      lock.unlock();
      call();
      lock.lock();
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> calls_;
};

struct Server {
  explicit Server(const char* model) : repository(model), api(&repository, {}) {
    repository.scan();
    if (repository.all().empty()) {
      std::fprintf(stderr, "grpc_replay: %s: cannot be served\n", model);
      std::exit(EXIT_FAILURE);
    }
  }
  Repository repository;
  Api api;
  std::shared_ptr<std::atomic<size_t>> buffered = std::make_shared<std::atomic<size_t>>(0);
};

/// Calls `condition` until it holds, for ten seconds at most.
void wait_until(const std::function<bool()>& condition) {
  const auto end = Clock::now() + std::chrono::seconds(10);
  while (!condition() && Clock::now() < end)
    std::this_thread::sleep_for(std::chrono::microseconds(200));
}

/// Everything that comes back for these bytes, sent in pieces of `step`. `all`: answers are waited
/// for until it holds; none: not at all.
Bytes converse(Server* server, std::string_view bytes, size_t step,
               const std::function<bool()>& all) {
  const auto later = std::make_shared<Later>();
  auto session = std::make_shared<GrpcSession>(
      &server->api, [later](std::function<void()> call) { later->post(std::move(call)); },
      server->buffered);
  Bytes answer;
  const auto take = [&] {
    for (std::string_view part; !(part = session->output()).empty();) answer += part;
  };
  bool alive = true;
  for (size_t at = 0; alive && at < bytes.size(); at += step) {
    const std::string_view part = bytes.substr(at, step);
    alive = session->receive(std::as_bytes(std::span(part)));
    later->run(std::chrono::milliseconds(0));
    take();
  }
  if (alive && all) wait_until(all);
  while (later->run(std::chrono::milliseconds(all ? 50 : 0))) take();
  session->tick(Clock::now() + std::chrono::seconds(700));
  take();
  session->drain();
  take();
  session.reset();
  while (later->run(std::chrono::milliseconds(0))) {
  }
  return answer;
}

// ---- Good connections, by nghttp2's client ----

struct Body {
  Bytes bytes;
  size_t at = 0;
};

ssize_t read_body(nghttp2_session*, int32_t, uint8_t* buffer, size_t size, uint32_t* flags,
                  nghttp2_data_source* source, void*) {
  auto* const body = static_cast<Body*>(source->ptr);
  const size_t count = std::min(size, body->bytes.size() - body->at);
  std::memcpy(buffer, body->bytes.data() + body->at, count);
  body->at += count;
  if (body->at == body->bytes.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(count);
}

struct Call {
  const char* method;
  std::vector<Bytes> messages;
};

Bytes connection(const std::vector<Call>& calls) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session* session = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_client_new(&session, callbacks, nullptr);
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
  std::deque<Body> bodies;
  for (const Call& call : calls) {
    const Bytes path = Bytes("/inference.GRPCInferenceService/") + call.method;
    Body& body = bodies.emplace_back();
    for (const Bytes& message : call.messages) {
      for (const size_t byte : {size_t{0}, message.size() >> 24, message.size() >> 16,
                                message.size() >> 8, message.size()})
        body.bytes += static_cast<char>(byte & 0xff);
      body.bytes += message;
    }
    const auto field = [](const char* name, const char* value) {
      return nghttp2_nv{reinterpret_cast<uint8_t*>(const_cast<char*>(name)),
                        reinterpret_cast<uint8_t*>(const_cast<char*>(value)), std::strlen(name),
                        std::strlen(value), NGHTTP2_NV_FLAG_NONE};
    };
    const nghttp2_nv head[] = {
        field(":method", "POST"),     field(":scheme", "http"),
        field(":path", path.c_str()), field(":authority", "x"),
        field("te", "trailers"),      field("content-type", "application/grpc"),
        field("grpc-timeout", "20S")};
    const nghttp2_data_provider provider{{.ptr = &body}, read_body};
    nghttp2_submit_request(session, nullptr, head, std::size(head), &provider, nullptr);
  }
  Bytes bytes;
  const uint8_t* part = nullptr;
  for (ssize_t size = 0; (size = nghttp2_session_mem_send(session, &part)) > 0;)
    bytes.append(reinterpret_cast<const char*>(part), static_cast<size_t>(size));
  nghttp2_session_del(session);
  nghttp2_session_callbacks_del(callbacks);
  return bytes;
}

std::vector<Bytes> good_connections(const Server& server) {
  const auto facts = server.repository.all()[0]->facts;
  inference::ModelInferRequest raw, typed;
  raw.set_model_name(facts->name);
  raw.set_id("id");
  (*raw.mutable_parameters())["priority"].set_int64_param(1);
  raw.add_outputs()->set_name(facts->outputs[0].name);
  for (const TensorFacts& input : facts->inputs) {
    auto* const tensor = raw.add_inputs();
    tensor->set_name(input.name);
    tensor->set_datatype(input.datatype);
    tensor->add_shape(1);
    for (const int64_t dimension : input.shape) tensor->add_shape(dimension);
    raw.add_raw_input_contents()->assign(input.sample_bytes, 'a');
    *typed.add_inputs() = *tensor;
    for (size_t i = 0; i < input.sample_bytes; ++i)
      typed.mutable_inputs()->rbegin()->mutable_contents()->add_uint_contents('a');
  }
  typed.set_model_name(facts->name);
  inference::ModelMetadataRequest model;
  model.set_name(facts->name);
  const Bytes infer = raw.SerializeAsString(), named = model.SerializeAsString();
  return {connection({{"ModelInfer", {infer}}}),
          connection({{"ModelInfer", {typed.SerializeAsString()}}}),
          connection({{"ModelMetadata", {named}}, {"ModelConfig", {named}}, {"ServerLive", {""}}}),
          connection({{"ModelStreamInfer", {infer, infer, infer}}, {"ModelInfer", {infer}}})};
}

uint64_t state = 88172645463325252;
size_t random_below(size_t n) {  // xorshift
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return static_cast<size_t>(state % n);
}

// One to four changes: a byte, four awkward ones, a run that is copied, left out or put in, a cut.
Bytes mutate(Bytes bytes) {
  constexpr uint32_t kAwkward[] = {0,          1,          0x7f,       0xff,
                                   0x7fffffff, 0x80000000, 0xffffffff, 0x04010000};
  for (size_t n = 1 + random_below(4); n != 0 && bytes.size() > 64; --n) {
    // Most of it in the frames' heads, fields and the first part of messages.
    const size_t head = random_below(4) == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 400);
    const size_t at = random_below(8) == 0 ? random_below(24) : 24 + random_below(head - 24);
    const size_t run = std::min(1 + random_below(40), bytes.size() - at);
    switch (random_below(7)) {
      case 0:
      case 1:
        bytes[at] = static_cast<char>(random_below(256));
        break;
      case 2: {
        const uint32_t word = kAwkward[random_below(std::size(kAwkward))];
        std::memcpy(bytes.data() + std::min(at, bytes.size() - 4), &word, 4);
        break;
      }
      case 3:
        bytes.erase(at, run);
        break;
      case 4:
        bytes.insert(24 + random_below(bytes.size() - 24), bytes.substr(at, run));
        break;
      case 5:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random_below(8)));
        break;
      default:
        bytes.resize(std::max<size_t>(at, 1));
        break;
    }
  }
  return bytes;
}

}  // namespace

#ifdef MPQ_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server(std::getenv("MPQ_TINY"));
  // Behind the greeting, which no fuzzer guesses.
  static const Bytes greeting = connection({});
  const Bytes bytes = greeting + Bytes(reinterpret_cast<const char*>(data), size);
  converse(&server, bytes, bytes.size(), {});
  if (*server.buffered != 0) std::abort();
  return 0;
}
#else
int main(int argc, char** argv) {
  if (argc < 2) return EXIT_FAILURE;
  google::protobuf::SetLogHandler(nullptr);
  Server server(argv[1]);
  const size_t connections = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 20000;
  const std::vector<Bytes> good = good_connections(server);
  const Metrics& metrics = server.repository.all()[0]->batcher->metrics();
  const auto right = [&metrics] {
    return metrics.requests[static_cast<size_t>(Ended::kOk)].load();
  };
  constexpr uint64_t kInferences[] = {1, 1, 0, 4};  // of good_connections()
  size_t checked = 0;
  for (size_t i = 0; i < connections; ++i) {
    if (i % 100 == 0) {
      const size_t which = i / 100 % good.size();
      const size_t step = i % 200 == 0 ? 1 : good[which].size();
      wait_until([&] { return metrics.pending.load() == 0; });  // a full queue would refuse it
      const uint64_t wanted = right() + kInferences[which];
      const Bytes answer = converse(&server, good[which], step, [&] { return right() >= wanted; });
      if (right() < wanted || answer.size() < kInferences[which] * 40) {
        std::printf("good connection %zu: an inference is missing, %zu bytes\n", which,
                    answer.size());
        return EXIT_FAILURE;
      }
      ++checked;
    }
    const Bytes bytes = mutate(good[random_below(good.size())]);
    converse(&server, bytes, 1 + random_below(bytes.size()), {});
    if (*server.buffered != 0) {
      std::printf("connection %zu: %zu bytes stay counted\n", i, server.buffered->load());
      return EXIT_FAILURE;
    }
  }
  std::printf("%zu damaged connections, %zu good ones between them\n", connections, checked);
  server.repository.close();
  return EXIT_SUCCESS;
}
#endif
