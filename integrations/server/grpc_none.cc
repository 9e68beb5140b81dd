// In builds without nghttp2 or protobuf.
#include "integrations/server/grpc.h"

namespace mpq::serve {

bool has_grpc() { return false; }
std::shared_ptr<Listener> grpc_listener(boost::asio::io_context*, Api*, ListenerOptions) {
  return nullptr;
}

}  // namespace mpq::serve
