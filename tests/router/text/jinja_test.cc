// The limits of the template core: whatever a template says, rendering ends soon and in bounds.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/text/jinja/interpreter.h"
#include "router/text/jinja/lexer.h"
#include "router/text/jinja/parser.h"

namespace mili::router::jinja {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Text> Render(const std::string& source, const Limits& limits = {}) {
  auto block = ParseTemplate(source);
  if (!block.ok()) return block.status();
  return Interpreter(limits, absl::UnixEpoch()).Run(*block);
}

std::string Repeat(const std::string& unit, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += unit;
  return text;
}

std::string Error(const std::string& source, const Limits& limits = {}) {
  auto text = Render(source, limits);
  EXPECT_FALSE(text.ok()) << source.substr(0, 200);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << text.status();
  return std::string(text.status().message());
}

TEST(JinjaTest, RefusesATemplateOfMoreThanAMegabyte) {
  EXPECT_THAT(Error(std::string(kMaxTemplateBytes + 1, 'x')), HasSubstr("at most 1048576"));
  EXPECT_TRUE(Render(std::string(kMaxTemplateBytes, 'x')).ok());
}

TEST(JinjaTest, RefusesDeepSyntax) {
  const int n = 60'000;
  EXPECT_THAT(Error("{{ " + Repeat("(", n) + "1" + Repeat(")", n) + " }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ " + Repeat("[", n) + Repeat("]", n) + " }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ " + Repeat("not ", n) + "1 }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ " + Repeat("-", n) + "1 }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ " + Repeat("1 if 1 else ", n) + "1 }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ 1" + Repeat(" if 1", n) + " }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ x" + Repeat("[x", n) + Repeat("]", n) + " }}"), HasSubstr("nests"));
  EXPECT_THAT(Error(Repeat("{% if 1 %}", n)), HasSubstr("nests"));
}

TEST(JinjaTest, RunsLongChainsWithLittleStack) {
  auto sum = Render("{{ 0" + Repeat("+1", 100'000) + " }}");
  ASSERT_TRUE(sum.ok()) << sum.status();
  EXPECT_EQ(sum->bytes(), "100000");
  EXPECT_TRUE(Render("{{ 'x'" + Repeat("|trim", 100'000) + " }}").ok());
  EXPECT_TRUE(Render("{{ 'x'" + Repeat(".strip()", 50'000) + " }}").ok());
  EXPECT_TRUE(Render("{{ 1" + Repeat(" or 0", 100'000) + " }}").ok());
  EXPECT_TRUE(Render("{% if 0 %}" + Repeat("{% elif 0 %}", 50'000) + "{% endif %}").ok());
}

TEST(JinjaTest, StopsEndlessWork) {
  Limits limits;
  limits.max_steps = 1'000'000;
  EXPECT_THAT(Error(Repeat("{% for i in range(100000) %}", 4) + Repeat("{% endfor %}", 4), limits),
              HasSubstr("1000000 steps"));
  EXPECT_THAT(Error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("nests"));
  EXPECT_THAT(Error("{{ range(100001) }}"), HasSubstr("range"));
}

TEST(JinjaTest, StopsEndlessText) {
  Limits limits;
  limits.max_bytes = 1'000'000;
  EXPECT_THAT(Error("{{ 'x' * 1000000000000 }}"), HasSubstr("bytes"));
  EXPECT_THAT(Error("{{ [1] * 9223372036854775807 }}"), HasSubstr("bytes"));
  EXPECT_THAT(Error("{% set ns = namespace(s='x') %}{% for i in range(60) %}"
                    "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                    limits),
              HasSubstr("1000000 bytes"));
  EXPECT_THAT(Error("{% for i in range(100000) %}0123456789abcdef{% endfor %}", limits),
              HasSubstr("1000000 bytes"));
  EXPECT_THAT(Error("{{ 'aaaaaaaa'|replace('', 'x' * 1000000) }}", limits), HasSubstr("bytes"));
}

TEST(JinjaTest, StopsValuesThatGrowBySharing) {
  const std::string doubling =
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(50) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
  EXPECT_THAT(Error(doubling + "{{ ns.x == ns.y }}"), HasSubstr("too large"));
  EXPECT_THAT(Error("{% set ns = namespace(x=[]) %}{% for i in range(100) %}"
                    "{% set ns.x = [ns.x] %}{% endfor %}"),
              HasSubstr("deeper than 64"));
  // Loops and methods hold values too.
  EXPECT_THAT(Error("{% set ns = namespace(l=0) %}{% for i in range(100000) %}"
                    "{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("deeper than 64"));
  EXPECT_THAT(Error("{% set ns = namespace(m={}) %}{% for i in range(1000) %}"
                    "{% set ns.m = {'f': ns.m.get} %}{% endfor %}"),
              HasSubstr("deeper than 64"));
}

TEST(JinjaTest, ANamespaceMayHoldItself) {
  auto text = Render("{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns.ns.ns.x is defined }}");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->bytes(), "False");
}

TEST(JinjaTest, AMacroOutlivesTheScopeThatDefinedIt) {
  auto text = Render(
      "{% set ns = namespace(m=0) %}{% for i in [1] %}{% set v = 'inner' %}"
      "{% macro m() %}[{{ v }}]{% endmacro %}{{ m() }}{% set ns.m = m %}{% endfor %}{{ ns.m() }}");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->bytes(), "[inner][]");
}

TEST(JinjaTest, RefusesIntegersPast64Bits) {
  EXPECT_THAT(Error("{{ 9223372036854775807 + 1 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(Error("{{ 2 ** 64 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(Error("{{ 99999999999999999999 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(Error("{{ (-9223372036854775807 - 1) // -1 }}"), HasSubstr("64 bits"));
  auto text = Render("{{ (-9223372036854775807 - 1) % -1 }} {{ (-1) ** 9223372036854775807 }}");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->bytes(), "0 -1");
}

TEST(JinjaTest, ReachesNothingOfTheProcess) {
  for (const char* source :
       {"{{ ''.__class__ }}", "{{ [].__class__.__base__ is defined }}", "{{ self is defined }}",
        "{{ cycler is defined }}", "{{ namespace.__init__ is defined }}"}) {
    auto text = Render(source);
    if (text.ok()) {
      EXPECT_THAT(text->bytes(), ::testing::AnyOf("", "False")) << source;
    }
  }
}

}  // namespace
}  // namespace mili::router::jinja
