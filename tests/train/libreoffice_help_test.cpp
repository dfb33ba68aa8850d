// The rules that turn help pages into sentence pairs, on pages of our own in the same form (tests/golden/data/help).
#include "attune/train/libreoffice_help.hpp"

#include <gtest/gtest.h>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

const std::filesystem::path kPages = std::filesystem::path(ATTUNE_SOURCE_DIR) / "tests/golden/data/help";

std::vector<std::string> texts(std::string_view html) {
  std::vector<std::string> found;
  for (const HelpParagraph& paragraph : read_help_page(html)) found.push_back(paragraph.id + "=" + paragraph.text);
  return found;
}

TEST(HelpPage, ParagraphsAreElementsWithAnIdOfTheirKind) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(texts("<p id=\"par_id1\">one</p><h6 id=\"hd_id2\">two</h6><td id=\"par_x\">lost</td>"
                  "<table><tr><td id=\"par_id3\">three</td></tr></table><ul><li id='par_id4'>four</li></ul>"),
            (Texts{"par_id1=one", "hd_id2=two", "par_id3=three", "par_id4=four"}));
  EXPECT_EQ(texts("<div id=\"par_id1\">one</div><p id=\"id2\">two</p><p>three</p><p id=\"par_id4\"> </p>"), Texts{});
  EXPECT_EQ(texts("<p id=\"par_id1\">first</p><p id=\"par_id1\">second</p>"), Texts{"par_id1=first"});
  // A cell and the paragraph in it are both paragraphs.
  EXPECT_EQ(texts("<ul><li id=\"par_id1\">a <p id=\"par_id2\">b</p></li></ul>"), (Texts{"par_id1=a b", "par_id2=b"}));
}

TEST(HelpPage, WhatAReaderSees) {
  const auto text = [](const std::string& inside) {
    const std::vector<HelpParagraph> found = read_help_page("<p id=\"par_id1\">" + inside + "</p>");
    return found.empty() ? "" : found[0].text;
  };
  EXPECT_EQ(text("a<br>b<br/>c"), "a b c");
  EXPECT_EQ(text("  a\n\t b&nbsp;\u2003c  "), "a b c");
  EXPECT_EQ(text("x &lt;b&gt; &amp; &#228; &quot;"), "x <b> & ä \"");
  EXPECT_EQ(text("a<!-- hidden --> <script>if (x < 1) y();</script><style>p {}</style>b"), "a b");
  EXPECT_EQ(text("key <span class=\"MAC\"><span>Command</span><span>Cmd</span></span><span>Ctrl</span>+S"),
            "key Ctrl+S");
  EXPECT_EQ(text("<a href=\"x\">li<b>nk</b></a>ed"), "linked");
  EXPECT_THROW(read_help_page("<p id=\"par_id1\">\xff</p>"), Error);
  EXPECT_TRUE(read_help_page("").empty());
}

TEST(HelpPage, Sentences) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(split_sentences("One. Two! Three? Four"), (Texts{"One.", "Two!", "Three?", "Four"}));
  EXPECT_EQ(split_sentences("Version 7.4. of e.g. this, 3. Next"), (Texts{"Version 7.4. of e.g. this, 3.", "Next"}));
  EXPECT_EQ(split_sentences("Eins. Öffnen. übrig."), (Texts{"Eins.", "Öffnen. übrig."}));
  EXPECT_EQ(split_sentences("a.B.C"), Texts{"a.B.C"});
  EXPECT_EQ(split_sentences(""), Texts{});
  EXPECT_EQ(split_sentences("一。二！ 三？四", true), (Texts{"一。", "二！", "三？", "四"}));
  EXPECT_EQ(split_sentences("一. 二。", true), (Texts{"一.", "二。"}));
}

TEST(LibreofficeHelp, PairsOfTheFixture) {
  for (const std::string language : {"de", "zh-CN"}) {
    HelpCounts counts;
    const ParallelText text =
        read_libreoffice_help(kPages / "en-US/text", kPages / language / "text", language, &counts);
    const std::filesystem::path expected = kPages / ("expected-" + language);
    EXPECT_EQ(text.train, read_tsv(expected / "train.tsv")) << language;
    EXPECT_EQ(text.test, read_tsv(expected / "test.tsv")) << language;
    if (language == "de") {
      EXPECT_EQ(text.valid, read_tsv(expected / "valid.tsv"));
      EXPECT_EQ(counts, (HelpCounts{.pages = 3, .pairs = 20, .train = 9, .valid = 4, .test = 3}));
    } else {
      EXPECT_TRUE(text.valid.empty());
    }
  }
}

TEST(LibreofficeHelp, ThreadsChangeNothing) {
  const int threads = num_threads();
  const auto read = [] { return read_libreoffice_help(kPages / "en-US/text", kPages / "de/text", "de"); };
  set_num_threads(1);
  const ParallelText one = read();
  set_num_threads(3);
  EXPECT_EQ(read().train, one.train);
  set_num_threads(threads);
}

TEST(LibreofficeHelp, NothingToReadIsAnError) {
  const attune::testing::TemporaryFolder folder;
  EXPECT_THROW(read_libreoffice_help(folder / "absent", kPages / "de/text", "de"), Error);
  EXPECT_THROW(read_libreoffice_help(folder.path(), kPages / "de/text", "de"), Error);
  // The same language twice: every pair is untranslated.
  EXPECT_THROW(read_libreoffice_help(kPages / "de/text", kPages / "de/text", "de"), Error);
}

}  // namespace
}  // namespace attune::train
