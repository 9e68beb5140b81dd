// Listening sockets and the connections that came through them, whatever those speak.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace mpq::serve {

struct ListenerOptions {
  std::vector<std::string> addresses = {"127.0.0.1", "::1"};
  uint16_t port = 0;  // 0: any free one
  size_t max_connections = 1024;
  boost::asio::ssl::context* tls = nullptr;  // null: none
};

/// What the listener knows of a connection.
class AnyConnection {
 public:
  virtual ~AnyConnection() = default;
  /// Close when idle, else after what is under way. Any thread.
  virtual void stop() = 0;
};

/// Accepts connections on the threads that run `io` and hands each to `serve`, on a strand of its
/// own. More than max_connections, or more than descriptors allow, are accepted and closed. Held by
/// shared_ptr: connections keep it.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using Serve = std::function<void(const std::shared_ptr<Listener>&, Socket)>;
  Listener(boost::asio::io_context* io, ListenerOptions options, Serve serve)
      : io_(io), options_(std::move(options)), serve_(std::move(serve)) {}

  /// What is wrong, or "".
  std::string listen();
  /// The port that was bound.
  uint16_t port() const { return port_; }
  boost::asio::ssl::context* tls() const { return options_.tls; }
  /// No new connections; stop() for those that are open.
  void stop();
  bool stopping() const { return stopping_.load(); }

  void add(const std::shared_ptr<AnyConnection>& connection);
  void remove(AnyConnection* connection);
  size_t connections() const;

 private:
  void accept(size_t index);

  boost::asio::io_context* io_;
  ListenerOptions options_;
  Serve serve_;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<boost::asio::ip::tcp::acceptor>> acceptors_;
  mutable std::mutex mutex_;
  std::map<AnyConnection*, std::weak_ptr<AnyConnection>> connections_;
};

/// Starts a connection that came through a listener, with TLS where that has it. `owner` is what
/// both kinds are made of.
template <typename Plain, typename Tls, typename Owner>
void start_connection(const Listener& from, const Owner& owner, Listener::Socket socket) {
  if (from.tls() == nullptr)
    std::make_shared<Plain>(owner, std::move(socket))->start();
  else
    std::make_shared<Tls>(owner, std::move(socket), *from.tls())->start();
}

}  // namespace mpq::serve
