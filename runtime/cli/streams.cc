#include "runtime/cli/streams.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "runtime/cli/terminal.h"
#include "runtime/cli/texts.h"

namespace mpq::cli {

namespace {

Checked once(Session* session, const Request& request, std::vector<std::vector<std::byte>>* outputs,
             StreamTimes* times) {
  const Clock::time_point start = Clock::now();
  for (size_t i = 0; i < request.inputs.size(); ++i)
    MPQ_CHECK(session->set_input(i, request.inputs[i].data(), request.inputs[i].size()));
  if (!request.sequences.empty())
    MPQ_CHECK(fill_sequences(session, request.sequences, 0, request.sequences.size()));
  const Clock::time_point ready = Clock::now();
  MPQ_CHECK(session->run());
  times->compute.push_back(seconds_since(ready));
  for (size_t o = 0; o < outputs->size(); ++o) {
    std::vector<std::byte>& output = (*outputs)[o];
    output.resize(session->outputs()[o].bytes);
    MPQ_CHECK(check(mpq_session_get_output(session->get(), o, output.data(), output.size()),
                    session->where()));
  }
  times->with_copies.push_back(seconds_since(start));
  for (const Sample& sample : request.sequences) times->tokens += sample.tokens.size();
  return Ok{};
}

Checked run_stream(Session* session, std::span<const Request> requests, size_t turn,
                   const RunLimits& limits, StreamTimes* times) {
  std::vector<std::vector<std::byte>> outputs(session->outputs().size());
  const Clock::time_point start = Clock::now();
  const auto more = [&] {
    const size_t done = times->compute.size();
    if (limits.runs != 0) return done < limits.runs;
    return done < limits.least || seconds_since(start) < limits.seconds;
  };
  while (!interrupted() && more())
    MPQ_CHECK(once(session, requests[turn++ % requests.size()], &outputs, times));
  return Ok{};
}

}  // namespace

std::vector<Request> make_requests(const std::vector<Sample>& samples, uint32_t batch) {
  const size_t count =
      std::max<size_t>(samples.size() / batch, std::min<size_t>(samples.size(), 2));
  std::vector<Request> requests(count);
  for (size_t r = 0; r < count; ++r)
    for (size_t p = 0; p < batch; ++p) {
      const Sample& sample = samples[(r * batch + p) % samples.size()];
      if (!sample.tokens.empty()) requests[r].sequences.push_back(sample);
      requests[r].inputs.resize(sample.inputs.size());
      for (size_t i = 0; i < sample.inputs.size(); ++i)
        requests[r].inputs[i].insert(requests[r].inputs[i].end(), sample.inputs[i].begin(),
                                     sample.inputs[i].end());
    }
  return requests;
}

Result<Streams> Streams::create(const Model& model, const SessionSpec& spec, uint32_t count,
                                const Args& args) {
  SessionSpec each = spec;
  if (each.threads == 0 && count > 1) each.threads = std::max(mpq_default_threads() / count, 1U);
  Streams streams;
  const Clock::time_point start = Clock::now();
  MPQ_TRY(Session first, Session::create(model, each, args));
  streams.sessions_.push_back(std::move(first));
  while (streams.sessions_.size() < count) {
    MPQ_TRY(Session next, streams.session().clone());
    streams.sessions_.push_back(std::move(next));
  }
  streams.create_seconds_ = seconds_since(start);
  return streams;
}

uint64_t Streams::own_bytes() const {
  uint64_t bytes = 0;
  for (const Session& session : sessions_) {
    const mpq_memory_info memory = session.memory();
    bytes += memory.activations + memory.scratch;
  }
  return bytes;
}

uint64_t Streams::shared_bytes() const { return session().memory().weights; }

Result<StreamTimes> Streams::run(std::span<const Request> requests, const RunLimits& limits) {
  const size_t count = sessions_.size();
  std::vector<StreamTimes> times(count);
  std::vector<std::optional<Error>> errors(count);
  const auto stream = [&](size_t i) {
    if (const Checked ran = run_stream(&sessions_[i], requests, i, limits, &times[i]); !ran.ok())
      errors[i] = ran.error();
  };
  const Clock::time_point start = Clock::now();
  std::vector<std::thread> threads;
  for (size_t i = 1; i < count; ++i) threads.emplace_back(stream, i);
  stream(0);
  for (std::thread& thread : threads) thread.join();
  StreamTimes all;
  all.wall = seconds_since(start);
  for (size_t i = 0; i < count; ++i) {
    if (errors[i]) return *errors[i];
    const StreamTimes& one = times[i];
    all.compute.insert(all.compute.end(), one.compute.begin(), one.compute.end());
    all.with_copies.insert(all.with_copies.end(), one.with_copies.begin(), one.with_copies.end());
    all.tokens += one.tokens;
  }
  return all;
}

}  // namespace mpq::cli
