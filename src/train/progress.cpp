// The progress line: its numbers in few characters, and when it is written.
#include "attune/train/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attune/train/clock.hpp"

namespace attune::train {
namespace {

/// 1.9e-3: two digits, and no zero in the exponent.
std::string short_exponent(double x) {
  std::string text = fmt::format("{:.1e}", x);
  const std::size_t e = text.find('e');
  if (e == std::string::npos) return text;  // nan, inf
  const int exponent = std::stoi(text.substr(e + 1));
  return text.substr(0, e) + (exponent == 0 ? "" : fmt::format("e{}", exponent));
}

/// 812, 31.2k, 1.25M.
std::string short_count(double x) {
  if (x >= 999'950) return fmt::format("{:.2f}M", x / 1e6);
  if (x >= 999.5) return fmt::format("{:.1f}k", x / 1e3);
  return fmt::format("{:.0f}", x);
}

/// .62, and 1.00.
std::string short_share(double x) {
  std::string text = fmt::format("{:.2f}", x);
  if (text.starts_with("0.")) text.erase(0, 1);
  return text;
}

/// 2:31, 1:02:31.
std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const std::int64_t s = std::llround(std::clamp(seconds, 0.0, 3.6e8));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

std::string progress_text(const ProgressState& p) {
  const double percent = p.steps > 0 ? std::floor(100.0 * double(p.step) / double(p.steps)) : 0;
  std::string text = fmt::format("step {}/{}  {:.0f} %  loss {:.2f}  lr {}  {} tok/s", p.step, p.steps, percent, p.loss,
                                 short_exponent(p.learning_rate), short_count(p.tokens_per_second));
  if (p.max_logit) text += fmt::format("  logit {:.{}f}", *p.max_logit, std::abs(*p.max_logit) < 9.95 ? 1 : 0);
  if (p.entropy) text += "  entropy " + short_share(*p.entropy);
  return text + "  eta " + duration(p.seconds_left);
}

Progress::Progress(std::ostream& out, ProgressOptions options) : out_(out), options_(std::move(options)) {
  if (!options_.now) options_.now = steady_seconds;
  next_ = options_.now();
}

Progress::~Progress() { end_line(); }

bool Progress::due() const { return options_.now() >= next_; }

void Progress::show(const ProgressState& state) {
  if (!due()) return;
  next_ = options_.now() + (options_.terminal ? options_.terminal_interval : options_.plain_interval);
  write(state);
}

void Progress::finish(const ProgressState& state) {
  write(state);
  end_line();
}

void Progress::note(const std::string& text) {
  if (line_stands_) out_ << "\r\x1b[K";
  line_stands_ = false;
  out_ << text << '\n' << std::flush;
}

void Progress::write(const ProgressState& state) {
  std::string text = progress_text(state);
  if (!options_.terminal) {
    out_ << text << '\n' << std::flush;
    return;
  }
  // A line that wraps cannot be rewritten.
  if (options_.columns > 0 && int(text.size()) >= options_.columns) text.resize(std::size_t(options_.columns - 1));
  out_ << '\r' << text << "\x1b[K" << std::flush;
  line_stands_ = true;
}

void Progress::end_line() {
  if (line_stands_) out_ << '\n' << std::flush;
  line_stands_ = false;
}

}  // namespace attune::train
