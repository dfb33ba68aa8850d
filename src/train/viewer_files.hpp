// The files of viewer/ as texts, byte for byte. Their definitions are generated when the project is configured.
#pragma once
#include <string_view>

namespace attune::train {

extern const std::string_view kViewerHtml, kViewerCss, kViewerJs;
extern const std::string_view kDashboardHtml, kDashboardCss, kDashboardJs;

}  // namespace attune::train
