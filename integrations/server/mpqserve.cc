// mpqserve: models over the Open Inference Protocol.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdio>
#include <fstream>
#include <thread>

#include "integrations/server/api.h"
#include "integrations/server/grpc.h"
#include "integrations/server/http.h"
#include "integrations/server/log.h"
#include "integrations/server/repository.h"
#include "manual/cli11.h"

namespace mpq::serve {
namespace {

namespace net = boost::asio;

constexpr int kUsage = 2, kCannotRead = 3, kFailed = 1, kOk = 0;

struct Options {
  std::string repository;
  std::vector<std::string> addresses = {"127.0.0.1", "::1"};
  uint16_t http_port = 8000;
  std::optional<uint16_t> grpc_port, metrics_port;
  std::string control = "none";
  uint32_t poll_seconds = 15, exit_timeout = 30, drain_delay = 0, io_threads = 2;
  size_t max_connections = 1024;
  std::string certificate, key, client_ca, token_file, log_format = "json";
  bool log_requests = false;
};

// Tells systemd (Type=notify), if it asked for it. sd_notify(3) without its library.
void notify(const std::string& state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return;
  std::strcpy(address.sun_path, path);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  if (sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address),
             size) < 0)
    log(Level::kWarning, "notify_failed");
  close(fd);
}

// Connections come before computing: a refusal must not wait for a run to end. Where the process
// may (CAP_SYS_NICE, or LimitNICE of systemd), the calling thread goes ahead of the others.
void come_first() {
  constexpr int kAhead = 5;
  const auto thread = static_cast<id_t>(gettid());
  errno = 0;
  const int nice = getpriority(PRIO_PROCESS, thread);
  if (errno == 0) setpriority(PRIO_PROCESS, thread, nice - kAhead);
}

bool is_loopback(const std::string& address) {
  return address == "::1" || address.starts_with("127.");
}

// As many connections of each listener as descriptors allow.
size_t connection_limit(size_t asked, size_t listeners) {
  constexpr size_t kOwn = 64;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return asked;
  if (limit.rlim_cur < limit.rlim_max && limit.rlim_cur < asked * listeners + kOwn) {
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, asked * listeners + kOwn);
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  const size_t most = limit.rlim_cur > 2 * kOwn ? limit.rlim_cur - kOwn : kOwn;
  return std::max<size_t>(1, std::min<size_t>(asked, most / listeners));
}

// The first line of a file that only its owner may read. Returns what is wrong, or "".
std::string read_token(const std::string& path, std::string* token) {
  std::ifstream file(path);
  if (!file) return path + ": " + std::strerror(errno);
  if (std::getline(file, *token) && token->size() >= 16) return "";
  return path + ": the first line has fewer than 16 characters";
}

// ALPN: the one protocol that is spoken here, as its name with the length before it.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size,
                    const unsigned char* offered, unsigned offered_size, void* ours) {
  const auto* const name = static_cast<const char*>(ours);
  unsigned char* selected = nullptr;
  if (SSL_select_next_proto(&selected, size, reinterpret_cast<const unsigned char*>(name),
                            static_cast<unsigned>(std::strlen(name)), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = selected;
  return SSL_TLSEXT_ERR_OK;
}

bool set_up_tls(const Options& options, const char* protocol, net::ssl::context* tls) {
  SSL_CTX_set_alpn_select_cb(tls->native_handle(), choose_protocol, const_cast<char*>(protocol));
  boost::system::error_code error;
  std::string what = "TLS";
  tls->set_options(net::ssl::context::default_workarounds | net::ssl::context::no_tlsv1 |
                       net::ssl::context::no_tlsv1_1,
                   error);
  if (!error) tls->use_certificate_chain_file(what = options.certificate, error);
  if (!error) tls->use_private_key_file(what = options.key, net::ssl::context::pem, error);
  if (!error && !options.client_ca.empty()) {
    tls->load_verify_file(what = options.client_ca, error);
    if (!error)
      tls->set_verify_mode(net::ssl::verify_peer | net::ssl::verify_fail_if_no_peer_cert, error);
  }
  if (error) log(Level::kError, "tls_failed", {{"why", what + ": " + error.message()}});
  return !error;
}

void define(CLI::App* app, Options* o) {
  app->set_version_flag("--version", std::string("mpqserve ") + mpq_version_string() +
                                         (has_grpc() ? "" : " without gRPC"));
  app->add_option("--model-repository,repository", o->repository,
                  "folder of models (NAME/VERSION/model.fb), or one model file")
      ->required();
  app->add_option("--http-address", o->addresses, "addresses to listen on")->capture_default_str();
  app->add_option("--http-port", o->http_port, "0: any free port, see the log")
      ->capture_default_str();
  app->add_option("--grpc-port", o->grpc_port,
                  "serve gRPC there, 8001 by custom (default: nowhere)");
  app->add_option("--metrics-port", o->metrics_port, "serve /metrics there (default: nowhere)");
  app->add_option("--model-control-mode", o->control,
                  "none: models of the start (SIGHUP looks again); poll: look every so often; "
                  "explicit: clients may load and unload")
      ->check(CLI::IsMember({"none", "poll", "explicit"}))
      ->capture_default_str();
  app->add_option("--repository-poll-secs", o->poll_seconds, "of --model-control-mode poll")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app->add_option("--io-threads", o->io_threads, "threads of connections, JSON and images")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app->add_option("--max-connections", o->max_connections)->capture_default_str();
  app->add_option("--exit-timeout-secs", o->exit_timeout, "for requests that are under way")
      ->capture_default_str();
  app->add_option("--drain-delay-secs", o->drain_delay,
                  "after SIGTERM: not ready, but still serving, for so long")
      ->capture_default_str();
  auto* const certificate =
      app->add_option("--tls-cert", o->certificate, "PEM chain: serve all with TLS");
  auto* const key = app->add_option("--tls-key", o->key, "PEM key of --tls-cert");
  certificate->needs(key);
  key->needs(certificate);
  app->add_option("--tls-client-ca", o->client_ca, "PEM: clients must show a certificate of it")
      ->needs(certificate);
  app->add_option("--token-file", o->token_file,
                  "its first line, at least 16 characters, is the bearer token clients must send");
  app->add_option("--log-format", o->log_format)
      ->check(CLI::IsMember({"json", "text"}))
      ->capture_default_str();
  app->add_flag("--log-requests", o->log_requests, "a line for each request");
}

manual::Program manual_of(const CLI::App& app) {
  manual::Program program = manual::program_of(app);
  program.usage = "REPOSITORY [OPTIONS]";
  program.exit_codes = {{"0", "drained after SIGTERM or SIGINT"},
                        {"1", "failure, or requests that did not end in time"},
                        {"2", "usage error"},
                        {"3", "repository, token or certificate cannot be read"}};
  program.sections = {
      {"SIGNALS",
       {{"SIGTERM, SIGINT", "not ready, answers what is under way, ends; twice: ends at once"},
        {"SIGHUP", "looks for new versions of models"}}},
      {"FILES",
       {{"NAME/VERSION/model.fb", "a model in the repository; VERSION is a number"},
        {"NAME/config.json", "how it is batched, in the words of Triton's model configuration"}}}};
  program.see_also = {"mpqrun(1)", "mpqconvert(1)"};
  return program;
}

// Waits for signals; returns when all answers are out or the time is over.
class Life {
 public:
  Life(net::io_context* own, net::io_context* io, const Options* options, Repository* repository,
       Api* api, std::vector<std::shared_ptr<Listener>>* servers)
      : io_(io),
        options_(options),
        repository_(repository),
        api_(api),
        servers_(servers),
        signals_(*own, SIGTERM, SIGINT),
        reload_(*own, SIGHUP),
        timer_(*own),
        poll_(*own),
        watchdog_(*own) {}

  void start() {
    signals_.async_wait([this](auto error, int) {
      if (!error) stop();
    });
    wait_for_reload();
    if (options_->control == "poll") wait_for_poll();
    if (const char* const us = std::getenv("WATCHDOG_USEC")) wait_for_watchdog(std::atoll(us) / 2);
  }

 private:
  void wait_for_reload() {
    reload_.async_wait([this](auto error, int) {
      if (error) return;
      net::post(loading_, [this] {
        log(Level::kInfo, "reload", {{"all_loaded", repository_->scan()}});
      });
      wait_for_reload();
    });
  }
  void wait_for_poll() {
    poll_.expires_after(std::chrono::seconds(options_->poll_seconds));
    poll_.async_wait([this](auto error) {
      if (error) return;
      net::post(loading_, [this] { repository_->scan(); });
      wait_for_poll();
    });
  }
  // systemd's watchdog hears from a thread of the connections: when those hang, it is silent.
  void wait_for_watchdog(int64_t us) {
    watchdog_.expires_after(std::chrono::microseconds(us));
    watchdog_.async_wait([this, us](auto error) {
      if (error || us <= 0) return;
      net::post(*io_, [] { notify("WATCHDOG=1"); });
      wait_for_watchdog(us);
    });
  }
  void stop() {
    log(Level::kInfo, "draining", {{"active", api_->active()}});
    notify("STOPPING=1");
    api_->drain();
    signals_.async_wait([](auto error, int) {
      if (!error) _exit(kFailed);  // asked twice: now
    });
    timer_.expires_after(std::chrono::seconds(options_->drain_delay));
    timer_.async_wait([this](auto) {
      api_->refuse();
      for (const auto& server : *servers_) server->stop();
      deadline_ = Clock::now() + std::chrono::seconds(options_->exit_timeout);
      wait_until_empty();
    });
  }
  void wait_until_empty() {
    size_t open = 0;
    for (const auto& server : *servers_) open += server->connections();
    const bool over = Clock::now() >= deadline_;
    if ((open == 0 && api_->active() == 0) || over) {
      log(over ? Level::kWarning : Level::kInfo, "stopped",
          {{"active", api_->active()}, {"connections", open}});
      _exit(over && api_->active() != 0 ? kFailed : kOk);
    }
    timer_.expires_after(std::chrono::milliseconds(20));
    timer_.async_wait([this](auto) { wait_until_empty(); });
  }

  net::io_context* io_;
  const Options* options_;
  Repository* repository_;
  Api* api_;
  std::vector<std::shared_ptr<Listener>>* servers_;
  net::signal_set signals_, reload_;
  net::steady_timer timer_, poll_, watchdog_;
  net::thread_pool loading_{1};  // takes long: signals must not wait for it
  Clock::time_point deadline_;
};

int run(const Options& options) {
  set_log_format(options.log_format == "json");
  std::signal(SIGPIPE, SIG_IGN);
  ApiOptions api_options{.model_control = options.control == "explicit",
                         .log_requests = options.log_requests,
                         .token = ""};
  if (!options.token_file.empty())
    if (const std::string why = read_token(options.token_file, &api_options.token); !why.empty()) {
      log(Level::kError, "token_failed", {{"why", why}});
      return kCannotRead;
    }
  net::ssl::context http_tls(net::ssl::context::tls_server),
      grpc_tls(net::ssl::context::tls_server);
  const bool with_tls = !options.certificate.empty();
  if (with_tls &&
      !(set_up_tls(options, "\x08http/1.1", &http_tls) && set_up_tls(options, "\x02h2", &grpc_tls)))
    return kCannotRead;
  if (options.grpc_port && !has_grpc()) {
    log(Level::kError, "grpc_failed",
        {{"why", "this mpqserve was built without gRPC (nghttp2, protobuf)"}});
    return kUsage;
  }
  for (const std::string& address : options.addresses)
    if (!is_loopback(address) && !with_tls && api_options.token.empty())
      log(Level::kWarning, "open_to_others",
          {{"address", address}, {"why", "neither TLS nor a token"}});

  std::error_code error;
  const std::filesystem::path place(options.repository);
  const auto no_repository = [&place](const std::string& why) {
    log(Level::kError, "repository_failed", {{"why", place.string() + ": " + why}});
    return kCannotRead;
  };
  if (!std::filesystem::exists(place, error)) return no_repository("not found");
  if (!std::filesystem::is_directory(place, error) && !is_model_name(place.stem().string()))
    return no_repository("a model is called by letters, digits, _, . and -, and so is its file");
  net::io_context io(static_cast<int>(options.io_threads) + 1);
  Repository repository(place);
  Api api(&repository, api_options);
  const size_t most = connection_limit(options.max_connections, 1 + options.grpc_port.has_value());
  const auto at = [&](uint16_t port, net::ssl::context* tls) {
    return ListenerOptions{.addresses = options.addresses,
                           .port = port,
                           .max_connections = most,
                           .tls = with_tls ? tls : nullptr};
  };
  std::vector<std::shared_ptr<Listener>> servers;
  std::vector<const char*> port_names;
  const auto add = [&](const char* name, std::shared_ptr<Listener> listener) {
    port_names.push_back(name);
    servers.push_back(std::move(listener));
  };
  add("http_port", http_listener(&io, &api, at(options.http_port, &http_tls), {}));
  if (options.grpc_port)
    add("grpc_port", grpc_listener(&io, &api, at(*options.grpc_port, &grpc_tls)));
  if (options.metrics_port)
    add("metrics_port",
        http_listener(&io, &api, at(*options.metrics_port, &http_tls), {.metrics_only = true}));
  const bool all = repository.scan();
  for (const auto& server : servers)
    if (const std::string why = server->listen(); !why.empty()) {
      log(Level::kError, "listen_failed", {{"why", why}});
      return kFailed;
    }
  // Signals have this thread to themselves.
  net::io_context own(1);
  Life life(&own, &io, &options, &repository, &api, &servers);
  life.start();
  Json facts = {{"all_loaded", all}, {"models", repository.all().size()}};
  for (size_t i = 0; i < servers.size(); ++i) facts[port_names[i]] = servers[i]->port();
  log(Level::kInfo, "serving", facts);
  notify("READY=1");

  const auto work = net::make_work_guard(io);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < options.io_threads; ++i)
    threads.emplace_back([&io] {
      come_first();
      io.run();
    });
  own.run();  // ends the process
  for (std::thread& thread : threads) thread.join();
  return kOk;
}

}  // namespace
}  // namespace mpq::serve

int main(int argc, char** argv) {
  CLI::App app("serve models over HTTP and gRPC: Open Inference Protocol", "mpqserve");
  mpq::serve::Options options;
  mpq::serve::define(&app, &options);
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (mpq::manual::is_asked(words)) {
    std::fputs(mpq::manual::answer(mpq::serve::manual_of(app), words).c_str(), stdout);
    return mpq::serve::kOk;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    // What is unknown says more than what is missing.
    const std::vector<std::string> unknown = app.remaining();
    if (unknown.empty())
      app.exit(error);
    else
      app.exit(CLI::ExtrasError(unknown));
    return mpq::serve::kUsage;
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : mpq::serve::kUsage;
  }
  return mpq::serve::run(options);
}
