// Display: what the person who started a pair sees on stderr while it starts, runs and ends. On a
// terminal a progress bar, else plain lines; never silent for more than two seconds before ready.
// In the thread of Supervisor::Run.
#pragma once

#include <cstdio>
#include <functional>
#include <string>

#include <absl/time/time.h>

#include "common/obs/log.h"
#include "tools/mili/supervisor.h"

namespace mili {

class Display : public SupervisorObserver {
 public:
  struct Options {
    LogFormat format = LogFormat::kText;
    bool is_terminal = false;
    // Shows progress alone: no log lines of the children, nothing about ports.
    bool is_quiet = false;
    std::string model;
    std::FILE* out = stderr;  // not owned
    // Passes the news on to a program that started this one (--ready-fd); -1: nobody.
    int ready_fd = -1;
  };
  explicit Display(Options options);
  ~Display() override;

  void OnLogLine(std::string_view line) override;
  void OnListening(const ReadyPipe::Fields& addresses) override;
  void OnLoading(uint64_t bytes_done, uint64_t bytes_total) override;
  void OnReady() override;
  void OnNotReady(std::string_view reason) override;
  void OnWorkerLost(std::string_view reason, absl::Duration restart_in) override;
  void OnDraining() override;
  absl::Time NextTick() override;
  void OnTick() override;

 private:
  std::string AddressOf(const std::string& name) const;
  std::string Progress() const;
  void ShowBar();
  void ClearBar();
  void PrintReady();

  const Options options_;
  ReadyPipe ready_pipe_;
  Logger logger_;
  const absl::Time started_;
  absl::Time last_output_;
  ReadyPipe::Fields addresses_;
  uint64_t bytes_done_ = 0;
  uint64_t bytes_total_ = 0;
  bool was_ready_ = false;
  bool is_draining_ = false;
  bool bar_shown_ = false;
};

}  // namespace mili
