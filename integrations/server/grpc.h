// gRPC over HTTP/2, with or without TLS, in front of an Api.
#pragma once

#include <memory>

#include "integrations/server/api.h"
#include "integrations/server/listener.h"

namespace mpq::serve {

/// Whether this build has it (nghttp2 and protobuf were there).
bool has_grpc();

/// Serves gRPC on the threads that run `io`; without TLS, HTTP/2 with prior knowledge, with it h2
/// by ALPN. nullptr: this build has none.
std::shared_ptr<Listener> grpc_listener(boost::asio::io_context* io, Api* api,
                                        ListenerOptions listener);

}  // namespace mpq::serve
