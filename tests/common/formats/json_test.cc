#include "common/formats/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/formats/json_text.h"

namespace mili {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text, const JsonLimits& limits = {}) {
  const auto parsed = ParseJsonObject(text, "f.json", limits);
  return parsed.ok() ? "" : std::string(parsed.status().message());
}

TEST(JsonTest, RefusesWhatIsNoObject) {
  EXPECT_EQ(ErrorOf("{}"), "");
  EXPECT_THAT(ErrorOf(""), HasSubstr("f.json: not valid JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(ErrorOf("{\"a\":1e999}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":1,}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{} {}"), HasSubstr("not valid JSON"));
}

TEST(JsonTest, BoundsDepthAndSize) {
  const std::string deep = "{\"a\":" + std::string(100000, '[');
  EXPECT_THAT(ErrorOf(deep), HasSubstr("nested deeper than 32"));
  EXPECT_EQ(ErrorOf("{\"a\":[1,2]}", {.max_nodes = 5}), "");
  EXPECT_THAT(ErrorOf("{\"a\":[1,2,3]}", {.max_nodes = 5}), HasSubstr("more than 5"));
}

TEST(JsonTest, RefusesDoubledKeysAtAnyDepth) {
  EXPECT_THAT(ErrorOf(R"({"a":{"b":1,"b":2}})"), HasSubstr("\"b\" occurs twice"));
  EXPECT_EQ(ErrorOf(R"({"a":{"b":1},"b":{"b":1}})"), "");
}

TEST(JsonTest, FieldsSayWhatWasFound) {
  const auto object = nlohmann::json::parse(R"({"n":-1,"s":"x","z":null,"big":4294967296})");
  const JsonFields fields(object, "f.json", "p.");
  EXPECT_EQ(*fields.OptionalUint32("z"), std::nullopt);
  EXPECT_EQ(fields.OptionalUint32("n").status().message(),
            "f.json: p.n is -1; expected a whole number of at most 32 bits");
  EXPECT_FALSE(fields.OptionalUint32("big").ok());
  EXPECT_EQ(fields.Double("s").status().message(), "f.json: p.s is \"x\"; expected a number");
  EXPECT_EQ(fields.Uint32("none").status().message(),
            "f.json: p.none is missing; expected a whole number");
}

TEST(JsonTextTest, KnowsWellFormedUtf8) {
  for (const char* good : {"", "abc", "é", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf", "🌞"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf0\x9f\x8c", "\xff", "a\xe2\x82"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

TEST(JsonTextTest, WhatItWritesParsesBack) {
  std::string text;
  for (int c = 0; c < 128; ++c) text += static_cast<char>(c);
  text += "Ġé🌞";
  std::string json;
  AppendJsonString(text, json);
  EXPECT_EQ(nlohmann::json::parse(json).get<std::string>(), text);
}

}  // namespace
}  // namespace mili
