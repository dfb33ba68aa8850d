// Positions against other people's code: the cases that tools/make_position_golden.py took from transformers, timm,
// rotary-embedding-torch and PyTorch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "golden/cases.hpp"

namespace attune::golden {
namespace {

double difference(const std::vector<double>& x, const std::vector<double>& y) {
  double worst = x.size() == y.size() ? 0 : 1;
  for (std::size_t n = 0; n < std::min(x.size(), y.size()); ++n) worst = std::max(worst, std::abs(x[n] - y[n]));
  return worst;
}

TEST(PositionsOfOthers, RowsAndTheGradientOfATable) {
  const auto cases = read_cases("positions");
  EXPECT_GE(cases.size(), 13u);
  for (const auto& c : cases) {
    const std::string name = c["position"], what = name + " " + c["options"].dump();
    const auto rows = c["rows"].get<std::vector<double>>(), want = c["out"].get<std::vector<double>>();
    const int dim = c["dim"], n = int(rows.size()) / dim, keys = c["num_keys"];
    const AttendShape shape{1, 1, 1, n, keys, dim, dim, dim};
    const AnyPosition position = position_named(name, options_of(c["options"]), shape);
    const auto* stage = position.on<double>();
    stage->check(shape);
    const bool learned = c.contains("table");
    const auto table = c.value("table", std::vector<double>());
    std::vector<double> dtable(table.size()), out(rows.size()), drows(rows.size()), memory;
    const Parameter<double> parameter{table.data(), dtable.data()};
    Call<double> call{{&parameter, learned ? std::size_t(1) : 0}, &memory};
    const Side side = c["side"] == "query" ? Side::query : Side::key;
    const Area area{&shape, 0, 0, 0, 0, n, 0, keys, 0};
    const auto matrix = [&](auto& v) { return Matrix<std::remove_reference_t<decltype(v[0])>>{v.data(), n, dim, dim}; };
    stage->map(side, matrix(rows), matrix(out), area, call);
    EXPECT_LE(difference(out, want), c["tolerance"].get<double>()) << what;
    if (!learned) continue;
    const auto dout = c["dout"].get<std::vector<double>>();
    stage->map_backward(side, matrix(rows), matrix(dout), matrix(drows), area, call);
    EXPECT_LE(difference(drows, dout), 0) << what;
    EXPECT_LE(difference(dtable, c["dtable"].get<std::vector<double>>()), 1e-12) << what;
  }
}

}  // namespace
}  // namespace attune::golden
