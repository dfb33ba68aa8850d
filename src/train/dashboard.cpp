// The page of a training: a small server around the run's log, and the same page with the log inside.
#include "attune/train/dashboard.hpp"

#include <fmt/format.h>
#include <httplib.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/config.hpp"
#include "attune/train/run_files.hpp"
#include "attune/train/task.hpp"
#include "train/page_parts.hpp"
#include "train/viewer_files.hpp"

namespace attune::train {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int kMostReaders = 6;                 // pages that are open at the same time
constexpr auto kPatience = 2s;                  // with a reader that does not read
constexpr auto kHeartbeat = 10s;                // between two signs of life to a reader who has heard all
constexpr std::size_t kPieceOfLog = 64 * 1024;  // bytes sent at a time

/// What a run is, for the head of its page.
std::string run_json(const fs::path& run) {
  const RunFiles files(run);
  const RunConfig config = read_run_config(files.config);
  nlohmann::ordered_json facts = nlohmann::ordered_json::array();
  for (const auto& [name, value] : facts_of(config, read_facts(files))) facts.push_back({name, value});
  const fs::path folder = fs::absolute(run).lexically_normal();
  const std::string name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  return nlohmann::ordered_json({{"name", name}, {"steps", config.train.steps}, {"facts", facts}})
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string page_with(std::string_view title, std::string_view json, std::string_view connect) {
  return assemble_page({.html = kDashboardHtml,
                        .css = kDashboardCss,
                        .js = kDashboardJs,
                        .css_link = "<link rel=\"stylesheet\" href=\"dashboard.css\">",
                        .js_link = "<script src=\"dashboard_text.js\"></script>\n"
                                   "<script src=\"dashboard_charts.js\"></script>\n"
                                   "<script src=\"dashboard.js\"></script>",
                        .data_open = "<script type=\"application/json\" id=\"run-data\">",
                        .connect = connect},
                       title, json);
}

}  // namespace

struct Dashboard::Server {
  /// httplib ignores SIGPIPE for the whole process; what was there before comes back.
  class KeepSigpipe {
   public:
    KeepSigpipe() { sigaction(SIGPIPE, nullptr, &before_); }
    ~KeepSigpipe() { sigaction(SIGPIPE, &before_, nullptr); }
    KeepSigpipe(const KeepSigpipe&) = delete;
    KeepSigpipe& operator=(const KeepSigpipe&) = delete;

   private:
    struct sigaction before_ {};
  };

  /// Whole lines of a file that grows.
  class LogTail {
   public:
    explicit LogTail(const fs::path& file) : in_(file, std::ios::binary) {}
    /// At most about kPieceOfLog bytes of lines that were not read yet, each as an event; "" if there are none.
    std::string events() {
      std::string out;
      while (out.size() < kPieceOfLog) {
        std::string more(kPieceOfLog, '\0');
        in_.clear();  // the end of the file was only its end so far
        in_.read(more.data(), std::streamsize(more.size()));
        more.resize(std::size_t(in_.gcount()));
        if (more.empty()) break;
        rest_ += more;
        const std::size_t end = rest_.rfind('\n');
        if (end == std::string::npos) continue;
        std::istringstream lines(rest_.substr(0, end));
        for (std::string line; std::getline(lines, line);) out += "data: " + line + "\n\n";
        rest_.erase(0, end + 1);
      }
      return out;
    }

   private:
    std::ifstream in_;
    std::string rest_;  // of a line that is not complete
  };

  KeepSigpipe keep_sigpipe;
  httplib::Server http;
  std::thread thread;
  int port = 0;

  std::mutex mutex;  // of all below
  std::condition_variable changed;
  fs::path log;     // empty until a run is followed
  std::string run;  // JSON
  std::int64_t growth = 0;
  bool ending = false;
  int readers = 0;

  /// One reader of /events; the server asks it for more until it says that it is done.
  class Reader {
   public:
    explicit Reader(Server& server) : server_(server) {}
    ~Reader() {
      const std::lock_guard lock(server_.mutex);
      --server_.readers;
      server_.changed.notify_all();
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    bool more(httplib::DataSink& sink) {
      bool ending = false;
      std::string greeting;
      {
        std::unique_lock lock(server_.mutex);
        const auto news = [&] { return server_.ending || (!server_.log.empty() && seen_ != server_.growth); };
        server_.changed.wait_for(lock, 1s, news);
        ending = server_.ending;
        seen_ = server_.growth;
        if (!tail_ && !server_.log.empty()) {
          tail_.emplace(server_.log);
          greeting = "event: run\ndata: " + server_.run + "\n\n";
        }
      }
      if (!greeting.empty() && !say(sink, greeting)) return false;
      for (std::string events; tail_ && !(events = tail_->events()).empty();)
        if (!say(sink, events)) return false;
      if (ending) {
        const bool heard = say(sink, "event: end\ndata: {}\n\n");
        sink.done();
        return heard;
      }
      // Nothing said for long: a reader that has gone is noticed.
      return std::chrono::steady_clock::now() - said_ < kHeartbeat || say(sink, ":\n\n");
    }

   private:
    bool say(httplib::DataSink& sink, const std::string& text) {
      said_ = std::chrono::steady_clock::now();
      return sink.write(text.data(), text.size());
    }

    Server& server_;
    std::int64_t seen_ = -1;
    std::optional<LogTail> tail_;
    std::chrono::steady_clock::time_point said_ = std::chrono::steady_clock::now();
  };

  explicit Server(int wanted) {
    http.new_task_queue = [] { return new httplib::ThreadPool(kMostReaders + 2); };
    http.set_keep_alive_max_count(1);  // connections that wait for a next request would take places
    http.set_write_timeout(kPatience);
    http.set_read_timeout(kPatience);
    http.set_socket_options([](socket_t sock) {
      const int yes = 1;  // a port that another program listens on is not shared with it
      setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    // A page of another site may know the port, but its requests carry that site's name.
    http.set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      response.set_header("X-Content-Type-Options", "nosniff");
      response.set_header("Cache-Control", "no-store");
      const std::string host = request.get_header_value("Host");
      if (host == fmt::format("127.0.0.1:{}", port) || host == fmt::format("localhost:{}", port))
        return httplib::Server::HandlerResponse::Unhandled;
      response.status = 403;
      return httplib::Server::HandlerResponse::Handled;
    });
    http.Get("/", [](const httplib::Request&, httplib::Response& response) {
      response.set_content(page_with("attune", "null", "'self'"), "text/html; charset=utf-8");
    });
    http.Get("/events", [this](const httplib::Request&, httplib::Response& response) {
      {
        const std::lock_guard lock(mutex);
        if (readers >= kMostReaders || ending) {
          response.status = 503;
          return;
        }
        ++readers;
      }
      const auto reader = std::make_shared<Reader>(*this);
      response.set_chunked_content_provider(
          "text/event-stream", [reader](std::size_t, httplib::DataSink& sink) { return reader->more(sink); });
    });
    port = wanted == 0 ? http.bind_to_any_port("127.0.0.1") : http.bind_to_port("127.0.0.1", wanted) ? wanted : -1;
    if (port <= 0)
      fail("Dashboard", wanted == 0 ? "a free port" : fmt::format("port {} to be free", wanted),
           "it cannot be listened on");
    thread = std::thread([this] { http.listen_after_bind(); });
    while (!http.is_running()) std::this_thread::sleep_for(1ms);
  }

  ~Server() {
    {
      std::unique_lock lock(mutex);
      ending = true;
      changed.notify_all();
      changed.wait_for(lock, 2 * kPatience, [&] { return readers == 0; });
    }
    http.stop();
    thread.join();
  }
};

Dashboard::Dashboard(int port) : server_(std::make_unique<Server>(port)) {}
Dashboard::~Dashboard() = default;

std::string Dashboard::address() const { return fmt::format("http://127.0.0.1:{}/", server_->port); }

void Dashboard::follow(const fs::path& run) {
  std::string json = run_json(run);
  const std::lock_guard lock(server_->mutex);
  server_->run = std::move(json);
  server_->log = RunFiles(run).log;
  server_->changed.notify_all();
}

void Dashboard::grown() {
  const std::lock_guard lock(server_->mutex);
  ++server_->growth;
  server_->changed.notify_all();
}

std::string dashboard_html(const fs::path& run) {
  const RunFiles files(run);
  const std::string about = run_json(run);
  std::string data = "{\"run\":" + about + ",\"lines\":[";
  std::istringstream log(fs::exists(files.log) ? io::read_file(files.log) : "");
  bool first = true;
  for (std::string line; std::getline(log, line);) {
    if (!nlohmann::ordered_json::accept(line)) continue;  // cut off by a kill
    data += (first ? "\n" : ",\n") + line;
    first = false;
  }
  data += "]}";
  return page_with(nlohmann::ordered_json::parse(about)["name"].get<std::string>(), data, "'none'");
}

void write_dashboard(const fs::path& path, const fs::path& run) { io::write_file(path, dashboard_html(run)); }

}  // namespace attune::train
