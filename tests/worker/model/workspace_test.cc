#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "common/core/memory_plan.h"
#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"

namespace mili::worker {
namespace {

// A table that needs more than the plan sets aside is refused when the worker starts.
void ExpectWithinThePlan(const kernels::CpuKernels& table) {
  for (const int64_t tokens : {1, 7, 32, 33, 512, 2048}) {
    for (const int64_t in_features : {64, 576, 1000, 1536, 3072, 11008}) {
      EXPECT_LE(table.linear_workspace_bytes(tokens, in_features),
                LinearWorkspaceBound(tokens, in_features))
          << table.name << ", " << tokens << " tokens of " << in_features;
    }
  }
  for (const int64_t vocab_size : {1000, 49152, 151936}) {
    EXPECT_LE(table.sample_workspace_bytes(vocab_size), SampleWorkspaceBound(vocab_size))
        << table.name << ", " << vocab_size << " tokens known";
  }
}

TEST(WorkspaceTest, EveryTableOfKernelsNeedsWhatThePlanSetsAside) {
  ExpectWithinThePlan(kernels::ReferenceKernels());
  std::istringstream names(kernels::RunnableCpuKernels());
  for (std::string name; names >> name;) {
    const kernels::CpuKernels* table = kernels::FindCpuKernels(name.c_str());
    ASSERT_NE(table, nullptr) << name;
    ExpectWithinThePlan(*table);
  }
}

}  // namespace
}  // namespace mili::worker
