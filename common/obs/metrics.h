// MetricsRegistry: the metrics of one process, rendered as Prometheus text. Passed down, never
// global. All metrics are added at start, so that each is present from the first scrape on; what
// the factories return lives as long as the registry. Thread-safe; updates are atomic adds.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

namespace prometheus {
class Registry;
}

namespace mili {

// Upper bounds of histogram buckets. Each has vLLM's bounds, so that its dashboards and alerts
// port, and finer ones below them.
enum class Buckets {
  kTimeToFirstToken,   // seconds, 0.25 ms to 2,560 s
  kInterTokenLatency,  // seconds, 0.1 ms to 80 s
  kRequestLatency,     // seconds, 5 ms to 7,680 s; also for time in the queue
  kStepDuration,       // seconds, 0.1 ms to 10 s
  kTokensPerStep,      // tokens, 1 to 16,384
};

prometheus::Histogram::BucketBoundaries BoundsOf(Buckets buckets);

class MetricsRegistry {
 public:
  using Labels = std::map<std::string, std::string>;

  MetricsRegistry();
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  // `name` is the whole name ("mili_prompt_tokens_total"). The same name may be added again with
  // other label values and the same help; the same labels return the same metric. A name of another
  // kind, or one that Prometheus does not allow, is a programmer's error.
  prometheus::Counter& AddCounter(const std::string& name, const std::string& help,
                                  const Labels& labels = {});
  prometheus::Gauge& AddGauge(const std::string& name, const std::string& help,
                              const Labels& labels = {});
  prometheus::Histogram& AddHistogram(const std::string& name, const std::string& help,
                                      Buckets buckets, const Labels& labels = {});

  // All metrics in the text format 0.0.4 (content type kMetricsContentType).
  std::string Render() const;

 private:
  const std::unique_ptr<prometheus::Registry> registry_;
};

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace mili
