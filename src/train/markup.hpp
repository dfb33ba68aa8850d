// Text in pages and pictures, and the plain page that reports stand on. Private.
#pragma once
#include <string>
#include <string_view>

namespace attune::train {

/// Text as it stands in markup, between tags or in a quoted attribute.
std::string escaped(std::string_view text);
/// A self-contained page, light and dark, around a body of headings, tables and pictures. Each is markup already.
std::string report_page(std::string_view title, std::string_view body);

}  // namespace attune::train
