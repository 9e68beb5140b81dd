#include "integrations/server/grpc_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <deque>
#include <stdexcept>

namespace mpq::serve {

namespace {

using std::chrono::seconds;

constexpr size_t kPrefix = 5;  // of a message: compressed or not, and its length
constexpr size_t kMaxHeadBytes = 8 * 1024, kFieldOverhead = 32;  // as RFC 9113, 6.5.2 counts
constexpr size_t kMaxSmallMessage = size_t{1} << 20, kReserve = size_t{1} << 20;
constexpr size_t kMaxBuffered = size_t{1} << 30;
constexpr uint32_t kMaxStreams = 128, kStreamWindow = 1 << 20;
constexpr int32_t kConnectionWindow = 16 << 20;
constexpr size_t kMaxInFlight = 32;  // messages of a stream that are served at the same time
// Resets, pings, settings and empty frames: so many at once, so many a second.
constexpr double kAllowance = 1000, kAllowancePerSecond = 100;
constexpr seconds kHeadTime{10}, kMessageTime{30}, kWriteTime{30}, kIdleTime{60}, kSilence{600};

constexpr std::string_view kContentType = "application/grpc";

// Text of grpc-message: printable ASCII, the rest as %XX.
std::string percent_encoded(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && c != '%') {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kHex[byte >> 4];
      encoded += kHex[byte & 15];
    }
  }
  return encoded;
}

// grpc-timeout: at most eight digits and a unit.
bool parse_timeout(std::string_view text, std::chrono::nanoseconds* time) {
  struct Unit {
    char letter;
    int64_t ns;
  };
  constexpr Unit kUnits[] = {{'H', 3600000000000}, {'M', 60000000000}, {'S', 1000000000},
                             {'m', 1000000},       {'u', 1000},        {'n', 1}};
  constexpr size_t kMaxDigits = 8;
  if (text.size() < 2 || text.size() > kMaxDigits + 1 || text[0] == '-') return false;
  int64_t value = 0;
  const char* const last = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || stop != last) return false;
  for (const Unit& unit : kUnits)
    if (unit.letter == *last) {
      constexpr int64_t kYear = int64_t{365} * 24 * 3600 * 1000000000;
      *time = std::chrono::nanoseconds(value > kYear / unit.ns ? kYear : value * unit.ns);
      return true;
    }
  return false;
}

nghttp2_nv field(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));  // it is copied, not written
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// The answer to one message, in its place in the order of messages.
struct Slot {
  bool is_ready = false;
  GrpcStatus status;
  std::string message;
};

}  // namespace

// A call.
struct GrpcSession::Stream {
  int32_t id;
  // Its head.
  std::string method, path, content_type, encoding, timeout, trace;
  std::optional<std::string> authorization;
  size_t head_bytes = 0;
  const GrpcMethod* how = nullptr;  // once the head is there
  Clock::time_point deadline = Clock::time_point::max();
  Clock::time_point moved;  // when something came or went
  std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
  // The message that is being received.
  unsigned char prefix[kPrefix] = {};
  size_t prefix_bytes = 0, length = 0;
  std::string message;
  size_t messages = 0;              // that are whole
  std::deque<std::string> waiting;  // messages, until others are answered
  size_t buffered = 0;              // bytes of `message` and `waiting`
  size_t held = 0;                  // bytes that the client may not send again yet
  bool half_closed = false;         // the client sends nothing more
  // Answers.
  std::deque<Slot> answers;
  size_t first_answer = 0;  // the number of answers[0]
  std::deque<std::string> out;
  size_t out_sent = 0;  // of out[0]
  bool head_sent = false, ended = false;
  GrpcStatus status;  // when ended
};

// What nghttp2 calls. Nothing may be thrown through it.
struct GrpcSession::Callbacks {
  template <typename F>
  static int guarded(void* user, const F& call) {
    try {
      call(static_cast<GrpcSession*>(user));
      return 0;
    } catch (const std::bad_alloc&) {
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return guarded(user, [frame](GrpcSession* self) {
      if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return;
      auto stream = std::make_unique<Stream>();
      stream->id = frame->hd.stream_id;
      stream->moved = self->now_;
      self->streams_[stream->id] = std::move(stream);
    });
  }

  static int header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                    size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                    void* user) {
    return guarded(user, [=](GrpcSession* self) {
      Stream* const stream = self->find(frame->hd.stream_id);
      if (stream == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return;
      stream->head_bytes += name_size + value_size + kFieldOverhead;
      if (stream->head_bytes > kMaxHeadBytes) return;
      const std::string_view key(reinterpret_cast<const char*>(name), name_size);
      std::string text(reinterpret_cast<const char*>(value), value_size);
      if (key == "authorization") stream->authorization = std::move(text);
      struct Known {
        std::string_view name;
        std::string Stream::*text;
      };
      static constexpr Known kKnown[] = {{":method", &Stream::method},
                                         {":path", &Stream::path},
                                         {"content-type", &Stream::content_type},
                                         {"grpc-encoding", &Stream::encoding},
                                         {"grpc-timeout", &Stream::timeout},
                                         {"traceparent", &Stream::trace}};
      for (const Known& known : kKnown)
        if (key == known.name) stream->*known.text = std::move(text);
    });
  }

  static int frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return guarded(user, [frame](GrpcSession* self) {
      const bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
      switch (frame->hd.type) {
        case NGHTTP2_HEADERS:
          if (Stream* const stream = self->find(frame->hd.stream_id);
              stream != nullptr && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            self->on_head(stream);
          break;
        case NGHTTP2_DATA:
          if (frame->hd.length == 0 && !is_end) self->charge();
          break;
        case NGHTTP2_SETTINGS:
          self->greeted_ = true;
          self->charge();
          break;
        case NGHTTP2_PING:
        case NGHTTP2_RST_STREAM:
        case NGHTTP2_PRIORITY:
          self->charge();
          break;
        default:
          break;
      }
      const bool has_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
      if (has_end && is_end)
        if (Stream* const stream = self->find(frame->hd.stream_id)) self->on_end(stream);
    });
  }

  static int data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size,
                  void* user) {
    // The window of the connection is everybody's, that of a stream is held back by itself.
    nghttp2_session_consume_connection(session, size);
    return guarded(user, [=](GrpcSession* self) {
      if (Stream* const stream = self->find(id))
        self->on_data(stream, {reinterpret_cast<const char*>(bytes), size});
    });
  }

  static int sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    return guarded(user, [=](GrpcSession* self) {
      Stream* const stream = self->find(frame->hd.stream_id);
      if (stream == nullptr) return;
      stream->moved = self->now_;
      const bool has_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
      // An answer before the end of the request: the client need not go on (RFC 9113, 8.1).
      if (has_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && !stream->half_closed)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
    });
  }

  static int closed(nghttp2_session*, int32_t id, uint32_t, void* user) {
    return guarded(user, [id](GrpcSession* self) {
      const auto found = self->streams_.find(id);
      if (found == self->streams_.end()) return;
      found->second->cancelled->store(true);
      self->release(found->second.get(), found->second->buffered);
      self->streams_.erase(found);
      self->last_call_ = self->now_;
    });
  }

  static ssize_t read(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t size,
                      uint32_t* flags, nghttp2_data_source* source, void*) {
    auto* const stream = static_cast<Stream*>(source->ptr);
    size_t count = 0;
    while (!stream->out.empty() && count < size) {
      const std::string& first = stream->out.front();
      const size_t part = std::min(size - count, first.size() - stream->out_sent);
      std::memcpy(buffer + count, first.data() + stream->out_sent, part);
      count += part;
      stream->out_sent += part;
      if (stream->out_sent < first.size()) break;
      stream->out.pop_front();
      stream->out_sent = 0;
    }
    if (stream->out.empty()) {
      if (stream->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const std::string code = std::to_string(static_cast<unsigned>(stream->status.code));
        const std::string message = percent_encoded(stream->status.message);
        const nghttp2_nv trailer[] = {field("grpc-status", code), field("grpc-message", message)};
        if (nghttp2_submit_trailer(session, id, trailer, message.empty() ? 1 : 2) != 0)
          return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
      } else if (count == 0) {
        return NGHTTP2_ERR_DEFERRED;
      }
    }
    return static_cast<ssize_t>(count);
  }
};

GrpcSession::GrpcSession(Api* api, Post post, std::shared_ptr<std::atomic<size_t>> buffered)
    : api_(api),
      post_(std::move(post)),
      buffered_(std::move(buffered)),
      now_(Clock::now()),
      last_call_(now_),
      allowance_(kAllowance) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0) {
    nghttp2_session_callbacks_del(callbacks);
    throw std::bad_alloc();
  }
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::data);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::closed);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  const int failed = nghttp2_session_server_new2(&session_, callbacks, this, option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(option);
  if (failed != 0) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kMaxStreams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, kMaxHeadBytes}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

GrpcSession::~GrpcSession() {
  for (const auto& [_, stream] : streams_) {
    stream->cancelled->store(true);
    *buffered_ -= stream->buffered;
  }
  nghttp2_session_del(session_);
}

bool GrpcSession::receive(std::span<const std::byte> bytes) {
  const auto* const first = reinterpret_cast<const uint8_t*>(bytes.data());
  return nghttp2_session_mem_recv(session_, first, bytes.size()) >= 0;
}

std::string_view GrpcSession::output() {
  const uint8_t* bytes = nullptr;
  const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
  if (size <= 0) return {};
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)};
}

bool GrpcSession::finished() const {
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

GrpcSession::Stream* GrpcSession::find(int32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second.get();
}

// ---- What comes ----

void GrpcSession::charge() {
  allowance_ -= 1;
  if (allowance_ < 0) nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
}

void GrpcSession::on_head(Stream* stream) {
  stream->moved = now_;
  if (stream->head_bytes > kMaxHeadBytes)
    return end(stream, {GrpcCode::kResourceExhausted,
                        "the head is longer than " + std::to_string(kMaxHeadBytes) + " bytes"});
  if (stream->method != "POST") return refuse(stream, "405");
  if (!stream->content_type.starts_with(kContentType)) return refuse(stream, "415");
  stream->how = find_grpc_method(stream->path);
  if (stream->how == nullptr) return end(stream, {GrpcCode::kUnimplemented, "no such method"});
  if (!stream->encoding.empty() && stream->encoding != "identity")
    return end(stream, {GrpcCode::kUnimplemented, "messages are not decompressed here"});
  if (stream->how->infers && !api_->authorized(stream->authorization))
    return end(stream, {GrpcCode::kUnauthenticated, "a bearer token is needed"});
  std::chrono::nanoseconds time{};
  if (!stream->timeout.empty()) {
    if (!parse_timeout(stream->timeout, &time))
      return end(stream, {GrpcCode::kInvalidArgument, "grpc-timeout: not digits and a unit"});
    stream->deadline = Clock::now() + time;
  }
}

void GrpcSession::on_data(Stream* stream, std::string_view data) {
  stream->moved = now_;
  stream->held += data.size();
  while (!data.empty() && !stream->ended) {
    if (stream->prefix_bytes < kPrefix) {
      stream->prefix[stream->prefix_bytes++] = static_cast<unsigned char>(data.front());
      data.remove_prefix(1);
      if (stream->prefix_bytes < kPrefix) continue;
      const unsigned char* const p = stream->prefix;
      stream->length = size_t{p[1]} << 24 | size_t{p[2]} << 16 | size_t{p[3]} << 8 | p[4];
      const size_t most = stream->how->infers
                              ? std::max<size_t>(api_->largest_body(), kMaxSmallMessage)
                              : kMaxSmallMessage;
      if (p[0] != 0)
        return end(stream, {GrpcCode::kInternal, "a compressed message without grpc-encoding"});
      if (stream->messages != 0 && !stream->how->streams)
        return end(stream, {GrpcCode::kUnimplemented, "more than one message in a call"});
      if (stream->length > most)
        return end(stream, {GrpcCode::kResourceExhausted,
                            "the message has " + std::to_string(stream->length) +
                                " bytes, at most " + std::to_string(most) + " are taken here"});
      stream->message.reserve(std::min(stream->length, kReserve));
    }
    const std::string_view part = data.substr(0, stream->length - stream->message.size());
    stream->buffered += part.size();
    if ((*buffered_ += part.size()) > kMaxBuffered)
      return end(stream, {GrpcCode::kResourceExhausted, "too much is being received"});
    stream->message += part;
    data.remove_prefix(part.size());
    if (stream->message.size() == stream->length) {
      stream->messages += 1;
      stream->prefix_bytes = 0;
      if (stream->how->streams) take_message(stream);
    }
  }
  give_window(stream);
}

void GrpcSession::on_end(Stream* stream) {
  stream->half_closed = true;
  if (stream->ended) return;
  if (stream->prefix_bytes != 0) return end(stream, {GrpcCode::kInternal, "a message is cut off"});
  if (stream->how->streams) return flush(stream);
  if (stream->messages == 0)
    return end(stream, {GrpcCode::kUnimplemented, "no message in the call"});
  take_message(stream);
}

void GrpcSession::release(Stream* stream, size_t bytes) {
  stream->buffered -= bytes;
  *buffered_ -= bytes;
}

void GrpcSession::take_message(Stream* stream) {
  stream->waiting.push_back(std::exchange(stream->message, {}));
  serve_waiting(stream);
}

void GrpcSession::serve_waiting(Stream* stream) {
  while (!stream->waiting.empty() && stream->answers.size() < kMaxInFlight) {
    std::string message = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    release(stream, message.size());
    serve(stream, std::move(message));
  }
  give_window(stream);
}

void GrpcSession::serve(Stream* stream, std::string message) {
  const size_t number = stream->first_answer + stream->answers.size();
  stream->answers.emplace_back();
  GrpcCall call{std::move(message), stream->authorization, stream->trace, stream->cancelled,
                stream->deadline};
  const std::weak_ptr<GrpcSession> weak = weak_from_this();
  stream->how->serve(
      api_, std::move(call),
      [weak, post = post_, id = stream->id, number](GrpcStatus status, std::string answer) {
        post([weak, id, number, status = std::move(status), answer = std::move(answer)]() mutable {
          if (const auto self = weak.lock())
            self->answered(id, number, std::move(status), std::move(answer));
        });
      });
}

// A client that sends faster than it is answered waits.
void GrpcSession::give_window(Stream* stream) {
  if (!stream->waiting.empty()) return;
  nghttp2_session_consume_stream(session_, stream->id, std::exchange(stream->held, 0));
}

// ---- What goes ----

void GrpcSession::answered(int32_t id, size_t number, GrpcStatus status, std::string message) {
  Stream* const stream = find(id);
  if (stream == nullptr || stream->ended) return;  // reset, or too late
  Slot& answer = stream->answers[number - stream->first_answer];
  answer.is_ready = true;
  answer.status = std::move(status);
  answer.message = std::move(message);
  flush(stream);
}

// Answers go in the order of their messages.
void GrpcSession::flush(Stream* stream) {
  while (!stream->ended && !stream->answers.empty() && stream->answers.front().is_ready) {
    Slot answer = std::move(stream->answers.front());
    stream->answers.pop_front();
    stream->first_answer += 1;
    if (answer.status.code == GrpcCode::kOk && Clock::now() > stream->deadline)
      answer.status = {GrpcCode::kDeadlineExceeded, "the answer is later than the deadline"};
    if (answer.status.code != GrpcCode::kOk) return end(stream, std::move(answer.status));
    const size_t size = answer.message.size();
    std::string& prefix = stream->out.emplace_back();
    for (const size_t byte : {size_t{0}, size >> 24, size >> 16, size >> 8, size})
      prefix += static_cast<char>(byte & 0xff);
    stream->out.push_back(std::move(answer.message));
    if (!stream->how->streams) return end(stream, {});
  }
  if (stream->ended) return;
  serve_waiting(stream);
  if (stream->answers.empty() && stream->half_closed) return end(stream, {});
  if (stream->answers.empty() && draining_)
    return end(stream, {GrpcCode::kUnavailable, "the server is stopping"});
  if (!stream->out.empty()) start_answer(stream);
}

void GrpcSession::start_answer(Stream* stream) {
  if (stream->head_sent) {
    nghttp2_session_resume_data(session_, stream->id);
    return;
  }
  stream->head_sent = true;
  const nghttp2_nv head[] = {field(":status", "200"), field("content-type", kContentType)};
  const nghttp2_data_provider provider{{.ptr = stream}, Callbacks::read};
  nghttp2_submit_response(session_, stream->id, head, std::size(head), &provider);
}

void GrpcSession::end(Stream* stream, GrpcStatus status) {
  if (stream->ended) return;
  stream->ended = true;
  stream->status = std::move(status);
  if (stream->status.code != GrpcCode::kOk) stream->cancelled->store(true);
  release(stream, stream->buffered);
  stream->message = {};
  stream->waiting.clear();
  give_window(stream);
  if (stream->head_sent || !stream->out.empty()) return start_answer(stream);
  // Nothing but a status: one block of header fields.
  const std::string code = std::to_string(static_cast<unsigned>(stream->status.code));
  const std::string message = percent_encoded(stream->status.message);
  const nghttp2_nv fields[] = {
      field(":status", "200"), field("content-type", kContentType), field("grpc-status", code),
      field("grpc-accept-encoding", "identity"), field("grpc-message", message)};
  nghttp2_submit_response(session_, stream->id, fields,
                          std::size(fields) - (message.empty() ? 1 : 0), nullptr);
}

// Not gRPC: an answer of HTTP.
void GrpcSession::refuse(Stream* stream, const char* http_status) {
  stream->ended = true;
  const nghttp2_nv head[] = {field(":status", http_status)};
  nghttp2_submit_response(session_, stream->id, head, 1, nullptr);
}

// ---- Time ----

void GrpcSession::drain() {
  if (std::exchange(draining_, true)) return;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  for (const auto& [_, stream] : streams_)
    if (stream->how != nullptr && stream->how->streams) flush(stream.get());
}

void GrpcSession::tick(Clock::time_point now) {
  const double passed = std::chrono::duration<double>(now - now_).count();
  allowance_ = std::min(kAllowance, allowance_ + passed * kAllowancePerSecond);
  now_ = now;
  if (!streams_.empty()) last_call_ = now;
  if (now - last_call_ > (greeted_ ? kIdleTime : kHeadTime)) drain();
  for (const auto& [_, stream] : streams_) end_what_is_late(stream.get());
}

void GrpcSession::end_what_is_late(Stream* stream) {
  const auto still = now_ - stream->moved;
  const auto late = [](const char* what) { return GrpcStatus{GrpcCode::kDeadlineExceeded, what}; };
  if (stream->ended || !stream->out.empty()) {
    if (still > kWriteTime)
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
  } else if (stream->how == nullptr) {  // a head in parts keeps the whole connection
    if (still > kHeadTime) nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
  } else if (now_ > stream->deadline) {
    end(stream, late("the deadline is over"));
  } else if (stream->answers.empty() && !stream->half_closed) {
    const bool is_between = stream->how->streams && stream->prefix_bytes == 0;
    if (still > (is_between ? kSilence : kMessageTime))
      end(stream, late("the next message did not come"));
  }
}

}  // namespace mpq::serve
