// One help page: from HTML to paragraphs, from paragraphs to sentences. The rules stand in train/libreoffice_help.hpp.
#include <fmt/format.h>
#include <gumbo.h>

#include <memory>
#include <unordered_set>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/train/libreoffice_help.hpp"
#include "train/unicode.hpp"

namespace attune::train {
namespace {

std::string_view attribute(const GumboElement& element, const char* name) {
  const GumboAttribute* found = gumbo_get_attribute(&element.attributes, name);
  return found == nullptr ? std::string_view() : std::string_view(found->value);
}

bool holds_paragraph(const GumboElement& element) {
  switch (element.tag) {
    case GUMBO_TAG_P:
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
    case GUMBO_TAG_TD:
    case GUMBO_TAG_LI:
      break;
    default:
      return false;
  }
  const std::string_view id = attribute(element, "id");
  return id.starts_with("par_") || id.starts_with("hd_");
}

/// What a reader on Linux does not see: scripts, styles, and the names that menus have on a Mac.
bool is_hidden(const GumboElement& element) {
  return element.tag == GUMBO_TAG_SCRIPT || element.tag == GUMBO_TAG_STYLE ||
         (element.tag == GUMBO_TAG_SPAN && attribute(element, "class") == "MAC");
}

/// Visits the nodes below `root` in the order of the page. Without recursion: the depth of a page is not ours to limit.
/// f(node) says whether to go into the children.
template <class F>
void walk(const GumboNode* root, F&& f) {
  std::vector<const GumboNode*> ahead{root};
  while (!ahead.empty()) {
    const GumboNode* node = ahead.back();
    ahead.pop_back();
    if (!f(*node)) continue;
    const bool is_element = node->type == GUMBO_NODE_ELEMENT || node->type == GUMBO_NODE_TEMPLATE;
    if (!is_element && node->type != GUMBO_NODE_DOCUMENT) continue;
    const GumboVector& children = is_element ? node->v.element.children : node->v.document.children;
    for (unsigned i = children.length; i > 0; --i) ahead.push_back(static_cast<const GumboNode*>(children.data[i - 1]));
  }
}

std::string text_of(const GumboNode& paragraph) {
  std::string text;
  walk(&paragraph, [&](const GumboNode& node) {
    switch (node.type) {
      case GUMBO_NODE_ELEMENT:
        if (node.v.element.tag == GUMBO_TAG_BR) text += ' ';
        return !is_hidden(node.v.element);
      case GUMBO_NODE_TEXT:
      case GUMBO_NODE_CDATA:
      case GUMBO_NODE_WHITESPACE:
        text += node.v.text.text;
        return false;
      default:
        return true;
    }
  });
  return unicode::collapse_spaces(text);
}

bool ends_sentence(std::int32_t c) { return c == '.' || c == '!' || c == '?'; }
bool ends_full_width_sentence(std::int32_t c) { return c == 0x3002 || c == 0xff01 || c == 0xff1f; }  // 。！？

}  // namespace

std::vector<HelpParagraph> read_help_page(std::string_view html) {
  if (const std::int64_t at = unicode::first_invalid(html); at >= 0)
    fail("read_help_page", "a page in UTF-8", fmt::format("byte {} is not", at + 1));
  GumboOptions options = kGumboDefaultOptions;
  options.max_errors = 0;
  const auto destroy = [&](GumboOutput* output) { gumbo_destroy_output(&options, output); };
  const std::unique_ptr<GumboOutput, decltype(destroy)> page(
      gumbo_parse_with_options(&options, html.data(), html.size()), destroy);
  if (page == nullptr) fail("read_help_page", "a page of HTML", "it cannot be parsed");

  std::vector<HelpParagraph> paragraphs;
  std::unordered_set<std::string> ids;
  walk(page->document, [&](const GumboNode& node) {
    if (node.type != GUMBO_NODE_ELEMENT || !holds_paragraph(node.v.element)) return true;
    std::string text = text_of(node);
    std::string id(attribute(node.v.element, "id"));
    if (!text.empty() && ids.insert(id).second) paragraphs.push_back({std::move(id), std::move(text)});
    return true;  // a cell may hold paragraphs of its own
  });
  return paragraphs;
}

std::vector<std::string> split_sentences(std::string_view paragraph, bool full_width) {
  struct Place {
    std::int32_t code_point;
    std::size_t begin, end;
  };
  std::vector<Place> places;
  unicode::for_each(paragraph, [&](std::int32_t c, std::size_t at, std::int64_t bytes) {
    places.push_back({c, at, at + std::size_t(bytes)});
  });

  std::vector<std::string> sentences;
  const auto take = [&](std::size_t begin, std::size_t end) {
    const std::string_view sentence = unicode::trim(paragraph.substr(begin, end - begin));
    if (!sentence.empty()) sentences.emplace_back(sentence);
  };
  std::size_t begin = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::int32_t c = places[i].code_point;
    if (!ends_sentence(c) && !(full_width && ends_full_width_sentence(c))) continue;
    std::size_t next = i + 1;
    while (next < places.size() && unicode::is_space(places[next].code_point)) ++next;
    const bool cut = full_width || (next > i + 1 && next < places.size() && unicode::is_upper(places[next].code_point));
    if (!cut) continue;
    take(begin, places[i].end);
    begin = places[i].end;
  }
  take(begin, paragraph.size());
  return sentences;
}

}  // namespace attune::train
