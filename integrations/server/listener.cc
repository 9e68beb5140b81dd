#include "integrations/server/listener.h"

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

namespace mpq::serve {

namespace net = boost::asio;
using tcp = net::ip::tcp;
using boost::system::error_code;

std::string Listener::listen() {
  port_ = options_.port;
  for (const std::string& text : options_.addresses) {
    error_code error;
    const auto address = net::ip::make_address(text, error);
    if (error) return text + ": not an address";
    auto acceptor = std::make_unique<tcp::acceptor>(net::make_strand(*io_));
    const tcp::endpoint endpoint(address, port_);
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(net::socket_base::reuse_address(true), error);
    if (!error && address.is_v6()) acceptor->set_option(net::ip::v6_only(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(net::socket_base::max_listen_connections, error);
    // A machine without IPv6 is served on the other address.
    if (error && address.is_v6() && options_.addresses.size() > 1) continue;
    if (error) return text + " port " + std::to_string(port_) + ": " + error.message();
    port_ = acceptor->local_endpoint().port();
    acceptors_.push_back(std::move(acceptor));
  }
  if (acceptors_.empty()) return "no address to listen on";
  for (size_t i = 0; i < acceptors_.size(); ++i) accept(i);
  return "";
}

void Listener::accept(size_t index) {
  acceptors_[index]->async_accept(
      net::make_strand(*io_), [self = shared_from_this(), index](error_code error, Socket socket) {
        if (self->stopping_) return;
        if (error) {  // no descriptors: those that end make room
          auto timer = std::make_shared<net::steady_timer>(self->acceptors_[index]->get_executor(),
                                                           std::chrono::milliseconds(50));
          timer->async_wait([self, index, timer](error_code) {
            if (!self->stopping_) self->accept(index);
          });
          return;
        }
        if (self->connections() < self->options_.max_connections)
          self->serve_(self, std::move(socket));
        self->accept(index);
      });
}

void Listener::stop() {
  stopping_ = true;
  for (auto& acceptor : acceptors_)
    net::post(acceptor->get_executor(), [self = shared_from_this(), a = acceptor.get()] {
      error_code ignored;
      a->close(ignored);
    });
  std::vector<std::shared_ptr<AnyConnection>> open;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [_, connection] : connections_)
      if (auto alive = connection.lock()) open.push_back(std::move(alive));
  }
  for (const auto& connection : open) connection->stop();
}

void Listener::add(const std::shared_ptr<AnyConnection>& connection) {
  const std::lock_guard lock(mutex_);
  connections_.emplace(connection.get(), connection);
}

void Listener::remove(AnyConnection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
}

size_t Listener::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

}  // namespace mpq::serve
