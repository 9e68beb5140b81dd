// libtriton_mpq.so: mpq inside NVIDIA Triton Inference Server. Triton queues, batches and counts; a
// batch goes through an instance as in mpqserve, so answers do not depend on it.
#include <chrono>

#include "integrations/server/instance.h"
#include "integrations/triton/error.h"
#include "integrations/triton/network.h"
#include "integrations/triton/request.h"

namespace mpq::triton {
namespace {

uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

/// Triton's instance: its sessions, one batch at a time.
class Worker {
 public:
  Worker(TRITONBACKEND_ModelInstance* handle, const Network* network)
      : handle_(handle), network_(network), instance_(network->facts, network->threads) {}

  /// Answers and releases all requests; throws before the first of them or not at all.
  void execute(TRITONBACKEND_Request** handles, uint32_t count) {
    const uint64_t start = now_ns();
    std::vector<Request> requests;
    std::vector<serve::JobPtr> jobs;
    requests.reserve(count);
    jobs.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
      Request request(*network_, handles[i]);
      serve::JobPtr job;
      TRITONSERVER_Error* const error = guarded([&] { job = request.read(); });
      if (error == nullptr) {
        requests.push_back(std::move(request));
        jobs.push_back(std::move(job));
      } else {
        request.fail(error);
        release(handles[i], false, {start, start, start});
      }
    }
    for (size_t first = 0; first < jobs.size();) {
      const size_t end = end_of_run(jobs, first);
      run(std::span(requests).subspan(first, end - first),
          std::span(jobs).subspan(first, end - first), start);
      first = end;
    }
  }

 private:
  struct Times {
    uint64_t start = 0, compute_start = 0, compute_end = 0;
  };

  // As many jobs as a run may have samples and tokens; at least one.
  size_t end_of_run(std::span<const serve::JobPtr> jobs, size_t first) const {
    const serve::Facts& facts = *network_->facts;
    uint64_t samples = 0, tokens = 0;
    size_t end = first;
    for (; end < jobs.size(); ++end) {
      samples += jobs[end]->samples;
      tokens += jobs[end]->ids.size();
      const bool fits = samples <= facts.config.max_batch_size &&
                        (!facts.sequences() || tokens <= facts.max_tokens);
      if (!fits && end != first) break;
    }
    return end;
  }

  void run(std::span<Request> requests, std::span<const serve::JobPtr> jobs, uint64_t start) {
    Times times{start, now_ns(), 0};
    TRITONSERVER_Error* const error = guarded([&] { instance_.run(jobs); });
    times.compute_end = now_ns();
    uint64_t samples = 0;
    for (size_t i = 0; i < jobs.size(); ++i) {
      bool success = error == nullptr;
      if (success)
        success = requests[i].succeed(*jobs[i]);
      else
        requests[i].fail(
            TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, TRITONSERVER_ErrorMessage(error)));
      samples += jobs[i]->samples;
      release(requests[i].get(), success, times);
    }
    if (error == nullptr)
      ignore(TRITONBACKEND_ModelInstanceReportBatchStatistics(
          handle_, samples, times.start, times.compute_start, times.compute_end, now_ns()));
    ignore(error);
  }

  void release(TRITONBACKEND_Request* request, bool success, const Times& times) {
    ignore(TRITONBACKEND_ModelInstanceReportStatistics(
        handle_, request, success, times.start, times.compute_start, times.compute_end, now_ns()));
    ignore(TRITONBACKEND_RequestRelease(request, TRITONSERVER_REQUEST_RELEASE_ALL));
  }

  TRITONBACKEND_ModelInstance* handle_;
  const Network* network_;
  serve::Instance instance_;
};

template <typename State, typename Handle>
State* state_of(Handle* handle, TRITONSERVER_Error* (*get)(Handle*, void**)) {
  void* state = nullptr;
  call(get(handle, &state));
  return static_cast<State*>(state);
}

void log_warning(void*, mpq_log_level level, const char* text) {
  if (level == MPQ_LOG_WARNING)
    ignore(TRITONSERVER_LogMessage(TRITONSERVER_LOG_WARN, "mpq", 0, text));
}

}  // namespace
}  // namespace mpq::triton

using mpq::triton::call;
using mpq::triton::guarded;
using mpq::triton::Network;
using mpq::triton::Worker;

extern "C" {

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
  return guarded([] {
    uint32_t major = 0, minor = 0;
    call(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != kTritonApiMajor)
      throw std::runtime_error("version " + std::to_string(major) + "." + std::to_string(minor) +
                               " of the interface for back ends, expected " +
                               std::to_string(kTritonApiMajor));
    mpq_set_log(mpq::triton::log_warning, nullptr);
  });
}

TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend*) {
  mpq_set_log(nullptr, nullptr);
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(TRITONBACKEND_Backend*,
                                                      TRITONBACKEND_BackendAttribute* attributes) {
  // Where a configuration names no instance group: CPU, as many instances as Triton likes.
  return TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(
      attributes, TRITONSERVER_INSTANCEGROUPKIND_CPU, 0, nullptr, 0);
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([model] {
    auto network = mpq::triton::load_network(model);
    call(TRITONBACKEND_ModelSetState(model, network.get()));
    network.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded(
      [model] { delete mpq::triton::state_of<Network>(model, TRITONBACKEND_ModelState); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([instance] {
    TRITONBACKEND_Model* model = nullptr;
    TRITONSERVER_InstanceGroupKind kind{};
    call(TRITONBACKEND_ModelInstanceModel(instance, &model));
    call(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    if (kind != TRITONSERVER_INSTANCEGROUPKIND_CPU)
      throw std::runtime_error("instance_group: kind must be KIND_CPU");
    const auto* const network = mpq::triton::state_of<Network>(model, TRITONBACKEND_ModelState);
    auto worker = std::make_unique<Worker>(instance, network);
    call(TRITONBACKEND_ModelInstanceSetState(instance, worker.get()));
    worker.release();
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([instance] {
    delete mpq::triton::state_of<Worker>(instance, TRITONBACKEND_ModelInstanceState);
  });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                       TRITONBACKEND_Request** requests,
                                                       uint32_t count) {
  return guarded([&] {
    mpq::triton::state_of<Worker>(instance, TRITONBACKEND_ModelInstanceState)
        ->execute(requests, count);
  });
}
}
