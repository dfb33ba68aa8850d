// Filling blanks yourself: a bias from one lambda, and a mask as a struct. Both run inside the fused pass, forward and
// backward, and combine with everything else.
#include <attune/attune.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

using namespace attune;

// Several documents packed into one sequence: a token sees its own document only. A mask answers in bits: bit i of
// rows[j] says whether query area.query + i sees key area.key + j.
struct SameDocument {
  static constexpr std::string_view name = "same_document";
  std::vector<int> document;  // [T] which document a token belongs to

  void visible(const Area& area, std::uint64_t* rows) const {
    for (int j = 0; j < area.keys; ++j) {
      rows[j] = 0;
      for (int i = 0; i < area.queries; ++i) {
        const bool same = document[std::size_t(area.query + i)] == document[std::size_t(area.key + j)];
        rows[j] |= std::uint64_t(same) << i;
      }
    }
  }
};

int main() {
  const int tokens = 96;
  SameDocument documents;
  for (int t = 0; t < tokens; ++t) documents.document.push_back(t < 40 ? 0 : t < 70 ? 1 : 2);

  Tensor query = randn({1, 4, tokens, 16}), key = randn({1, 4, tokens, 16}), value = randn({1, 4, tokens, 16});
  key.requires_grad();

  // Called with float, double and dual numbers: `auto`, and functions found by argument (tanh, exp, abs, ...).
  auto capped = pointwise([](auto logit, auto) { return 5.0f * tanh(logit * 0.2f); });
  Attended a = attend(query, key, value, {.bias = capped, .mask = Causal{} & documents}, {.weights = true});

  // Token 50 is the eleventh of its document: its weights on all tokens before that document are exactly 0.
  const std::vector<double> weights = a.weights.to_vector();  // [1, 4, T, T]
  double elsewhere = 0, inside = 0;
  for (int j = 0; j < tokens; ++j) (j >= 40 && j <= 50 ? inside : elsewhere) += weights[std::size_t(50 * tokens + j)];
  std::printf("token 50: %.6f within its document, %.6f elsewhere\n", inside, elsewhere);

  sum(a.out * a.out).backward();
  std::printf("gradient of the keys %s\n", key.grad().shape().text().c_str());
  return elsewhere == 0 && std::fabs(inside - 1) < 1e-5 ? 0 : 1;
}
