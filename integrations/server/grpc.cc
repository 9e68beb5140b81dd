#include "integrations/server/grpc.h"

#include <google/protobuf/stubs/logging.h>

#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include "integrations/server/grpc_session.h"

namespace mpq::serve {

namespace {

namespace net = boost::asio;
using boost::system::error_code;
using tcp = net::ip::tcp;
using std::chrono::seconds;

constexpr size_t kReadChunk = 32 * 1024, kWriteChunk = 64 * 1024, kMaxRest = 256 * 1024;
constexpr seconds kTick{1}, kHandshakeTime{10}, kWriteTime{30}, kLinger{2};

// What connections of one listener share.
struct Owner {
  std::shared_ptr<Listener> listener;
  Api* api;
  std::shared_ptr<std::atomic<size_t>> buffered;
};

template <typename Stream>
class Connection : public AnyConnection, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <typename... Args>
  explicit Connection(Owner owner, Args&&... args)
      : owner_(std::move(owner)),
        stream_(std::forward<Args>(args)...),
        timer_(stream_.get_executor()) {}
  ~Connection() override { owner_.listener->remove(this); }

  void start() {
    owner_.listener->add(this->shared_from_this());
    net::dispatch(stream_.get_executor(), [self = this->shared_from_this()] { self->begin(); });
  }
  void stop() override {
    net::post(stream_.get_executor(), [self = this->shared_from_this()] {
      if (self->session_ == nullptr) return self->close();
      self->session_->drain();
      self->write();
    });
  }

 private:
  static constexpr bool kPlain = std::is_same_v<Stream, tcp::socket>;
  auto& socket() { return stream_.lowest_layer(); }

  void begin() {
    error_code ignored;
    socket().set_option(tcp::no_delay(true), ignored);
    limit_ = Clock::now() + kHandshakeTime;
    wait();
    if constexpr (kPlain) {
      open();
    } else {
      stream_.async_handshake(net::ssl::stream_base::server,
                              [self = this->shared_from_this()](error_code error) {
                                if (error || !self->speaks_h2()) return self->close();
                                self->open();
                              });
    }
  }

  bool speaks_h2() {
    if constexpr (!kPlain) {
      const unsigned char* name = nullptr;
      unsigned size = 0;
      SSL_get0_alpn_selected(stream_.native_handle(), &name, &size);
      return size != 0;  // h2 is all that can be chosen
    }
    return true;
  }

  void open() {
    const std::weak_ptr<Connection> weak = this->weak_from_this();
    auto post = [weak, executor = stream_.get_executor()](std::function<void()> call) {
      net::post(executor, [weak, call = std::move(call)] {
        const auto self = weak.lock();
        if (self == nullptr || self->closed_) return;
        call();
        self->write();
      });
    };
    session_ = std::make_shared<GrpcSession>(owner_.api, std::move(post), owner_.buffered);
    if (owner_.listener->stopping()) session_->drain();
    limit_ = Clock::time_point::max();
    write();
    read();
  }

  void read() {
    stream_.async_read_some(net::buffer(in_),
                            [self = this->shared_from_this()](error_code error, size_t bytes) {
                              if (error) return self->close();
                              if (!self->ending_ && !self->broken_) {
                                const std::span<const char> got(self->in_.data(), bytes);
                                if (!self->session_->receive(std::as_bytes(got)))
                                  self->broken_ = true;
                                self->write();
                              }
                              // At the end: until the client closes, too, but not for ever.
                              if (self->ending_ && (self->rest_ += bytes) > kMaxRest)
                                return self->close();
                              self->read();
                            });
  }

  void write() {
    if (writing_ || ending_ || closed_) return;
    out_.clear();
    while (out_.size() < kWriteChunk) {
      const std::string_view part = session_->output();
      if (part.empty()) break;
      out_ += part;
    }
    if (out_.empty()) {
      if (broken_ || session_->finished()) finish();
      return;
    }
    writing_ = true;
    limit_ = Clock::now() + kWriteTime;
    net::async_write(stream_, net::buffer(out_),
                     [self = this->shared_from_this()](error_code error, size_t) {
                       self->writing_ = false;
                       self->limit_ = Clock::time_point::max();
                       if (error) return self->close();
                       self->write();
                     });
  }

  // Says that nothing more comes, and reads a little of what the client still sends: closing at
  // once could take the last answers away from it.
  void finish() {
    ending_ = true;
    error_code ignored;
    socket().shutdown(tcp::socket::shutdown_send, ignored);
    limit_ = Clock::now() + kLinger;
  }

  void wait() {
    timer_.expires_after(kTick);
    timer_.async_wait([self = this->shared_from_this()](error_code error) {
      if (error || self->closed_) return;
      const Clock::time_point now = Clock::now();
      if (now > self->limit_) return self->close();
      if (self->session_ != nullptr && !self->ending_) {
        self->session_->tick(now);
        self->write();
      }
      self->wait();
    });
  }

  void close() {
    if (std::exchange(closed_, true)) return;
    timer_.cancel();
    error_code ignored;
    socket().shutdown(tcp::socket::shutdown_both, ignored);
    socket().close(ignored);
  }

  Owner owner_;
  Stream stream_;
  net::steady_timer timer_;
  std::shared_ptr<GrpcSession> session_;
  std::array<char, kReadChunk> in_{};
  std::string out_;
  Clock::time_point limit_;  // closed behind it
  size_t rest_ = 0;          // bytes that came after the end
  bool writing_ = false, broken_ = false, ending_ = false, closed_ = false;
};

using PlainConnection = Connection<tcp::socket>;
using TlsConnection = Connection<net::ssl::stream<tcp::socket>>;

}  // namespace

bool has_grpc() { return true; }

std::shared_ptr<Listener> grpc_listener(net::io_context* io, Api* api, ListenerOptions listener) {
  google::protobuf::SetLogHandler(nullptr);  // what clients get wrong is for them, not for the log
  const auto buffered = std::make_shared<std::atomic<size_t>>(0);
  return std::make_shared<Listener>(
      io, std::move(listener),
      [api, buffered](const std::shared_ptr<Listener>& from, tcp::socket socket) {
        const Owner owner{from, api, buffered};
        start_connection<PlainConnection, TlsConnection>(*from, owner, std::move(socket));
      });
}

}  // namespace mpq::serve
