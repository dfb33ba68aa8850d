// The flag that SIGINT and SIGTERM set, and the handlers around it.
#include "attune/train/signals.hpp"

#include <signal.h>

#include <array>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

// The only thing that a handler may write to.
volatile sig_atomic_t received = 0;
bool installed = false;
constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};
std::array<struct sigaction, kSignals.size()> before;

extern "C" void remember(int signal) { received = signal; }

}  // namespace

StopOnSignal::StopOnSignal() {
  if (installed) fail("StopOnSignal", "one at a time", "there is one already");
  received = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  sigemptyset(&action.sa_mask);
  // Reset: the second of a kind has its default effect. Restart: system calls under way go on.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before[i]);
  installed = true;
}

StopOnSignal::~StopOnSignal() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
  installed = false;
}

bool StopOnSignal::requested() const { return received != 0; }

int StopOnSignal::signal() const { return received; }

}  // namespace attune::train
