// Links give way to what they link, sample data to data.
#include "train/page_parts.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "train/markup.hpp"

namespace attune::train {
namespace {

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (;;) {
    const std::size_t at = text.find(from);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += to;
    text.remove_prefix(at + from.size());
  }
}

// Puts `content` in place of what stands from the end of `before` to the start of `after`.
void fill(std::string& html, std::string_view before, std::string_view after, std::string_view content) {
  const std::size_t start = html.find(before);
  const std::size_t from = start == std::string::npos ? start : start + before.size();
  const std::size_t to = from == std::string::npos ? from : html.find(after, from);
  if (to == std::string::npos) fail("assemble_page", fmt::format("a page with {}", before), "it has none");
  html.replace(from, to - from, content);
}

}  // namespace

std::string assemble_page(const PageParts& parts, std::string_view title, std::string_view json) {
  std::string html(parts.html);
  fill(html, "<!--", "-->", " Written by attune. ");
  fill(html, "<title>", "</title>", escaped(title));
  fill(html, parts.data_open, "</script>", replaced(json, "<", "\\u003c"));
  // The policy forbids the page every other request, whatever a later edit of the script tries.
  html = replaced(html, parts.css_link,
                  fmt::format("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                              "'unsafe-inline'; script-src 'unsafe-inline'; connect-src {}\">\n<style>\n{}</style>",
                              parts.connect, parts.css));
  return replaced(html, parts.js_link, fmt::format("<script>\n{}</script>", parts.js));
}

}  // namespace attune::train
