#include "tools/bench/device_totals.h"

#include <cstdlib>
#include <exception>
#include <string_view>

#include <absl/strings/str_cat.h>
#include <boost/asio/ip/tcp.hpp>

#include "common/base/strings.h"

namespace mili::bench {
namespace {

using boost::asio::ip::tcp;

// The whole answer; the worker closes after it.
absl::StatusOr<std::string> Get(const std::string& address) {
  try {
    const size_t colon = address.rfind(':');
    tcp::iostream stream(address.substr(0, colon), address.substr(colon + 1));
    stream << "GET /metrics HTTP/1.1\r\nHost: " << address << "\r\nConnection: close\r\n\r\n"
           << std::flush;
    std::string text(std::istreambuf_iterator<char>(stream), {});
    if (!text.empty()) return text;
    return absl::UnavailableError(absl::StrCat(address, ": ", stream.error().message()));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(address, ": ", error.what()));
  }
}

}  // namespace

DeviceTotals operator-(const DeviceTotals& a, const DeviceTotals& b) {
  return {a.num_steps - b.num_steps, a.num_tokens - b.num_tokens, a.compute_s - b.compute_s,
          a.idle_s - b.idle_s};
}

absl::StatusOr<DeviceTotals> ReadDeviceTotals(const std::string& address) {
  absl::StatusOr<std::string> page = Get(address);
  if (!page.ok()) return page.status();
  DeviceTotals totals;
  for (const auto& [name, value] :
       {std::pair("mili_step_duration_seconds_count", &totals.num_steps),
        std::pair("mili_step_duration_seconds_sum", &totals.compute_s),
        std::pair("mili_iteration_tokens_total_sum", &totals.num_tokens),
        std::pair("mili_gpu_idle_seconds_total", &totals.idle_s)}) {
    const std::string line = absl::StrCat("\n", name, " ");
    const size_t at = page->find(line);
    if (at == std::string::npos) {
      return absl::InternalError(absl::StrCat(address, "/metrics has no ", name));
    }
    *value = std::strtod(page->c_str() + at + line.size(), nullptr);
  }
  return totals;
}

}  // namespace mili::bench
