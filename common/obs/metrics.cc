#include "common/obs/metrics.h"

#include <exception>
#include <sstream>

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "common/base/check.h"

namespace mili {
namespace {

// prometheus-cpp throws on a name it does not allow or that has another kind already.
template <typename Builder, typename... Args>
auto& AddMetric(Builder builder, prometheus::Registry& registry, const std::string& name,
                const std::string& help, const MetricsRegistry::Labels& labels,
                const Args&... args) {
  try {
    return builder.Name(name).Help(help).Register(registry).Add(labels, args...);
  } catch (const std::exception& error) {
    CheckFailed(__FILE__, __LINE__, name.c_str(), error.what());
  }
}

}  // namespace

prometheus::Histogram::BucketBoundaries BoundsOf(Buckets buckets) {
  switch (buckets) {
    case Buckets::kTimeToFirstToken:
      return {0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25,
              0.5,     0.75,   1.0,   2.5,   5.0,   7.5,  10,   20,   40,   80,   160, 640,  2560};
    case Buckets::kInterTokenLatency:
      return {0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015,
              0.025,  0.05,    0.075,  0.1,   0.15,  0.2,   0.3,   0.4,    0.5,  0.75,
              1.0,    2.5,     5.0,    7.5,   10,    20,    40,    80};
    case Buckets::kRequestLatency:
      return {0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0,  2.5, 5.0,
              10,    15,   20,    30,   40,  50,  60,  120, 240, 480, 960, 1920, 7680};
    case Buckets::kStepDuration:
      return {0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02,
              0.03,   0.05,    0.075,  0.1,   0.2,   0.5,   1.0,   2.5,    5.0,  10};
    case Buckets::kTokensPerStep:
      return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
  }
  return {};
}

MetricsRegistry::MetricsRegistry() : registry_(std::make_unique<prometheus::Registry>()) {}
MetricsRegistry::~MetricsRegistry() = default;

prometheus::Counter& MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                                 const Labels& labels) {
  return AddMetric(prometheus::BuildCounter(), *registry_, name, help, labels);
}

prometheus::Gauge& MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                                             const Labels& labels) {
  return AddMetric(prometheus::BuildGauge(), *registry_, name, help, labels);
}

prometheus::Histogram& MetricsRegistry::AddHistogram(const std::string& name,
                                                     const std::string& help, Buckets buckets,
                                                     const Labels& labels) {
  return AddMetric(prometheus::BuildHistogram(), *registry_, name, help, labels, BoundsOf(buckets));
}

std::string MetricsRegistry::Render() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry_->Collect());
  return out.str();
}

}  // namespace mili
