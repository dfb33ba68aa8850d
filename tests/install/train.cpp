// What a user of the installed training library sees: its headers compile and its static library brings its needs
// along.
#include <attune/train/attention_page.hpp>
#include <cstdio>

int main() {
  attune::train::AttentionPage page;
  page.title = "installed";
  page.source_tokens = {"a", "b"};
  page.target_tokens = {"c"};
  page.maps = {{attune::train::AttentionKind::cross, 0, 0, 1, 2, {0.25f, 0.75f}}};
  const std::string html = attune::train::attention_page_html(page);
  if (html.find("7500") == std::string::npos) return 1;
  std::printf("attune_train works from outside: a page of %zu bytes\n", html.size());
}
