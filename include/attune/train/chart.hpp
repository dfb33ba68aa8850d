// Line charts as SVG: one self-contained picture that reads well on light and dark pages, in print and without colour.
//
// Lines differ by colour (a palette that colour-blind people can tell apart), by marker and by a label at their end.
// A point may carry the range of its repeats, drawn as a band, and may be hollow: a value that is no measurement, such
// as that of a run that diverged. Values that are not finite, or not positive on a logarithmic axis, break the line.
#pragma once
#include <string>
#include <vector>

namespace attune::train {

struct ChartPoint {
  double x = 0, y = 0;
  double low = y, high = y;  // of the band
  bool hollow = false;
  std::string note;  // shown beside the pointer
};

struct ChartLine {
  std::string name;
  std::vector<ChartPoint> points;  // in order of x
  bool markers = true;
};

/// A line across the picture at one value of y, or up and down it at one value of x; left out where it lies beyond the
/// points, so that it does not flatten them.
struct ChartRule {
  double at = 0;
  std::string label;
};

/// A stretch of x under the axis, in the colour of a line: where that line is usable, say.
struct ChartSpan {
  std::size_t line = 0;  // index into the lines
  double from = 0, to = 0;
};

struct ChartOptions {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  std::vector<ChartRule> rules_y, rules_x;
  std::vector<ChartSpan> spans;
  int width = 760, height = 420;  // pixels at the picture's natural size
};

/// The picture, as SVG text. Throws Error if no point can be drawn.
std::string chart_svg(const ChartOptions& options, const std::vector<ChartLine>& lines);

/// A number as an axis shows it: 0.001, 0.25, 40, 1e6.
std::string axis_text(double value);

}  // namespace attune::train
