#include "train/markup.hpp"

#include <fmt/format.h>

namespace attune::train {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string report_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{}</title><style>"
      "body{{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 "
      "1em;color:#222;background:#fff}}"
      "table{{border-collapse:collapse;font-size:14px;display:block;overflow-x:auto}}"
      "td,th{{padding:.25em .7em;border-bottom:1px solid #ccc;text-align:right}}"
      "td:nth-child(-n+2),th:nth-child(-n+2){{text-align:left}}svg{{max-width:100%;height:auto}}"
      "@media(prefers-color-scheme:dark){{body{{color:#e6e6e6;background:#16181c}}td,th{{border-color:#444}}a{{color:#"
      "7ab8ff}}}}</style>"
      "{}</html>\n",
      title, body);
}

}  // namespace attune::train
