// Pages of viewer/ put together: a page, its style sheet and its script become one file that asks the network for
// nothing, with data inside.
#pragma once
#include <string>
#include <string_view>

namespace attune::train {

struct PageParts {
  std::string_view html, css, js;       // the three files
  std::string_view css_link, js_link;   // the elements of `html` that name the other two
  std::string_view data_open;           // the start tag of the script element that holds data
  std::string_view connect = "'none'";  // where the page may ask for more, in the words of its security policy
};

/// The page with this title and this JSON. No text in it can become markup: every '<' of the data is written \u003c.
/// Throws Error if `html` lacks one of the places to fill.
std::string assemble_page(const PageParts& parts, std::string_view title, std::string_view json);

}  // namespace attune::train
