// The attention page: it carries every token and weight, asks the network for nothing, and no text can escape into
// markup. The page of a made-up translation is left in the build folder for the browser check of ./dev test --full.
#include "attune/train/attention_page.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune::train {
namespace {

// Rows that sum to 1 and lean towards a diagonal, as trained heads often do.
AttentionMap make_map(AttentionKind kind, int layer, int head, std::int64_t rows, std::int64_t cols) {
  AttentionMap map{kind, layer, head, rows, cols, std::vector<float>(std::size_t(rows * cols))};
  Generator random(7, std::uint64_t(100 * int(kind) + 10 * layer + head));
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t seen = kind == AttentionKind::decoder ? i + 1 : cols;  // the decoder does not see what follows
    double sum = 0;
    std::vector<double> row;
    for (std::int64_t j = 0; j < seen; ++j) {
      const double off = double(j) - double(i) * double(cols) / double(rows) + head - 1;
      row.push_back(std::exp(1.2 * random.normal() - 0.25 * off * off * layer));
      sum += row.back();
    }
    for (std::int64_t j = 0; j < seen; ++j) map.weights[std::size_t(i * cols + j)] = float(row[std::size_t(j)] / sum);
  }
  return map;
}

AttentionPage make_page() {
  AttentionPage page;
  page.title = "Save the file before you close the window.";
  page.source_text = page.title;
  page.target_text = "Speichern Sie die Datei, bevor Sie das Fenster schließen.";
  page.source_tokens = {"▁Save", "▁the", "▁file", "▁before", "▁you", "▁close", "▁the", "▁window", ".", "</s>"};
  page.target_tokens = {"▁Speicher", "n",    "▁Sie",     "▁die",     "▁Datei", ",", "▁bevor",
                        "▁Sie",      "▁das", "▁Fenster", "▁schließ", "en",     ".", "</s>"};
  page.target_inputs = page.target_tokens;
  page.target_inputs.pop_back();
  page.target_inputs.insert(page.target_inputs.begin(), "<s>");
  page.facts = {{"model", "made up for the test"}, {"layers", "2 + 2"}, {"heads", "4"}};
  const auto source = std::int64_t(page.source_tokens.size()), target = std::int64_t(page.target_tokens.size());
  for (int layer = 0; layer < 2; ++layer)
    for (int head = 0; head < 4; ++head) {
      page.maps.push_back(make_map(AttentionKind::encoder, layer, head, source, source));
      page.maps.push_back(make_map(AttentionKind::decoder, layer, head, target, target));
      page.maps.push_back(make_map(AttentionKind::cross, layer, head, target, source));
    }
  return page;
}

nlohmann::json data_of(const std::string& html) {
  const std::string open = "id=\"attention-data\">";
  const std::size_t from = html.find(open) + open.size();
  return nlohmann::json::parse(html.substr(from, html.find("</script>", from) - from));
}

int count(const std::string& text, const std::string& what) {
  int n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(AttentionPage, CarriesEveryTokenAndWeight) {
  const AttentionPage page = make_page();
  const nlohmann::json data = data_of(attention_page_html(page));
  EXPECT_EQ(data["title"], page.title);
  EXPECT_EQ(data["sourceTokens"].get<std::vector<std::string>>(), page.source_tokens);
  EXPECT_EQ(data["targetTokens"].get<std::vector<std::string>>(), page.target_tokens);
  EXPECT_EQ(data["targetInputs"].get<std::vector<std::string>>(), page.target_inputs);
  ASSERT_EQ(data["maps"].size(), page.maps.size());
  for (std::size_t m = 0; m < page.maps.size(); ++m) {
    const nlohmann::json& map = data["maps"][m];
    EXPECT_EQ(map["kind"], name_of(page.maps[m].kind));
    EXPECT_EQ(map["layer"], page.maps[m].layer);
    EXPECT_EQ(map["head"], page.maps[m].head);
    ASSERT_EQ(map["w"].size(), page.maps[m].weights.size());
    for (std::size_t i = 0; i < page.maps[m].weights.size(); ++i)
      ASSERT_NEAR(map["w"][i].get<int>() / 10000.0, page.maps[m].weights[i], 5.1e-5);
  }
}

TEST(AttentionPage, AsksTheNetworkForNothing) {
  const std::string html = attention_page_html(make_page());
  const std::regex request(
      "<(link|img|iframe|object|embed|base)[ >]|\\bsrc *=|\\bhref *=|@import|url\\(|fetch\\(|XMLHttp|import\\(");
  std::smatch found;
  EXPECT_FALSE(std::regex_search(html, found, request)) << found.str();
  // The one address in the page is the name of the SVG vocabulary, which no browser loads.
  EXPECT_EQ(count(html, "http://") + count(html, "https://"), 1);
  EXPECT_EQ(count(html, "http://www.w3.org/2000/svg"), 1);
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(count(html, "</script>"), 2);
  EXPECT_EQ(html.find("Sample"), std::string::npos) << "the sample of viewer/index.html is still there";
}

TEST(AttentionPage, NoTextBecomesMarkup) {
  AttentionPage page;
  const std::string evil = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \" ' & \\ \n viewer.js";
  page.title = page.source_text = page.target_text = evil;
  page.source_tokens = page.target_tokens = {evil};
  page.facts = {{evil, evil}};
  page.maps = {{AttentionKind::cross, 0, 0, 1, 1, {1.0f}}};
  const std::string html = attention_page_html(page);
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_EQ(count(html, "</script>"), 2);
  EXPECT_EQ(count(html, "</title>"), 1);
  const nlohmann::json data = data_of(html);
  EXPECT_EQ(data["title"], evil);
  EXPECT_EQ(data["sourceTokens"][0], evil);
}

TEST(AttentionPage, RefusesWhatItCannotShow) {
  const auto refused = [](auto change, const std::string& expected) {
    AttentionPage page = make_page();
    change(page);
    try {
      attention_page_html(page);
      ADD_FAILURE() << "accepted: " << expected;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  };
  refused([](AttentionPage& p) { p.maps[0].rows = 3; }, "encoder layer 0 head 0 is [10, 10]");
  refused([](AttentionPage& p) { p.maps[2].weights.pop_back(); }, "got 139");
  refused([](AttentionPage& p) { p.maps[1].weights[5] = NAN; }, "weights in 0 .. 1");
  refused([](AttentionPage& p) { p.maps[1].weights[5] = 1.5f; }, "got 1.5");
  refused([](AttentionPage& p) { p.target_inputs.pop_back(); }, "14 target inputs");
  refused([](AttentionPage& p) { p.source_tokens[0] = "\xff\xfe"; }, "UTF-8");
}

TEST(AttentionPage, AnEmptyTranslationIsAPageToo) {
  AttentionPage page;
  page.title = "nothing";
  EXPECT_EQ(data_of(attention_page_html(page))["maps"].size(), 0u);
}

TEST(AttentionPage, WritesTheWholeFile) {
  const std::string path = std::string(ATTUNE_BINARY_DIR) + "/attention_sample.html";
  write_attention_page(path, make_page());
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), attention_page_html(make_page()));
  EXPECT_THROW(write_attention_page(std::string(ATTUNE_BINARY_DIR) + "/no/such/folder/a.html", make_page()), Error);
}

}  // namespace
}  // namespace attune::train
