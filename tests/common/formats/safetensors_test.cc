#include "common/formats/safetensors.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/formats/model_source.h"
#include "temp_dir.h"

namespace mili {
namespace {

using testing::CopyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::ReplaceIn;
using testing::TempDir;
using testing::TestModel;

std::string HeaderError(std::string_view header, uint64_t data_bytes) {
  const auto entries = ParseSafetensorsHeader(header, data_bytes, "f");
  return entries.ok() ? "" : std::string(entries.status().message());
}

TEST(SafetensorsTest, ReadsNamesShapesAndOffsets) {
  const auto entries =
      ParseSafetensorsHeader(R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                             R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                             R"("empty":{"dtype":"F32","shape":[0,5],"data_offsets":[4,4]},)"
                             R"("__metadata__":{"format":"pt"}}   )",
                             16, "f");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[1].name, "b");
  EXPECT_EQ((*entries)[1].dtype, "BF16");
  EXPECT_THAT((*entries)[1].shape, ElementsAre(2u, 3u));
  EXPECT_EQ((*entries)[1].begin, 4u);
  EXPECT_EQ((*entries)[1].end, 16u);
}

TEST(SafetensorsTest, RefusesHeadersThatAreNoTable) {
  EXPECT_THAT(HeaderError("", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(HeaderError(" {}", 0), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(HeaderError("{", 0), HasSubstr("f: not valid JSON"));
  EXPECT_THAT(HeaderError("{}x", 0), HasSubstr("f: not valid JSON"));
  EXPECT_THAT(HeaderError(R"({"a":[1]})", 0), HasSubstr("tensor a: expected an object"));
  EXPECT_THAT(HeaderError(R"({"a":{"b":{"c":{"d":{"e":1}}}}})", 0), HasSubstr("nested deeper"));
  EXPECT_THAT(HeaderError(R"({"__metadata__":{"a":1}})", 0), HasSubstr("is no string"));
  EXPECT_THAT(HeaderError("{\"a\xff\":1}", 0), HasSubstr("not valid JSON"));
}

TEST(SafetensorsTest, RefusesDoubledTensors) {
  const std::string entry = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_EQ(HeaderError("{" + entry + "}", 4), "");
  EXPECT_THAT(HeaderError("{" + entry + "," + entry + "}", 4),
              HasSubstr("the key \"a\" occurs twice"));
}

TEST(SafetensorsTest, RefusesEntriesThatContradictThemselves) {
  const auto error = [](const std::string& entry) {
    return HeaderError("{\"a\":{" + entry + "}}", 8);
  };
  EXPECT_THAT(error(R"("shape":[2],"data_offsets":[0,8])"), HasSubstr("expected a dtype"));
  EXPECT_THAT(error(R"("dtype":"Q9","shape":[2],"data_offsets":[0,8])"),
              HasSubstr("unknown dtype \"Q9\""));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
              HasSubstr("expected a shape"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"),
              HasSubstr("expected a shape"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"),
              HasSubstr("expected a shape"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"),
              HasSubstr("expected data_offsets"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[2],"data_offsets":[0,4,8])"),
              HasSubstr("expected data_offsets"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
              HasSubstr("has 8 bytes; its shape and dtype take 12"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"),
              HasSubstr("ends at byte 16 of the data; the file has 8"));
  EXPECT_THAT(error(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
              HasSubstr("overflows"));
}

TEST(SafetensorsTest, RefusesHolesOverlapsAndLeftovers) {
  const auto two = [](int begin, int end) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[)" +
           std::to_string(end - begin) + R"(],"data_offsets":[)" + std::to_string(begin) + "," +
           std::to_string(end) + "]}}";
  };
  EXPECT_EQ(HeaderError(two(4, 8), 8), "");
  EXPECT_THAT(HeaderError(two(5, 8), 8), HasSubstr("tensor b: begins at byte 5 after a hole"));
  EXPECT_THAT(HeaderError(two(3, 8), 8), HasSubstr("inside another tensor"));
  EXPECT_THAT(HeaderError(two(4, 8), 9), HasSubstr("take 8 bytes; the file has 9"));
}

TEST(SafetensorsTest, RefusesIndexesThatLeaveTheDirectory) {
  for (const char* shard : {"../a", "/etc/passwd", "a/b", "a\\\\b", "..", "", "a\\u0000b"}) {
    const auto index =
        ParseSafetensorsIndex(std::string(R"({"weight_map":{"t":")") + shard + "\"}}", "index");
    EXPECT_FALSE(index.ok()) << shard;
    EXPECT_THAT(std::string(index.status().message()), HasSubstr("expected a plain file name"));
  }
  EXPECT_FALSE(ParseSafetensorsIndex(R"({"weight_map":{"t":3}})", "index").ok());
  EXPECT_FALSE(ParseSafetensorsIndex(R"({"weight_map":{}})", "index").ok());
  EXPECT_FALSE(ParseSafetensorsIndex(R"({})", "index").ok());
}

class SafetensorsDirectoryTest : public ::testing::Test {
 protected:
  explicit SafetensorsDirectoryTest(const char* name = "tiny-llama") { CopyModel(name, dir_); }
  absl::Status Open() { return ModelSource::Open(dir_.path()).status(); }
  std::string Error() { return std::string(Open().message()); }
  // Renames a tensor to one of the same length, so that nothing else moves.
  bool Rename(std::string_view file, std::string_view from, std::string_view to) {
    EXPECT_EQ(from.size(), to.size());
    return ReplaceIn(dir_.path(file), from, to);
  }
  TempDir dir_;
};

TEST_F(SafetensorsDirectoryTest, EveryTruncationIsOneLine) {
  const std::string whole = ReadAll(dir_.path("model.safetensors"));
  for (size_t size = 0; size < whole.size(); size += size < 6000 ? 64 : 8192) {
    dir_.Write("model.safetensors", std::string_view(whole).substr(0, size));
    EXPECT_EQ(Open().code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(Error(), HasSubstr("model.safetensors")) << size;
    EXPECT_EQ(Error().find('\n'), std::string::npos);
  }
}

TEST_F(SafetensorsDirectoryTest, RefusesAHeaderLengthPastTheFile) {
  std::string bytes = ReadAll(dir_.path("model.safetensors"));
  for (const uint64_t length : {uint64_t{bytes.size()}, ~uint64_t{0}, uint64_t{1} << 40}) {
    std::memcpy(bytes.data(), &length, 8);
    dir_.Write("model.safetensors", bytes);
    EXPECT_THAT(Error(), HasSubstr("its header claims " + std::to_string(length)));
  }
}

TEST_F(SafetensorsDirectoryTest, NamesAMissingAndAnUnknownTensor) {
  ASSERT_TRUE(Rename("model.safetensors", "\"model.norm.weight\"", "\"model.morn.weight\""));
  EXPECT_THAT(Error(),
              HasSubstr("tensor model.norm.weight is missing; expected one of shape [64]"));
  ASSERT_TRUE(ReplaceIn(dir_.path("config.json"), "\"tie_word_embeddings\": false",
                        "\"tie_word_embeddings\": true"));
  ASSERT_TRUE(Rename("model.safetensors", "\"model.morn.weight\"", "\"model.norm.weight\""));
  EXPECT_EQ(Open(), absl::OkStatus());  // a tied model may carry its head along
}

TEST_F(SafetensorsDirectoryTest, NamesATensorThatNobodyAskedFor) {
  ASSERT_TRUE(
      ReplaceIn(dir_.path("config.json"), "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"));
  EXPECT_THAT(Error(), HasSubstr("unknown tensor model.layers.1."));
}

TEST_F(SafetensorsDirectoryTest, NamesAWrongShape) {
  ASSERT_TRUE(ReplaceIn(dir_.path("config.json"), "\"vocab_size\": 320", "\"vocab_size\": 321"));
  EXPECT_THAT(Error(), HasSubstr("tensor model.embed_tokens.weight has shape [320, 64]; expected "
                                 "[321, 64]"));
}

TEST_F(SafetensorsDirectoryTest, RefusesADtypeThatIsNoFloat) {
  ASSERT_TRUE(ReplaceIn(dir_.path("model.safetensors"), R"("model.norm.weight":{"dtype":"BF16")",
                        R"("model.norm.weight":{"dtype":"I16" )"));
  EXPECT_EQ(Open().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Error(), HasSubstr("tensor model.norm.weight has dtype I16; expected F32, F16"));
}

TEST_F(SafetensorsDirectoryTest, NamesAMissingFile) {
  std::filesystem::remove(dir_.path("model.safetensors"));
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Error(), HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
}

TEST_F(SafetensorsDirectoryTest, SkipsOldRopeTables) {
  // A second file of one harmless tensor, named in an index.
  const std::string header =
      R"({"model.layers.0.self_attn.rotary_emb.inv_freq":{"dtype":"F32","shape":[1],)"
      R"("data_offsets":[0,4]}})";
  const uint64_t length = header.size();
  dir_.Write("b.safetensors",
             std::string(reinterpret_cast<const char*>(&length), 8) + header + "1234");
  std::filesystem::rename(dir_.path("model.safetensors"), dir_.path("a.safetensors"));
  std::string index = R"({"weight_map":{"model.layers.0.self_attn.rotary_emb.inv_freq":)"
                      R"("b.safetensors")";
  const auto source = ModelSource::Open(TestModel("tiny-llama"));
  for (const TensorInfo& tensor : (*source)->tensors()) {
    index += ",\"" + tensor.name + "\":\"a.safetensors\"";
  }
  dir_.Write("model.safetensors.index.json", index + "}}");
  EXPECT_EQ(Open(), absl::OkStatus());
}

class SafetensorsShardsTest : public SafetensorsDirectoryTest {
 protected:
  static constexpr char kIndex[] = "model.safetensors.index.json";
  SafetensorsShardsTest() : SafetensorsDirectoryTest("tiny-qwen3") {}
};

TEST_F(SafetensorsShardsTest, NamesAMissingShard) {
  std::filesystem::remove(dir_.path("model-00002-of-00003.safetensors"));
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Error(), HasSubstr("model-00002-of-00003.safetensors: no such file"));
}

TEST_F(SafetensorsShardsTest, NamesATensorThatTheIndexLacks) {
  ASSERT_TRUE(ReplaceIn(dir_.path(kIndex), "\"model.norm.weight\"", "\"model.morn.weight\""));
  EXPECT_THAT(Error(), HasSubstr("model.norm.weight is in "));
  EXPECT_THAT(Error(), HasSubstr("model.safetensors.index.json does not name it"));
}

TEST_F(SafetensorsShardsTest, NamesATensorThatItsShardLacks) {
  ASSERT_TRUE(ReplaceIn(dir_.path(kIndex), "\"weight_map\": {",
                        "\"weight_map\": {\"x\": \"model-00001-of-00003.safetensors\","));
  EXPECT_THAT(Error(), HasSubstr("says that tensor x is in model-00001-of-00003.safetensors, "
                                 "which lacks it"));
}

TEST_F(SafetensorsShardsTest, NamesATensorInAnotherShard) {
  ASSERT_TRUE(ReplaceIn(dir_.path(kIndex), "\"model.embed_tokens.weight\": \"model-00001",
                        "\"model.embed_tokens.weight\": \"model-00002"));
  EXPECT_THAT(Error(), HasSubstr("tensor model.embed_tokens.weight is in model-00001"));
  EXPECT_THAT(Error(), HasSubstr("says model-00002"));
}

}  // namespace
}  // namespace mili
