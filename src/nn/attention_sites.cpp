// Asking a tree of modules where it attends, and what it sees there.
#include "attune/nn/attention_sites.hpp"

#include <utility>

namespace attune::nn {
namespace {

std::string name_of_site(const std::string& module, std::string_view site) {
  std::string name = module;
  if (!module.empty() && !site.empty()) name += '.';
  return name.append(site);
}

}  // namespace

std::vector<AttentionSite> Module::own_sites() const { return {}; }

void Module::saw(std::string_view site, Statistics statistics) const {
  if (watch_) watch_->seen_.push_back({name_of_site(watched_name_, site), std::move(statistics)});
}

std::vector<AttentionSite> attention_sites(Module& model) {
  std::vector<AttentionSite> sites;
  model.visit([&](const std::string& name, Module& module) {
    for (AttentionSite& site : module.own_sites()) {
      site.name = name_of_site(name, site.name);
      sites.push_back(std::move(site));
    }
  });
  return sites;
}

AttentionWatch::AttentionWatch(Module& model, std::vector<SiteStatistics>& seen) : model_(model), seen_(seen) {
  model.visit([&](const std::string& name, Module& module) {
    module.watch_ = this;
    module.watched_name_ = name;
  });
}
AttentionWatch::~AttentionWatch() {
  model_.visit([&](const std::string&, Module& module) {
    if (module.watch_ == this) module.watch_ = nullptr;
  });
}

}  // namespace attune::nn
