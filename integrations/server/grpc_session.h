// A connection of gRPC over HTTP/2: bytes in, bytes out, without sockets. Framing of HTTP/2 by
// nghttp2; calls and messages as gRPC's document "gRPC over HTTP2" has them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>

#include "integrations/server/grpc_methods.h"

struct nghttp2_session;

namespace mpq::serve {

/// One thread at a time. Times are those of the last tick().
class GrpcSession : public std::enable_shared_from_this<GrpcSession> {
 public:
  /// Runs a function later where this session is used, and sends what there is then. Any thread.
  using Post = std::function<void(std::function<void()>)>;
  /// buffered: bytes of messages that are being received, of all sessions.
  GrpcSession(Api* api, Post post, std::shared_ptr<std::atomic<size_t>> buffered);
  /// Requests that wait are cancelled.
  ~GrpcSession();

  /// False: not HTTP/2, or more than is allowed; what output() has is still to be sent.
  bool receive(std::span<const std::byte> bytes);
  /// The next bytes to send, valid until the next call; "": none now.
  std::string_view output();
  /// No new calls, those that are open go on; streams end behind the answers that are under way.
  void drain();
  /// Ends what takes too long. To be called about once a second.
  void tick(Clock::time_point now);
  /// Nothing more will be read or written.
  bool finished() const;

 private:
  struct Stream;
  struct Callbacks;

  void on_head(Stream* stream);
  void on_data(Stream* stream, std::string_view data);
  void on_end(Stream* stream);
  void take_message(Stream* stream);
  void serve_waiting(Stream* stream);
  void serve(Stream* stream, std::string message);
  void release(Stream* stream, size_t bytes);
  void answered(int32_t id, size_t number, GrpcStatus status, std::string message);
  void flush(Stream* stream);
  void start_answer(Stream* stream);
  void end(Stream* stream, GrpcStatus status);
  void refuse(Stream* stream, const char* http_status);
  void give_window(Stream* stream);
  void end_what_is_late(Stream* stream);
  void charge();
  Stream* find(int32_t id);

  Api* api_;
  Post post_;
  std::shared_ptr<std::atomic<size_t>> buffered_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, std::unique_ptr<Stream>> streams_;
  Clock::time_point now_, last_call_;
  bool greeted_ = false, draining_ = false;
  double allowance_;  // of frames that ask for work and bring none
};

}  // namespace mpq::serve
