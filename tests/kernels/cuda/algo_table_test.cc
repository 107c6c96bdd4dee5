// The table of tuned algorithms, and the file it comes from, which may hold anything.
#include "kernels/cuda/linear/algo_table.h"

#include <cstdio>
#include <string>

#include <gtest/gtest.h>

#include "kernels/cuda/linear/tuning_file.h"

namespace mili::kernels::cuda {
namespace {

constexpr char kIdentity[] = "some GPU, driver 13000, cublasLt 130000";

MatmulShape Shape(int32_t n, int32_t num_rows) {
  MatmulShape shape;
  shape.n = n;
  shape.k = 1024;
  shape.num_rows = num_rows;
  return shape;
}

AlgoTable::Entry EntryOf(uint64_t mark) {
  return {LinearKernel::kLibrary, {mark, ~0ull, 0, 1ull << 63, 5, 6, 7, 8}, 12.5f};
}

AlgoTable SomeTable() {
  AlgoTable table;
  table.Set(Shape(4096, 32), EntryOf(32));
  table.Set(Shape(4096, 64), EntryOf(64));
  table.Set(Shape(6144, 256), EntryOf(256));
  MatmulShape logits = Shape(4096, 32);
  logits.dtype = DType::kF16;
  logits.is_y_f32 = logits.has_bias = true;
  table.Set(logits, EntryOf(1));
  MatmulShape gate_up = Shape(4096, 32);
  gate_up.silu_mul = true;
  table.Set(gate_up, {LinearKernel::kWide, {2, 4}, 5.25f});
  return table;
}

uint64_t MarkOf(const AlgoTable::Entry* entry) { return entry != nullptr ? entry->algo[0] : 0; }

TEST(AlgoTable, FindsTheNextLargerNumberOfRowsUpToTwice) {
  const AlgoTable table = SomeTable();
  EXPECT_EQ(MarkOf(table.Find(Shape(4096, 32))), 32u);
  EXPECT_EQ(MarkOf(table.Find(Shape(4096, 17))), 32u);
  EXPECT_EQ(MarkOf(table.Find(Shape(4096, 33))), 64u);
  EXPECT_EQ(table.Find(Shape(4096, 15)), nullptr);
  EXPECT_EQ(table.Find(Shape(4096, 65)), nullptr);
  EXPECT_EQ(table.Find(Shape(4104, 32)), nullptr);
}

TEST(AlgoTable, ComesBackFromItsText) {
  const std::string text = SomeTable().Format(kIdentity);
  AlgoTable back;
  std::string error;
  ASSERT_TRUE(back.Parse(text, kIdentity, &error)) << error;
  EXPECT_EQ(back.size(), 5u);
  EXPECT_EQ(back.Format(kIdentity), text);
  EXPECT_EQ(back.FindExactly(Shape(6144, 256))->algo, EntryOf(256).algo);
  MatmulShape gate_up = Shape(4096, 32);
  gate_up.silu_mul = true;
  EXPECT_EQ(back.FindExactly(gate_up)->kernel, LinearKernel::kWide);
  EXPECT_FLOAT_EQ(back.FindExactly(gate_up)->us, 5.25f);
}

TEST(AlgoTable, RefusesATextOfAnotherDevice) {
  AlgoTable back = SomeTable();
  std::string error;
  EXPECT_FALSE(back.Parse(SomeTable().Format("another GPU"), kIdentity, &error));
  EXPECT_NE(error.find("another GPU"), std::string::npos);
  EXPECT_EQ(back.size(), 0u);
}

TEST(AlgoTable, RefusesEveryTruncationAndEveryChangedByte) {
  const std::string text = SomeTable().Format(kIdentity);
  AlgoTable back;
  std::string error;
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(back.Parse(text.substr(0, size), kIdentity, &error)) << size;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] ^= 1;
    EXPECT_FALSE(back.Parse(changed, kIdentity, &error)) << i;
  }
}

// A file with a right checksum over wrong lines.
TEST(AlgoTable, RefusesLinesThatAreNotEntries) {
  const auto accepts = [](const std::string& line) {
    // The identity ends where the entries begin, so a line can be put between the two.
    const std::string text = AlgoTable().Format(std::string(kIdentity) + "\n" + line);
    AlgoTable back;
    std::string error;
    return back.Parse(text, kIdentity, &error);
  };
  const std::string algo =
      " wide 0000000000000001 0000000000000002 0000000000000003 0000000000000004"
      " 0000000000000005 0000000000000006 0000000000000007 0000000000000008";
  EXPECT_TRUE(accepts("bf16 0 0 0 0 0 4096 1024 32 1000" + algo));
  EXPECT_FALSE(accepts("f32 0 0 0 0 0 4096 1024 32 1000" + algo));
  EXPECT_FALSE(accepts("bf16 2 0 0 0 0 4096 1024 32 1000" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 0 1024 32 1000" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 99999999999 1024 32 1000" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 4096 -1 32 1000" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 4096 1024 32" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 4096 1024 32 1000 1" + algo));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 4096 1024 32 1000" + algo + " 0000000000000009"));
  EXPECT_FALSE(accepts("bf16 0 0 0 0 0 4096 1024 32 1000 wider" + algo.substr(5)));
  EXPECT_FALSE(accepts(""));
}

TEST(TuningFile, IsReplacedAsAWholeAndReadBack) {
  const std::string path = ::testing::TempDir() + "/linear_tuning";
  std::string error;
  std::string text;
  ASSERT_TRUE(ReplaceFile(path, "old and longer", &error)) << error;
  ASSERT_TRUE(ReplaceFile(path, "new", &error)) << error;
  ASSERT_TRUE(ReadSmallFile(path, &text, &error)) << error;
  EXPECT_EQ(text, "new");
  EXPECT_FALSE(ReplaceFile(path + "/no/such/folder", "text", &error));
  EXPECT_FALSE(ReadSmallFile(path + "/no/such/folder", &text, &error));
  EXPECT_NE(error.find("no/such/folder"), std::string::npos);
  ASSERT_TRUE(ReplaceFile(path, std::string((size_t{4} << 20) + 1, ' '), &error));
  EXPECT_FALSE(ReadSmallFile(path, &text, &error));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace mili::kernels::cuda
