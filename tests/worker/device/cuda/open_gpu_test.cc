// What is said of a driver that cannot be used. It is stub_libcuda.cc, linked under
// the name of the real one; CUDA asks it once a process, so each case is a process of its own.
#include <cstdio>
#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/device/gpu.h"

namespace mili::worker {
namespace {

struct Case {
  const char* name;
  const char* variable;
  const char* value;
  const char* said;  // the whole line
};

class OpenGpuTest : public testing::TestWithParam<Case> {};

TEST_P(OpenGpuTest, SaysWhyInOneLineWithTheRemedy) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        setenv(GetParam().variable, GetParam().value, 1);
        const absl::StatusOr<Gpu> gpu = OpenGpu();
        std::fprintf(stderr, "[%s]", std::string(gpu.status().message()).c_str());
        std::exit(0);
      },
      testing::ExitedWithCode(0), testing::HasSubstr("[" + std::string(GetParam().said) + "]"));
}

INSTANTIATE_TEST_SUITE_P(
    Stub, OpenGpuTest,
    testing::Values(
        Case{
            "OldDriver", "STUB_VERSION", "12040",
            "the NVIDIA driver is too old: it serves CUDA 12.4, needed is 13.0; install driver 580 "
            "or newer"},
        Case{"NoGpu", "STUB_COUNT", "0",
             "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES may hide them)"},
        Case{"NoDevice", "STUB_INIT", "100",
             "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES may hide them)"},
        Case{"DriverMismatch", "STUB_INIT", "803",
             "the NVIDIA driver's library and kernel module are of different versions; restart the "
             "machine, or the container with the host's driver"},
        Case{"NotPermitted", "STUB_INIT", "800",
             "no permission to use the GPU; give this user or container access to /dev/nvidia*"},
        Case{
            "Taken", "STUB_INIT", "46",
            "the GPU is taken: another process holds it alone; end that one, or allow several with "
            "nvidia-smi -c 0"},
        Case{"NotReady", "STUB_INIT", "802",
             "the GPU is not ready yet; where GPUs are joined by NVSwitch, nvidia-fabricmanager "
             "must "
             "run"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mili::worker
