#include "common/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf_builder.h"

namespace mili {
namespace {

using ::testing::ElementsAre;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::ParseGgufBytes;

std::string ErrorOf(std::string_view bytes) {
  const auto parsed = ParseGgufBytes(bytes);
  return parsed.ok() ? "" : std::string(parsed.status().message());
}

TEST(GgufTest, ReadsMetadataOfEveryKind) {
  const auto file = ParseGgufBytes(GgufBuilder()
                                       .Uint32("a", 7)
                                       .Uint64("b", 1ull << 40)
                                       .Float32("c", 0.5f)
                                       .Bool("d", true)
                                       .String("e", "text")
                                       .Strings("f", {"x", "yz"})
                                       .Int32s("g", {3, -4})
                                       .Any("h", 5, std::string_view("\xff\xff\xff\xff", 4))
                                       .Build());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto& metadata = file->metadata;
  EXPECT_EQ(std::get<uint64_t>(metadata.at("a")), 7u);
  EXPECT_EQ(std::get<uint64_t>(metadata.at("b")), 1ull << 40);
  EXPECT_EQ(std::get<double>(metadata.at("c")), 0.5);
  EXPECT_TRUE(std::get<bool>(metadata.at("d")));
  EXPECT_EQ(std::get<std::string>(metadata.at("e")), "text");
  EXPECT_THAT(std::get<GgufArray>(metadata.at("f")).strings, ElementsAre("x", "yz"));
  EXPECT_EQ(std::get<GgufArray>(metadata.at("g")).IntegerAt(1), -4);
  EXPECT_EQ(std::get<GgufArray>(metadata.at("g")).IntegerAt(2), std::nullopt);
  EXPECT_EQ(std::get<GgufArray>(metadata.at("f")).IntegerAt(0), std::nullopt);
  EXPECT_EQ(std::get<int64_t>(metadata.at("h")), -1);
}

TEST(GgufTest, ReadsTheTensorTableRowMajor) {
  const auto file =
      ParseGgufBytes(GgufBuilder(2).F32("a", {8, 3}).Tensor("b", {32}, 2, 18).Build());
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_THAT(file->tensors[0].shape, ElementsAre(3u, 8u));
  EXPECT_EQ(file->tensors[0].size_bytes, 96u);
  EXPECT_EQ(file->tensors[0].offset_bytes % 32, 0u);
  EXPECT_EQ(file->tensors[1].dtype, DType::kQ4_0);
  EXPECT_EQ(file->tensors[1].offset_bytes, file->tensors[0].offset_bytes + 96);
}

TEST(GgufTest, EveryTruncationIsAnError) {
  const std::string whole = testing::TinyLlama().Strings("t", {"a", "b"}).Build();
  ASSERT_TRUE(ParseGgufBytes(whole).ok());
  for (size_t size = 0; size < whole.size(); size += 1 + size / 64) {
    const auto parsed = ParseGgufBytes(std::string_view(whole).substr(0, size));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
  EXPECT_THAT(ErrorOf(std::string_view(whole).substr(0, whole.size() - 1)),
              HasSubstr("is it complete?"));
}

TEST(GgufTest, RefusesOtherVersionsAndMagics) {
  EXPECT_THAT(ErrorOf("GGML everything else"), HasSubstr("is no GGUF file"));
  EXPECT_EQ(ParseGgufBytes(GgufBuilder(1).Build()).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_THAT(ErrorOf(GgufBuilder(4).Build()), HasSubstr("GGUF version 4; expected 2 or 3"));
  EXPECT_THAT(ErrorOf(GgufBuilder(3u << 24).Build()), HasSubstr("big-endian"));
}

TEST(GgufTest, RefusesHugeCountsBeforeAllocating) {
  EXPECT_THAT(ErrorOf(GgufBuilder().ClaimTensors(1ull << 60).Build()), HasSubstr("tensors"));
  EXPECT_THAT(ErrorOf(GgufBuilder().ClaimKeyValues(1ull << 60).Build()), HasSubstr("metadata"));
  const auto array = [](uint32_t type, uint64_t count) {
    std::string raw(reinterpret_cast<const char*>(&type), 4);
    raw.append(reinterpret_cast<const char*>(&count), 8);
    return GgufBuilder().Any("k", 9, raw).Build();
  };
  EXPECT_THAT(ErrorOf(array(0, 1ull << 62)), HasSubstr("k claims 4611686018427387904 elements"));
  EXPECT_THAT(ErrorOf(array(8, 1000)), HasSubstr("k claims 1000 elements"));
  EXPECT_THAT(ErrorOf(array(12, (1ull << 61) + 1)), HasSubstr("k claims"));
  EXPECT_THAT(ErrorOf(array(77, 1)), HasSubstr("value type 77"));
  const uint64_t huge = ~0ull;
  EXPECT_THAT(ErrorOf(GgufBuilder().Any("s", 8, {reinterpret_cast<const char*>(&huge), 8}).Build()),
              HasSubstr("s claims 18446744073709551615 bytes"));
}

TEST(GgufTest, RefusesArraysNestedTooDeep) {
  std::string raw;
  const auto level = [&](uint32_t type, uint64_t count) {
    raw.append(reinterpret_cast<const char*>(&type), 4);
    raw.append(reinterpret_cast<const char*>(&count), 8);
  };
  for (int i = 0; i < 3; ++i) level(9, 1);
  level(0, 0);
  EXPECT_EQ(ErrorOf(GgufBuilder().Any("k", 9, raw).Build()), "");
  raw.clear();
  for (int i = 0; i < 1000; ++i) level(9, 1);
  EXPECT_THAT(ErrorOf(GgufBuilder().Any("k", 9, raw + std::string(64, '\0')).Build()),
              HasSubstr("nests arrays deeper than 4"));
}

TEST(GgufTest, RefusesDoubledKeysAndTensors) {
  EXPECT_THAT(ErrorOf(GgufBuilder().Uint32("a", 1).Uint32("a", 1).Build()),
              HasSubstr("the key a occurs twice"));
  EXPECT_THAT(ErrorOf(GgufBuilder().F32("t", {8}).F32("t", {8}).Build()),
              HasSubstr("tensor t occurs twice"));
}

TEST(GgufTest, RefusesUnsupportedTypesByName) {
  for (const auto& [type, name] : {std::pair{10u, "Q2_K"},
                                   {11u, "Q3_K"},
                                   {15u, "Q8_K"},
                                   {24u, "I8"},
                                   {39u, "MXFP4"},
                                   {777u, "number 777"}}) {
    const auto parsed = ParseGgufBytes(GgufBuilder().Tensor("t", {256}, type, 512).Build());
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented) << name;
    EXPECT_THAT(std::string(parsed.status().message()),
                HasSubstr(std::string("test.gguf: tensor t: type ") + name));
  }
}

TEST(GgufTest, RefusesShapesThatOverflowOrDoNotFit) {
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {1ull << 40, 1ull << 40}, 0, 8).Build()),
              HasSubstr("2^64"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {1ull << 63}, 0, 8).Build()), HasSubstr("2^64"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {0, 4}, 0, 8).Build()),
              HasSubstr("a dimension of 0"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {33}, 2, 18).Build()),
              HasSubstr("rows of 33 elements; type q4_0 needs a multiple of 32"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {}, 0, 4).Build()), HasSubstr("0 dimensions"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor("t", {1, 1, 1, 1, 1}, 0, 4).Build()),
              HasSubstr("5 dimensions"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Tensor(std::string(65, 'n'), {4}, 0, 16).Build()),
              HasSubstr("claims 65 bytes"));
}

TEST(GgufTest, RefusesTensorsOutsideTheFileOrOnAnother) {
  EXPECT_THAT(ErrorOf(GgufBuilder().F32("t", {8}).TensorAt("u", {8}, 0, 1ull << 63).Build()),
              HasSubstr("tensor u takes 32 bytes"));
  EXPECT_THAT(ErrorOf(GgufBuilder().F32("t", {8}).TensorAt("u", {8}, 0, 32).Build()),
              HasSubstr("tensor u takes 32 bytes at offset 32"));
  EXPECT_THAT(ErrorOf(GgufBuilder().F32("t", {16}).TensorAt("u", {8}, 0, 32).Build()),
              HasSubstr("tensors t and u overlap"));
  EXPECT_THAT(ErrorOf(GgufBuilder().F32("t", {16}).TensorAt("u", {1}, 0, 4).Build()),
              HasSubstr("expected a multiple of 32"));
}

TEST(GgufTest, RefusesOddAlignments) {
  for (const uint32_t alignment : {0u, 4u, 33u, 1u << 30}) {
    EXPECT_THAT(ErrorOf(GgufBuilder().Uint32("general.alignment", alignment).Build()),
                HasSubstr("general.alignment"));
  }
  EXPECT_THAT(ErrorOf(GgufBuilder().String("general.alignment", "32").Build()),
              HasSubstr("general.alignment"));
  EXPECT_EQ(ErrorOf(GgufBuilder().Uint32("general.alignment", 32).F32("t", {8}).Build()), "");
}

}  // namespace
}  // namespace mili
