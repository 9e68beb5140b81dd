#include "integrations/server/http.h"

#include <sys/socket.h>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/version.hpp>

#include "integrations/server/log.h"

namespace mpq::serve {

namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using boost::system::error_code;

constexpr uint32_t kMaxHeaderBytes = 16 * 1024;
constexpr size_t kMaxFields = 100;
constexpr size_t kReadChunk = 16 * 1024;
constexpr std::chrono::seconds kLinger{2};
constexpr const char* kJsonBytes = "Inference-Header-Content-Length";

// What connections of one listener share.
struct Owner {
  std::shared_ptr<Listener> listener;
  Api* api;
  HttpOptions options;
};

template <typename Stream>
class Connection : public AnyConnection, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <typename... Args>
  explicit Connection(Owner owner, Args&&... args)
      : owner_(std::move(owner)), stream_(std::forward<Args>(args)...) {}
  ~Connection() override { owner_.listener->remove(this); }

  void start() {
    owner_.listener->add(this->shared_from_this());
    net::dispatch(stream_.get_executor(), [self = this->shared_from_this()] { self->begin(); });
  }
  void stop() override {
    net::post(stream_.get_executor(), [self = this->shared_from_this()] {
      if (self->idle_) self->close();
    });
  }

 private:
  beast::tcp_stream& lowest() { return beast::get_lowest_layer(stream_); }
  auto step(void (Connection::*next)(error_code, size_t)) {
    return [self = this->shared_from_this(), next](error_code error, size_t bytes) {
      ((*self).*next)(error, bytes);
    };
  }

  void begin() {
    error_code ignored;
    lowest().socket().set_option(tcp::no_delay(true), ignored);
    lowest().expires_after(owner_.options.header_timeout);
    if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
      read_header();
    } else {
      stream_.async_handshake(net::ssl::stream_base::server,
                              [self = this->shared_from_this()](error_code error) {
                                if (!error) self->read_header();
                              });
    }
  }

  // Between requests a client may be silent longer than within one.
  void wait_for_request() {
    if (owner_.listener->stopping()) return close();
    if (buffer_.size() != 0) return read_header();
    idle_ = true;
    lowest().expires_after(owner_.options.idle_timeout);
    stream_.async_read_some(buffer_.prepare(kReadChunk), step(&Connection::on_first_bytes));
  }
  void on_first_bytes(error_code error, size_t bytes) {
    idle_ = false;
    if (error) return close();
    buffer_.commit(bytes);
    read_header();
  }

  void read_header() {
    parser_.emplace();
    parser_->header_limit(kMaxHeaderBytes);
    parser_->body_limit(boost::none);  // decided when the target is known
    lowest().expires_after(owner_.options.header_timeout);
    http::async_read_header(stream_, buffer_, *parser_, step(&Connection::on_header));
  }

  void on_header(error_code error, size_t) {
    if (error == http::error::end_of_stream || error == beast::error::timeout) return close();
    if (error == http::error::header_limit) return refuse(431, "the header is too long");
    if (error && is_protocol(error)) return refuse(400, "not HTTP: " + error.message());
    if (error) return close();
    const auto& head = parser_->get();
    if (static_cast<size_t>(std::distance(head.begin(), head.end())) > kMaxFields)
      return refuse(431, "too many header fields");
    const auto encoding = head[http::field::content_encoding];
    if (!encoding.empty() && encoding != "identity")
      return refuse(415, "bodies are not decompressed here");
    const uint64_t limit =
        owner_.options.metrics_only ? 0 : owner_.api->body_limit(std::string(head.target()));
    const auto length = parser_->content_length();
    if (length && *length > limit)
      return refuse(413, "the body has " + std::to_string(*length) + " bytes, at most " +
                             std::to_string(limit) + " are taken here");
    parser_->body_limit(limit);
    lowest().expires_after(owner_.options.body_timeout);
    if (head[http::field::expect] == "100-continue") {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      net::async_write(stream_, net::buffer(kContinue), step(&Connection::on_continue));
    } else {
      on_continue({}, 0);
    }
  }

  void on_continue(error_code error, size_t) {
    if (error) return close();
    http::async_read(stream_, buffer_, *parser_, step(&Connection::on_request));
  }

  void on_request(error_code error, size_t) {
    if (error == http::error::body_limit) return refuse(413, "the body is too long");
    if (error == beast::error::timeout) return close();
    if (error && is_protocol(error)) return refuse(400, "not HTTP: " + error.message());
    if (error) return close();
    lowest().expires_never();
    auto message = parser_->release();
    keep_alive_ = message.keep_alive();
    version_ = message.version();
    Request request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    request.body = std::move(message.body());
    if (const auto found = message.find(kJsonBytes); found != message.end())
      request.json_bytes = std::string(found->value());
    if (const auto found = message.find(http::field::authorization); found != message.end())
      request.authorization = std::string(found->value());
    if (const auto found = message.find("traceparent"); found != message.end())
      request.trace = std::string(found->value());
    if (owner_.options.metrics_only) return respond(metrics(request));
    request.cancelled = std::make_shared<std::atomic<bool>>(false);
    watch(request.cancelled);
    // The answer may come from another thread.
    owner_.api->handle(std::move(request), [self = this->shared_from_this()](Response response) {
      net::post(self->stream_.get_executor(), [self, response = std::move(response)]() mutable {
        self->respond(std::move(response));
      });
    });
  }

  // Notices when the client goes away while its request waits.
  void watch(const std::shared_ptr<std::atomic<bool>>& cancelled) {
    const uint64_t turn = ++turn_;
    lowest().socket().async_wait(tcp::socket::wait_read, [self = this->shared_from_this(),
                                                          cancelled, turn](error_code error) {
      if (error || self->turn_ != turn || self->responding_) return;
      char byte = 0;
      const ssize_t got =
          recv(self->lowest().socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) cancelled->store(true);
    });
  }

  Response metrics(const Request& request) const {
    Response response;
    response.content_type = "text/plain; version=0.0.4";
    const bool found = request.target == "/metrics" && request.method == "GET";
    response.status = !owner_.api->authorized(request.authorization) ? 401 : found ? 200 : 404;
    if (response.status == 200) response.body = owner_.api->metrics();
    return response;
  }

  void refuse(unsigned status, const std::string& why) {
    keep_alive_ = false;
    version_ = 11;
    Response response;
    response.status = status;
    response.body = Json({{"error", why}}).dump();
    respond(std::move(response));
  }

  void respond(Response response) {
    responding_ = true;
    message_ = {};
    message_.version(version_);
    message_.result(response.status);
    if (response.status == 499) message_.reason("Client Closed Request");
    message_.set(http::field::content_type, response.content_type);
    if (response.json_bytes) message_.set(kJsonBytes, std::to_string(*response.json_bytes));
    if (response.retry_after) message_.set(http::field::retry_after, "1");
    if (response.status == 401) message_.set(http::field::www_authenticate, "Bearer");
    message_.keep_alive(keep_alive_ && !owner_.listener->stopping());
    message_.body() = std::move(response.body);
    message_.prepare_payload();
    lowest().expires_after(owner_.options.write_timeout);
    http::async_write(stream_, message_, step(&Connection::on_written));
  }

  void on_written(error_code error, size_t) {
    responding_ = false;
    if (error) return close();
    if (!message_.keep_alive()) return finish();
    message_ = {};
    wait_for_request();
  }

  // Says that nothing more comes, and reads a little of what the client still sends: closing at
  // once could take the answer away from it (RFC 9112, 9.6).
  void finish() {
    error_code ignored;
    lowest().socket().shutdown(tcp::socket::shutdown_send, ignored);
    lowest().expires_after(kLinger);
    lowest().async_read_some(net::buffer(rest_), step(&Connection::on_rest));
  }
  void on_rest(error_code error, size_t) {
    if (error) return close();
    lowest().async_read_some(net::buffer(rest_), step(&Connection::on_rest));
  }

  void close() {
    error_code ignored;
    lowest().socket().shutdown(tcp::socket::shutdown_both, ignored);
    lowest().close();
  }

  static bool is_protocol(const error_code& error) {
    return error.category() == http::make_error_code(http::error::end_of_stream).category();
  }

  Owner owner_;
  Stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> message_;
  std::array<char, 4096> rest_{};
  uint64_t turn_ = 0;
  unsigned version_ = 11;
  bool keep_alive_ = false, idle_ = false, responding_ = false;
};

using PlainConnection = Connection<beast::tcp_stream>;
using TlsConnection = Connection<beast::ssl_stream<beast::tcp_stream>>;

}  // namespace

std::shared_ptr<Listener> http_listener(net::io_context* io, Api* api, ListenerOptions listener,
                                        HttpOptions options) {
  return std::make_shared<Listener>(
      io, std::move(listener),
      [api, options](const std::shared_ptr<Listener>& from, tcp::socket socket) {
        const Owner owner{from, api, options};
        start_connection<PlainConnection, TlsConnection>(*from, owner, std::move(socket));
      });
}

}  // namespace mpq::serve
