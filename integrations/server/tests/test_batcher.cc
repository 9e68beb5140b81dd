// The queue without what carries requests: what runs with what, who waits for whom, who is refused.
// MPQ_TINY names the model.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "integrations/server/batcher.h"
#include "integrations/server/infer.h"

namespace {

using namespace mpq::serve;
using Names = std::vector<std::string>;

// The first request, held in its `done`, holds the only instance: what comes then waits together.
const std::string kHeld = "held";

class Queue {
 public:
  /// config: the value of dynamic_batching.
  explicit Queue(const std::string& batching, uint32_t instances = 1) {
    ModelConfig config;
    const std::string text = R"({"max_batch_size": 8, "parameters": {"isa": "scalar", "threads": 1},
        "instance_group": [{"count": )" +
                             std::to_string(instances) + R"(}], "dynamic_batching": )" + batching +
                             "}";
    const auto wrong = parse_config(text, &config);
    REQUIRE_MESSAGE(!wrong, *wrong);
    std::ifstream stream(std::getenv("MPQ_TINY"), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
    FileBytes file;
    file.resize(bytes.size());
    std::memcpy(file.bytes().data(), bytes.data(), bytes.size());
    std::string why;
    facts = load_facts("tiny", "1", config, std::move(file), &why);
    REQUIRE_MESSAGE(facts != nullptr, why);
    batcher = Batcher::create(facts, &why);
    REQUIRE_MESSAGE(batcher != nullptr, why);
  }
  ~Queue() {
    let_go();
    batcher->close();
  }

  /// False: refused at once.
  bool ask(const std::string& name, uint32_t samples = 1, uint32_t priority = 1,
           Clock::time_point deadline = Clock::time_point::max()) {
    auto job = std::make_unique<Job>();
    job->samples = samples;
    job->owned.emplace_back(samples * facts->inputs[0].sample_bytes);
    job->inputs.emplace_back(job->owned[0]);
    job->priority = priority;
    job->arrived = Clock::now();
    job->deadline = deadline;
    job->cancelled = std::make_shared<std::atomic<bool>>(false);
    auto refused = std::make_shared<std::atomic<bool>>(false);
    job->done = [this, name, refused](JobPtr, MaybeFailure failure) {
      std::unique_lock lock(mutex_);
      *refused = failure && failure->status == 503;
      ended_.push_back(name + (failure ? " " + std::to_string(failure->status) : ""));
      samples_.push_back(batcher->metrics().samples.load());
      changed_.notify_all();
      if (name == kHeld) changed_.wait(lock, [this] { return gone_; });
    };
    batcher->submit(&job);
    return !*refused;
  }
  void hold(uint32_t samples = 1) {
    ask(kHeld, samples);
    wait_for(1);
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    changed_.notify_all();
  }
  /// What has ended, in this order, once it is so many.
  Names wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_.size() >= count; });
    CHECK_MESSAGE(came, ended_.size() << " of " << count);
    return ended_;
  }
  Names ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }
  /// Samples of all runs up to the one of each that has ended: the same number, the same run.
  std::vector<uint64_t> samples() {
    const std::lock_guard lock(mutex_);
    return samples_;
  }
  void wait_until_computed(uint64_t samples) const {
    while (batcher->metrics().samples.load() < samples)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  std::shared_ptr<const Facts> facts;
  std::unique_ptr<Batcher> batcher;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Names ended_;
  std::vector<uint64_t> samples_;
  bool gone_ = false;
};

void a_while() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }

}  // namespace

TEST_CASE("each level has a limit of its own, and the first one runs first") {
  Queue queue(R"({"priority_levels": 3, "default_queue_policy": {"max_queue_size": 1},
                  "priority_queue_policy": {"2": {"max_queue_size": 2}}})");
  queue.hold();
  CHECK(queue.ask("third", 8, 3));
  CHECK(!queue.ask("too many of 3", 8, 3));
  CHECK(queue.ask("second", 8, 2));
  CHECK(queue.ask("second again", 8, 2));
  CHECK(!queue.ask("too many of 2", 8, 2));
  CHECK(!queue.batcher->refusal());  // there is room at level 1
  CHECK(queue.ask("first", 8, 1));
  CHECK(!queue.ask("too many of 1", 8, 1));
  CHECK(queue.batcher->refusal()->status == 503);
  queue.let_go();
  CHECK(queue.wait_for(8) == Names{kHeld, "too many of 3 503", "too many of 2 503",
                                   "too many of 1 503", "first", "second", "second again",
                                   "third"});
}

TEST_CASE("each level has an action of its own for what is late") {
  Queue queue(R"({"priority_levels": 2,
                  "priority_queue_policy": {"2": {"timeout_action": "DELAY"}}})");
  queue.hold();
  const Clock::time_point past = Clock::now() - std::chrono::seconds(1);
  CHECK(queue.ask("late 1", 8, 1, past));
  CHECK(queue.ask("late 2", 8, 2, past));
  CHECK(queue.ask("in time 2", 8, 2));
  queue.let_go();
  CHECK(queue.wait_for(4) == Names{kHeld, "late 1 504", "in time 2", "late 2"});
}

TEST_CASE("each level has a time-out of its own; requests may ask for less where they may") {
  const Queue queue(R"({"priority_levels": 3, "default_priority_level": 3,
      "default_queue_policy": {"default_timeout_microseconds": 5000},
      "priority_queue_policy": {"1": {"default_timeout_microseconds": 0},
                                "2": {"default_timeout_microseconds": "7000",
                                      "allow_timeout_override": false}}})");
  const auto allowed_us = [&queue](const Json& parameters) {
    Job job;
    Wanted wanted;
    CHECK(!read_head(*queue.facts, {{"parameters", parameters}}, true, &job, &wanted));
    if (job.deadline == Clock::time_point::max()) return int64_t{0};
    return int64_t{
        std::chrono::duration_cast<std::chrono::microseconds>(job.deadline - job.arrived).count()};
  };
  CHECK(allowed_us(Json::object()) == 5000);
  CHECK(allowed_us({{"timeout", 9000U}}) == 5000);
  CHECK(allowed_us({{"timeout", 300U}}) == 300);
  CHECK(allowed_us({{"priority", 1U}}) == 0);
  CHECK(allowed_us({{"priority", 1U}, {"timeout", 9000U}}) == 9000);
  CHECK(allowed_us({{"priority", 2U}}) == 7000);
  CHECK(allowed_us({{"priority", 2U}, {"timeout", 300U}}) == 7000);
}

TEST_CASE("a batch of a preferred size does not wait, another one does") {
  Queue queue(R"({"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 60000000})");
  queue.hold(2);
  for (const char* name : {"a", "b", "c", "d", "e"}) queue.ask(name);
  queue.let_go();
  CHECK(queue.wait_for(5) == Names{kHeld, "a", "b", "c", "d"});
  a_while();
  CHECK(queue.ended().size() == 5);  // one sample is none of the sizes
  queue.ask("f");
  queue.wait_for(7);
  CHECK(queue.samples() == std::vector<uint64_t>{2, 6, 6, 6, 6, 8, 8});
}

TEST_CASE("more than every preferred size does not wait") {
  Queue queue(R"({"preferred_batch_size": [4], "max_queue_delay_microseconds": 60000000})");
  queue.hold(4);
  queue.ask("a", 3);
  queue.ask("b", 3);
  queue.let_go();
  queue.wait_for(3);
  CHECK(queue.samples() == std::vector<uint64_t>{4, 10, 10});
}

TEST_CASE("what has waited for long enough runs, in one batch of whatever size") {
  Queue queue(R"({"preferred_batch_size": [2, 4], "max_queue_delay_microseconds": 100000})");
  queue.hold(4);
  for (const char* name : {"a", "b", "c"}) queue.ask(name);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  queue.let_go();
  queue.wait_for(4);
  CHECK(queue.samples() == std::vector<uint64_t>{4, 7, 7, 7});
}

TEST_CASE("without a delay the largest preferred batch runs, or else all that wait") {
  Queue queue(R"({"preferred_batch_size": [4]})");
  queue.hold();
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) queue.ask(name);
  queue.let_go();
  queue.wait_for(7);
  CHECK(queue.samples() == std::vector<uint64_t>{1, 5, 5, 5, 5, 7, 7});
}

TEST_CASE("answers come in the order of requests if that is to be preserved") {
  for (const bool ordered : {false, true}) {
    CAPTURE(ordered);
    Queue queue(ordered ? R"({"preserve_ordering": true})" : "{}", 2);
    queue.ask(kHeld, 8);
    while (queue.batcher->metrics().pending.load() != 0) std::this_thread::yield();
    queue.ask("other", 1);  // of the other instance
    queue.wait_until_computed(9);
    if (ordered) {
      queue.wait_for(1);
      a_while();
      CHECK(queue.ended() == Names{kHeld});
      queue.ask("another");  // that instance goes on
      queue.wait_until_computed(10);
      queue.let_go();
      CHECK(queue.wait_for(3) == Names{kHeld, "other", "another"});
    } else {
      queue.wait_for(2);
    }
  }
}

TEST_CASE("closing answers everything, in order") {
  Queue queue(R"({"preserve_ordering": true, "max_queue_delay_microseconds": 60000000})", 2);
  Names names;
  for (int i = 0; i < 20; ++i) {
    names.push_back(std::to_string(i));
    queue.ask(names.back(), 3);
  }
  queue.batcher->close();
  CHECK(queue.ended() == names);
}
