// One request of Triton's: what it holds, as a job; its answer, from the finished job.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "integrations/server/job.h"
#include "integrations/server/tensor.h"
#include "integrations/triton/network.h"

namespace mpq::triton {

/// Gets one answer, by succeed() or by fail(). Releasing it is up to the caller.
class Request {
 public:
  Request(const Network& network, TRITONBACKEND_Request* request)
      : network_(network), request_(request) {}

  /// Makes a job of the inputs, which stay where they are. Throws when the request is wrong.
  serve::JobPtr read();
  /// Sends the outputs that were asked for; false: sent why they cannot be had.
  bool succeed(const serve::Job& job);
  /// Sends an error, and deletes it.
  void fail(TRITONSERVER_Error* error);

  TRITONBACKEND_Request* get() const { return request_; }

 private:
  std::vector<serve::WireTensor> tensors();
  void take_samples(const std::vector<serve::WireTensor>& tensors, serve::Job* job) const;
  void take_texts(const serve::WireTensor& texts, serve::Job* job) const;
  void take_ids(const std::vector<serve::WireTensor>& tensors, serve::Job* job);
  void set_samples(const serve::WireTensor& tensor, serve::Job* job) const;
  void write(const serve::Job& job, TRITONBACKEND_Response* response) const;

  const Network& network_;
  TRITONBACKEND_Request* request_;
  std::vector<std::unique_ptr<std::string>> joined_;  // inputs that came in several buffers
  size_t rows_ = 0;  // of a sequence as it was sent; 0: the longest one
};

}  // namespace mpq::triton
