// Which calls take the plain path, and what their mask is there.
#include "attention/plain_mask.hpp"

#include <utility>

#include "attention/call.hpp"
#include "attune/attention/mask/all.hpp"

namespace attune::engine {
namespace {

/// The nearer of two bounds; negative is none.
int nearer(int a, int b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

/// A window without bounds is left to the stages: it says nothing, except to tests that compare both paths.
bool says_nothing(const AnyMask& mask) {
  if (const auto* window = mask.as<Window>()) return window->left < 0 && window->right < 0;
  if (const auto* both = mask.as<Both>()) return says_nothing(both->a) || says_nothing(both->b);
  return false;
}

PlainMask of_dilated(const Dilated& d) { return {.window = {d.left, d.right}, .dilation = d.dilation}; }

/// The mask as a window if it is one, or as `other`.
PlainMask window_of(const AnyMask& mask) {
  if (mask.as<Causal>()) return {.window = Causal::window};
  if (const auto* padding = mask.as<Padding>()) return {.padding = padding};
  if (const auto* window = mask.as<Window>()) return {.window = *window};
  if (const auto* local = mask.as<LocalM>(); local && !local->stretched)
    return {.window = {local->half_width, local->half_width}};
  if (const auto* dilated = mask.as<Dilated>()) return of_dilated(*dilated);
  if (const auto* longformer = mask.as<Longformer>(); longformer && longformer->global_tokens.empty())
    return of_dilated(longformer->local());
  if (const auto* both = mask.as<Both>()) {
    PlainMask a = window_of(both->a), b = window_of(both->b);
    if (a.dilation == 1) std::swap(a, b);
    if (!a.other && !b.other && !(a.padding && b.padding) && b.dilation == 1) {
      const auto steps = [&](int keys) { return keys < 0 ? keys : keys / a.dilation; };
      return {.window = {nearer(a.window.left, steps(b.window.left)), nearer(a.window.right, steps(b.window.right))},
              .dilation = a.dilation,
              .padding = a.padding ? a.padding : b.padding};
    }
  }
  return {.other = mask.get()};
}

}  // namespace

PlainMask plain_mask(const AnyMask& mask) {
  if (mask.get() == nullptr) return {};
  if (says_nothing(mask)) return {.fits = false};
  return window_of(mask);
}

std::string why_not_plain(const AttendOptions& o) {
  if (o.position) return "position " + std::string(o.position.name()) + " maps queries and keys";
  if (!o.score.as<ScaledDot>()) return "score " + std::string(o.score.name()) + " is not scaled_dot";
  if (!o.bias.empty()) return "bias " + std::string(o.bias[0].name()) + " changes logits";
  if (!o.normalizer.as<Softmax>()) return "normalizer " + std::string(o.normalizer.name()) + " is not softmax";
  const PlainMask mask = plain_mask(o.mask);
  if (!mask.fits) return "mask " + std::string(o.mask.name()) + " holds a window without bounds";
  if (!mask.is_range() && o.dropout_p > 0)
    return "mask " + std::string(o.mask.name()) + " with dropout is neither a window nor padding";
  return "";
}
bool is_plain(const AttendOptions& o) { return why_not_plain(o).empty(); }

}  // namespace attune::engine
