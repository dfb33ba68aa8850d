// The scales, the frame and the lines of a chart.
#include "attune/train/chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "train/markup.hpp"

namespace attune::train {
namespace {

/// Okabe and Ito's palette without black and yellow, dark enough for white and light enough for black paper.
constexpr std::array<const char*, 7> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#b8860b", "#56b4e9", "#8a63d2"};
constexpr int kMarkers = 5;
constexpr double kLabelHeight = 14;  // pixels between two labels at the lines' ends

/// One axis: values to pixels.
class Scale {
 public:
  Scale(bool logarithmic, double pixel_low, double pixel_high)
      : log_(logarithmic), pixel_low_(pixel_low), pixel_high_(pixel_high) {}
  bool takes(double v) const { return std::isfinite(v) && (!log_ || v > 0); }
  void include(double v) {
    if (!takes(v)) return;
    low_ = std::min(low_, inner(v));
    high_ = std::max(high_, inner(v));
  }
  bool empty() const { return low_ > high_; }
  /// Leaves some air at both ends.
  void settle(double air) {
    if (high_ - low_ < 1e-12) {
      const double half = log_ ? 0.5 : std::max(0.5, std::abs(low_) * 0.1);
      low_ -= half;
      high_ += half;
    }
    const double more = (high_ - low_) * air;
    low_ -= more;
    high_ += more;
  }
  double operator()(double v) const {
    return pixel_low_ + (inner(v) - low_) / (high_ - low_) * (pixel_high_ - pixel_low_);
  }
  /// Round values, about `most` of them.
  std::vector<double> ticks(int most) const {
    std::vector<double> out;
    if (log_) {
      const int first = int(std::ceil(low_ - 1e-9)), last = int(std::floor(high_ + 1e-9));
      if (last - first >= 1) {
        const int every = (last - first) / most + 1;
        for (int e = first; e <= last; e += every) out.push_back(std::pow(10.0, e));
        if (last - first <= 2) {  // few decades: 3 of each as well
          for (int e = first - 1; e <= last; ++e) {
            const double v = 3 * std::pow(10.0, e);
            if (inner(v) >= low_ && inner(v) <= high_) out.push_back(v);
          }
        }
        return out;
      }
      for (const double v : {1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0}) {
        const double value = v * std::pow(10.0, std::floor(low_));
        if (inner(value) >= low_ && inner(value) <= high_) out.push_back(value);
      }
      return out;
    }
    const double raw = (high_ - low_) / most, power = std::pow(10.0, std::floor(std::log10(raw)));
    const double step = raw / power <= 1   ? power
                        : raw / power <= 2 ? 2 * power
                        : raw / power <= 5 ? 5 * power
                                           : 10 * power;
    for (double v = std::ceil(low_ / step) * step; v <= high_ + 1e-9 * step; v += step)
      out.push_back(std::abs(v) < 1e-9 * step ? 0 : v);
    return out;
  }

 private:
  double inner(double v) const { return log_ ? std::log10(v) : v; }
  bool log_;
  double pixel_low_, pixel_high_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

std::string marker(std::size_t kind, double x, double y, const char* colour, bool hollow, const std::string& note) {
  const std::string look = hollow ? fmt::format("class=\"paper\" stroke=\"{}\" stroke-width=\"1.8\"", colour)
                                  : fmt::format("fill=\"{}\"", colour);
  const std::string inside = note.empty() ? "" : fmt::format("<title>{}</title>", escaped(note));
  constexpr double r = 4;
  switch (kind % kMarkers) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" {}>{}</circle>\n", x, y, r, look, inside);
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\" {}>{}</rect>\n", x - 3.5, y - 3.5,
                         look, inside);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.6 8h-9.2z\" {}>{}</path>\n", x, y - 4.8, look, inside);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.8 4.8l-4.8 4.8l-4.8 -4.8z\" {}>{}</path>\n", x, y - 4.8, look,
                         inside);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.6 -8h-9.2z\" {}>{}</path>\n", x, y + 4.8, look, inside);
  }
}

/// Labels at the lines' ends, moved apart until none covers another.
void spread(std::vector<std::pair<double, std::size_t>>& labels, double top, double bottom) {
  std::sort(labels.begin(), labels.end());
  for (std::size_t i = 1; i < labels.size(); ++i)
    labels[i].first = std::max(labels[i].first, labels[i - 1].first + kLabelHeight);
  if (!labels.empty() && labels.back().first > bottom) labels.back().first = bottom;
  for (std::size_t i = labels.size(); i-- > 1;)
    labels[i - 1].first = std::min(labels[i - 1].first, labels[i].first - kLabelHeight);
  if (!labels.empty() && labels.front().first < top) labels.front().first = top;
}

}  // namespace

std::string axis_text(double value) {
  if (value == 0) return "0";
  const double magnitude = std::abs(value);
  return magnitude >= 1e5 || magnitude < 1e-3 ? fmt::format("{:.3g}", value) : fmt::format("{:.4g}", value);
}

std::string chart_svg(const ChartOptions& options, const std::vector<ChartLine>& lines) {
  std::size_t longest = 0;
  for (const ChartLine& line : lines) longest = std::max(longest, line.name.size());
  const double left = 64, right = options.width - 20 - 8.2 * double(longest), top = options.title.empty() ? 16 : 42,
               bottom = options.height - 52 - 6.0 * double(options.spans.size());
  Scale x(options.log_x, left, right), y(options.log_y, bottom, top);
  for (const ChartLine& line : lines) {
    for (const ChartPoint& p : line.points) {
      if (!x.takes(p.x) || !y.takes(p.y)) continue;
      x.include(p.x);
      for (const double v : {p.y, p.low, p.high}) y.include(v);
    }
  }
  if (x.empty() || y.empty())
    fail("chart_svg", "a point that can be drawn", "none is finite (and positive, where an axis is logarithmic)");
  x.settle(0.02);
  y.settle(0.05);

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" "
      "aria-label=\"{2}\" font-family=\"system-ui,sans-serif\" font-size=\"12\">\n<style>"
      "text{{fill:#222}}.soft{{fill:#666}}.grid{{stroke:#ddd}}.rule{{stroke:#888;stroke-dasharray:5 "
      "4}}.paper{{fill:#fff}}"
      "@media(prefers-color-scheme:dark){{text{{fill:#e6e6e6}}.soft{{fill:#a0a0a0}}.grid{{stroke:#3a3a3a}}"
      ".paper{{fill:#16181c}}}}</style>\n<rect class=\"paper\" width=\"{0}\" height=\"{1}\"/>\n",
      options.width, options.height, escaped(options.title));
  if (!options.title.empty())
    out += fmt::format("<text x=\"{}\" y=\"22\" font-size=\"15\" font-weight=\"600\">{}</text>\n", left,
                       escaped(options.title));

  for (const double v : x.ticks(9)) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text class=\"soft\" x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        x(v), top, bottom, bottom + 16, axis_text(v));
  }
  for (const double v : y.ticks(6)) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"soft\" x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        left, right, y(v), left - 8, y(v) + 4, axis_text(v));
  }
  out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", (left + right) / 2,
                     options.height - 10, escaped(options.x_label));
  out += fmt::format("<text transform=\"translate(16 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     (top + bottom) / 2, escaped(options.y_label));

  for (const ChartRule& rule : options.rules_y) {
    if (!y.takes(rule.at) || y(rule.at) < top || y(rule.at) > bottom) continue;
    out += fmt::format(
        "<line class=\"rule\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"soft\" x=\"{3}\" y=\"{4:.1f}\">{5}</text>\n",
        left, right, y(rule.at), left + 4, y(rule.at) - 4, escaped(rule.label));
  }
  for (const ChartRule& rule : options.rules_x) {
    if (!x.takes(rule.at) || x(rule.at) < left || x(rule.at) > right) continue;
    out += fmt::format(
        "<line class=\"rule\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text class=\"soft\" transform=\"translate({3:.1f} {4}) rotate(-90)\" text-anchor=\"end\">{5}</text>\n",
        x(rule.at), top, bottom, x(rule.at) + 12, top + 2, escaped(rule.label));
  }

  std::vector<std::pair<double, std::size_t>> labels;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const char* colour = kColours[i % kColours.size()];
    std::string path, upper, lower;
    std::vector<std::string> back;  // of the band, from right to left
    const auto close_band = [&] {
      if (upper.empty()) return;
      for (std::size_t k = back.size(); k-- > 0;) lower += back[k];
      out += fmt::format("<path d=\"{}{}z\" fill=\"{}\" opacity=\"0.13\"/>\n", upper, lower, colour);
      upper.clear();
      lower.clear();
      back.clear();
    };
    bool inside = false;
    double last_y = std::numeric_limits<double>::quiet_NaN();
    for (const ChartPoint& p : lines[i].points) {
      if (!x.takes(p.x) || !y.takes(p.y)) {
        inside = false;
        close_band();
        continue;
      }
      const double px = x(p.x);
      path += fmt::format("{}{:.1f} {:.1f}", inside ? "L" : "M", px, y(p.y));
      if (y.takes(p.low) && y.takes(p.high) && p.low < p.high) {
        upper += fmt::format("{}{:.1f} {:.1f}", upper.empty() ? "M" : "L", px, y(p.high));
        back.push_back(fmt::format("L{:.1f} {:.1f}", px, y(p.low)));
      } else {
        close_band();
      }
      inside = true;
      last_y = y(p.y);
    }
    close_band();
    if (path.empty()) continue;
    out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>\n",
                       path, colour);
    if (lines[i].markers) {
      for (const ChartPoint& p : lines[i].points)
        if (x.takes(p.x) && y.takes(p.y)) out += marker(i, x(p.x), y(p.y), colour, p.hollow, p.note);
    }
    labels.emplace_back(last_y, i);
  }
  spread(labels, top + 4, bottom);
  for (const auto& [at, i] : labels) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" style=\"fill:{}\" font-weight=\"600\">{}</text>\n", right + 8,
                       at + 4, kColours[i % kColours.size()], escaped(lines[i].name));
  }
  for (std::size_t k = 0; k < options.spans.size(); ++k) {
    const ChartSpan& span = options.spans[k];
    if (!x.takes(span.from) || !x.takes(span.to)) continue;
    out += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\" stroke-width=\"3.5\" "
        "stroke-linecap=\"round\"/>\n",
        x(span.from), x(span.to), bottom + 24 + 6.0 * double(k), kColours[span.line % kColours.size()]);
  }
  return out + "</svg>\n";
}

}  // namespace attune::train
