// The page of a training: what it serves, to whom, and that training neither waits for it nor changes. A page is left
// in the build folder for the browser check of ./dev test --full.
#include "attune/train/dashboard.hpp"

#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "attune/io/atomic_file.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/event_log.hpp"
#include "attune/train/run.hpp"
#include "attune/train/run_files.hpp"
#include "message_of.hpp"
#include "train/tiny_task.hpp"

namespace attune::train {
namespace {

using attune::testing::message_of;
using namespace std::chrono_literals;

int port_of(const Dashboard& dashboard) {
  const std::string address = dashboard.address();
  return std::stoi(address.substr(address.rfind(':') + 1));
}

/// A folder that looks like a run of 40 steps, with a log.
class DashboardTest : public ::testing::Test {
 protected:
  DashboardTest() {
    RunConfig config;
    config.train.steps = 40;
    write_config(config, files_.config);
    write_facts({.task = {.data_folder = "", .data_sha256 = "", .counts = {{"train_pairs", 7}}}, .parameters = 1234},
                files_);
    io::write_file(files_.log, "");
  }
  tiny::Folder folder_;
  RunFiles files_{folder_.path()};
};

TEST_F(DashboardTest, ServesAPageThatAsksForNothingElse) {
  const Dashboard dashboard;
  EXPECT_TRUE(dashboard.address().starts_with("http://127.0.0.1:")) << dashboard.address();
  httplib::Client client("127.0.0.1", port_of(dashboard));
  const httplib::Result page = client.Get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_NE(page->get_header_value("Content-Type").find("text/html"), std::string::npos);
  EXPECT_NE(page->body.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(page->body.find("connect-src 'self'"), std::string::npos);
  EXPECT_EQ(page->body.find("\"sample\""), std::string::npos) << "the made-up run is still there";
  const std::regex request(
      "<(link|img|iframe|object|embed|base)[ >]|\\bsrc *=|\\bhref *=|@import|url\\(|fetch\\(|import\\(");
  EXPECT_FALSE(std::regex_search(page->body, request));
  ASSERT_TRUE(client.Get("/log.jsonl"));
  EXPECT_EQ(client.Get("/log.jsonl")->status, 404);
}

TEST_F(DashboardTest, AnswersThisMachineAlone) {
  const Dashboard dashboard;
  httplib::Client client("127.0.0.1", port_of(dashboard));
  const httplib::Result other = client.Get("/events", {{"Host", "attacker.example"}});
  ASSERT_TRUE(other);
  EXPECT_EQ(other->status, 403) << "a name of another site that leads to this machine";
  EXPECT_NE(message_of([&] { const Dashboard second(port_of(dashboard)); }).find("Dashboard: port"), std::string::npos)
      << message_of([&] { const Dashboard second(port_of(dashboard)); });
}

TEST_F(DashboardTest, ReplaysTheLogAndThenTellsItLive) {
  EventLog log = EventLog::create(files_.log);
  log.write({{"event", "step"}, {"step", 1}, {"loss", 2.5}});
  auto dashboard = std::make_unique<Dashboard>();
  httplib::Client client("127.0.0.1", port_of(*dashboard));
  client.set_read_timeout(60);
  std::string heard;
  std::mutex mutex;
  std::condition_variable came;
  const auto wait_for = [&](const std::string& text) {
    std::unique_lock lock(mutex);
    return came.wait_for(lock, 10s, [&] { return heard.find(text) != std::string::npos; });
  };
  std::future<int> reader = std::async(std::launch::async, [&] {
    const httplib::Result result = client.Get("/events", [&](const char* data, std::size_t size) {
      const std::lock_guard lock(mutex);
      heard.append(data, size);
      came.notify_all();
      return true;
    });
    return result ? result->status : -1;
  });
  dashboard->follow(folder_.path());  // the page may be open before the run begins
  EXPECT_TRUE(wait_for("data: {\"event\":\"step\",\"step\":1,\"loss\":2.5}\n\n")) << heard;
  EXPECT_TRUE(wait_for("event: run\ndata: ")) << heard;
  EXPECT_NE(heard.find("1234 parameters"), std::string::npos);
  EXPECT_NE(heard.find("\"steps\":40"), std::string::npos);
  log.on_line([&](std::string_view) { dashboard->grown(); });
  const auto before = std::chrono::steady_clock::now();
  log.write({{"event", "heads"}, {"step", 2}, {"factor", std::vector<double>{1, 0.25}}});
  EXPECT_TRUE(wait_for("data: {\"event\":\"heads\",\"step\":2,\"factor\":[1,0.25]}\n\n")) << heard;
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
  EXPECT_EQ(heard.find("event: end"), std::string::npos);
  log.on_line({});
  dashboard.reset();
  ASSERT_EQ(reader.wait_for(10s), std::future_status::ready) << "the server says end and closes";
  EXPECT_EQ(reader.get(), 200);
  EXPECT_TRUE(heard.ends_with("event: end\ndata: {}\n\n")) << heard;
}

TEST_F(DashboardTest, WaitsForNobodyWhoDoesNotRead) {
  {
    EventLog log = EventLog::create(files_.log);
    const std::string text(1000, 'x');
    for (int i = 0; i < 20'000; ++i) log.write({{"event", "note"}, {"step", i}, {"text", text}});  // 20 MB: no buffer
  }
  auto dashboard = std::make_unique<Dashboard>();
  dashboard->follow(folder_.path());
  httplib::Client client("127.0.0.1", port_of(*dashboard));
  client.set_read_timeout(60);
  std::promise<void> first, leave;
  auto reader = std::async(std::launch::async, [&, left = leave.get_future().share()]() mutable {
    bool begun = false;
    client.Get("/events", [&](const char*, std::size_t) {
      if (!begun) first.set_value();
      begun = true;
      left.wait();  // does not read on
      return true;
    });
  });
  first.get_future().wait();
  auto before = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) dashboard->grown();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 1s);
  before = std::chrono::steady_clock::now();
  dashboard.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 8s);
  leave.set_value();
  reader.wait();
}

TEST_F(DashboardTest, AFinishedRunIsAPageOfItsOwn) {
  io::write_file(files_.log,
                 "{\"event\":\"step\",\"step\":1,\"loss\":2.5}\n"
                 "{\"event\":\"guard\",\"step\":1,\"layer\":\"</script><b>\"}\n"
                 "{\"event\":\"step\",\"st");
  write_dashboard(folder_ / "page.html", folder_.path());
  const std::string page = io::read_file(folder_ / "page.html");
  const std::string open = "id=\"run-data\">";
  const std::size_t from = page.find(open) + open.size();
  const nlohmann::json data = nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
  EXPECT_EQ(data["run"]["name"], folder_.path().filename().string());
  ASSERT_EQ(data["lines"].size(), 2u) << "a line that a kill cut off is left out";
  EXPECT_EQ(data["lines"][1]["layer"], "</script><b>");
  EXPECT_EQ(page.find("<b>"), std::string::npos);
  EXPECT_NE(page.find("connect-src 'none'"), std::string::npos);
  EXPECT_NE(message_of([&] { dashboard_html(folder_ / "nothing"); }), "no error");
}

TEST(DashboardOfARun, ChangesNoBitOfIt) {
  const tiny::Folder text, out;
  tiny::write_text(text.path());
  const RunConfig config = tiny::config(text.path(), 12);
  start_run(config, out / "alone", "unused");
  std::string heard;
  auto dashboard = std::make_unique<Dashboard>();
  httplib::Client client("127.0.0.1", port_of(*dashboard));
  client.set_read_timeout(60);
  auto reader = std::async(std::launch::async, [&] {
    client.Get("/events", [&](const char* data, std::size_t size) {
      heard.append(data, size);
      return true;
    });
  });
  start_run(config, out / "shown", "unused", {.dashboard = dashboard.get()});
  dashboard.reset();
  reader.wait();
  write_dashboard(std::string(ATTUNE_BINARY_DIR) + "/dashboard_sample.html", out / "shown");
  EXPECT_NE(heard.find("\"event\":\"valid\",\"step\":12"), std::string::npos) << heard;
  EXPECT_NE(heard.find("event: end"), std::string::npos);
  const Checkpoint a = load_checkpoint(out / "alone" / "checkpoint"), b = load_checkpoint(out / "shown" / "checkpoint");
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    EXPECT_EQ(std::memcmp(a.weights[i].tensor.raw(), b.weights[i].tensor.raw(),
                          std::size_t(a.weights[i].tensor.size()) * sizeof(float)),
              0);
}

}  // namespace
}  // namespace attune::train
