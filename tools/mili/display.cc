#include "tools/mili/display.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/clock.h>

#include "common/base/strings.h"

namespace mili {
namespace {

constexpr absl::Duration kLongestSilence = absl::Milliseconds(1800);
constexpr absl::Duration kDrainNotes = absl::Seconds(10);
constexpr size_t kBarWidth = 30;

std::string Megabytes(uint64_t bytes) {
  const double mb = static_cast<double>(bytes) / 1e6;
  return mb >= 10000 ? absl::StrFormat("%.1f GB", mb / 1000) : absl::StrFormat("%.0f MB", mb);
}

std::string Seconds(absl::Duration duration) {
  return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(duration));
}

}  // namespace

Display::Display(Options options)
    : options_(std::move(options)),
      ready_pipe_(options_.ready_fd),
      logger_({.format = options_.format, .program = "mili", .out = options_.out}),
      started_(absl::Now()),
      last_output_(started_) {}

Display::~Display() { ClearBar(); }

void Display::OnLogLine(std::string_view line) {
  if (options_.is_quiet) return;
  ClearBar();
  const std::string text = absl::StrCat(ToAbsl(line), "\n");
  std::fwrite(text.data(), 1, text.size(), options_.out);
  std::fflush(options_.out);
  last_output_ = absl::Now();
  if (!was_ready_ && bytes_total_ != 0) ShowBar();
}

void Display::OnListening(const ReadyPipe::Fields& addresses) {
  addresses_ = addresses;
  ready_pipe_.Listening(addresses);
}

void Display::OnLoading(uint64_t bytes_done, uint64_t bytes_total) {
  bytes_done_ = bytes_done;
  bytes_total_ = bytes_total;
  ready_pipe_.Loading(bytes_done, bytes_total);
  if (!was_ready_) ShowBar();
}

void Display::OnReady() {
  ready_pipe_.Ready();
  ClearBar();
  if (options_.is_quiet) {
    was_ready_ = true;
    return;
  }
  // Later ones stand in the router's log.
  if (!std::exchange(was_ready_, true)) PrintReady();
  last_output_ = absl::Now();
}

void Display::PrintReady() {
  const std::string http = AddressOf("http");
  const std::string grpc = AddressOf("grpc");
  const std::string took = Seconds(absl::Now() - started_);
  if (options_.format == LogFormat::kJson) {
    logger_.Info("ready", {{"model", options_.model},
                           {"http", http},
                           {"grpc", grpc},
                           {"admin", AddressOf("admin")},
                           {"start", took}});
    return;
  }
  std::fprintf(options_.out,
               "\nReady after %s: %s\n"
               "  HTTP   http://%s    gRPC  %s\n"
               "  Try    mili chat --server %s\n"
               "         curl http://%s/v1/completions -H 'Content-Type: application/json' \\\n"
               "              -d '{\"prompt\": \"The sky is blue because\", \"max_tokens\": 32}'\n"
               "  Ctrl-C lets running requests end and stops; a second one stops at once.\n\n",
               took.c_str(), options_.model.c_str(), http.c_str(), grpc.c_str(), grpc.c_str(),
               http.c_str());
  std::fflush(options_.out);
}

// The router has logged it.
void Display::OnNotReady(std::string_view reason) { ready_pipe_.NotReady(reason); }

void Display::OnWorkerLost(std::string_view reason, absl::Duration restart_in) {
  ClearBar();
  bytes_done_ = bytes_total_ = 0;
  last_output_ = absl::Now();
  if (options_.is_quiet) return;
  logger_.Warning("the worker ended, starting it again",
                  {{"reason", std::string(reason)}, {"in", absl::FormatDuration(restart_in)}});
}

void Display::OnDraining() {
  is_draining_ = true;
  ClearBar();
  last_output_ = absl::Now();
  if (options_.is_quiet) return;
  logger_.Info("stopping: running requests may end, new ones are refused; again to stop at once");
}

absl::Time Display::NextTick() {
  if (is_draining_) return options_.is_quiet ? absl::InfiniteFuture() : last_output_ + kDrainNotes;
  return was_ready_ ? absl::InfiniteFuture() : last_output_ + kLongestSilence;
}

void Display::OnTick() {
  last_output_ = absl::Now();
  if (is_draining_) {
    logger_.Info("still stopping");
  } else if (options_.is_terminal) {
    ShowBar();
  } else if (options_.is_quiet) {
    std::fprintf(options_.out, "%s\n", Progress().c_str());
    std::fflush(options_.out);
  } else {
    logger_.Info(Progress());
  }
}

std::string Display::Progress() const {
  const std::string elapsed = Seconds(absl::Now() - started_);
  if (bytes_total_ == 0) return absl::StrCat("starting ", options_.model, ", ", elapsed);
  if (bytes_done_ >= bytes_total_) return absl::StrCat("weights are loaded, warming up, ", elapsed);
  return absl::StrFormat("loading weights: %d %%, %s of %s, %s", bytes_done_ * 100 / bytes_total_,
                         Megabytes(bytes_done_), Megabytes(bytes_total_), elapsed);
}

void Display::ShowBar() {
  if (!options_.is_terminal) return;
  std::string bar;
  if (bytes_total_ != 0) {
    const double share =
        std::min(1.0, static_cast<double>(bytes_done_) / static_cast<double>(bytes_total_));
    const size_t full = static_cast<size_t>(share * kBarWidth);
    bar = absl::StrCat("[", std::string(full, '#'), std::string(kBarWidth - full, '.'), "] ");
  }
  std::fprintf(options_.out, "\r\033[K%s%s", bar.c_str(), Progress().c_str());
  std::fflush(options_.out);
  bar_shown_ = true;
  last_output_ = absl::Now();
}

void Display::ClearBar() {
  if (!bar_shown_) return;
  std::fputs("\r\033[K", options_.out);
  std::fflush(options_.out);
  bar_shown_ = false;
}

std::string Display::AddressOf(const std::string& name) const {
  for (const auto& [field, address] : addresses_) {
    if (field == name) return address;
  }
  return "?";
}

}  // namespace mili
