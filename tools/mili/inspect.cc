// `mili inspect`: what a model is, from its files alone.
#include <cstdio>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <nlohmann/json.hpp>

#include "common/core/plan_limits.h"
#include "common/formats/quantized_source.h"
#include "tools/mili/command.h"
#include "tools/mili/exit_codes.h"
#include "tools/mili/model_path.h"
#include "tools/mili/model_report.h"

namespace mili {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kUsage[] =
    R"(mili inspect MODEL: show what a model is and how much memory it takes. Reads no weights.

  mili inspect model.gguf
  mili inspect ./Qwen3-0.6B --max-model-len 8192 --max-num-seqs 64
  mili inspect model.gguf --json | jq .memory

Exit codes: 0 the model can be served; 1 it cannot, the last line says why; 2 a flag is wrong.)";

struct Flags {
  std::string model;
  ReportOptions options;
  std::string kv_cache_dtype = "bf16";
  std::string quantization = "none";
  bool json = false;
  bool tensors = true;
};

const char* NameOfScaling(RopeConfig::Scaling scaling) {
  switch (scaling) {
    case RopeConfig::Scaling::kNone:
      return "none";
    case RopeConfig::Scaling::kLinear:
      return "linear";
    case RopeConfig::Scaling::kLlama3:
      return "llama3";
  }
  return "?";
}

// name, value pairs of the config; values as JSON.
Json ConfigJson(const ModelConfig& config) {
  Json json = {{"architecture", std::string(NameOf(config.architecture))},
               {"num_layers", config.num_layers},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_heads", config.num_heads},
               {"num_kv_heads", config.num_kv_heads},
               {"head_dim", config.head_dim},
               {"vocab_size", config.vocab_size},
               {"max_position", config.max_position},
               {"rms_norm_eps", config.rms_norm_eps},
               {"rope_theta", config.rope.theta},
               {"rope_scaling", NameOfScaling(config.rope.scaling)},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"attention_bias", config.attention_bias},
               {"qk_norm", config.qk_norm},
               {"eos_token_ids", config.eos_token_ids}};
  if (config.rope.scaling != RopeConfig::Scaling::kNone) {
    json["rope_factor"] = config.rope.factor;
  }
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  return json;
}

void PrintJson(const ModelReport& report, const Flags& flags) {
  const ModelSource& source = *report.source;
  Json json = {{"name", source.config().name},
               {"format", std::string(source.format())},
               {"digest", source.Digest()},
               {"num_parameters", source.num_parameters()},
               {"weights_bytes", source.weights_bytes()},
               {"config", ConfigJson(source.config())}};
  for (const auto& [dtype, total] : TotalsOf(source)) {
    json["dtypes"][dtype] = {{"bytes", total.first}, {"tensors", total.second}};
  }
  if (flags.tensors) {
    json["tensors"] = Json::array();
    for (const TensorInfo& tensor : source.tensors()) {
      json["tensors"].push_back({{"name", tensor.name},
                                 {"name_in_file", tensor.name_in_file},
                                 {"dtype", std::string(NameOf(tensor.dtype))},
                                 {"shape", tensor.shape},
                                 {"bytes", tensor.size_bytes}});
    }
  }
  if (report.tokenizer != nullptr) {
    json["tokenizer"] = {{"vocab_size", report.tokenizer->vocab_size()},
                         {"bos_token", report.bundle->bos_token},
                         {"eos_token", report.bundle->eos_token}};
    json["chat_template"] = report.bundle->chat_template;
  } else {
    json["tokenizer"] = nullptr;
  }
  if (!report.tokenizer_problem.empty()) json["tokenizer_problem"] = report.tokenizer_problem;
  json["kv_bytes_per_token"] = report.kv.bytes_per_token();
  json["memory"] = Json::array();
  for (const ContextPlan& plan : report.contexts) {
    json["memory"].push_back({{"max_model_len", plan.max_model_len},
                              {"weights_bytes", plan.one.weights_bytes},
                              {"workspace_bytes", plan.one.workspace_bytes},
                              {"process_bytes", plan.one.process_bytes},
                              {"kv_bytes_per_sequence", plan.one.kv_bytes},
                              {"total_bytes_one_sequence", plan.one.total_bytes()},
                              {"max_num_seqs", plan.all.max_num_seqs},
                              {"total_bytes_max_num_seqs", plan.all.total_bytes()}});
  }
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void PrintTensors(const ModelSource& source) {
  std::printf("\nTensors\n");
  for (const TensorInfo& tensor : source.tensors()) {
    std::printf("  %-52s %-16s %-5s %12llu\n", tensor.name.c_str(),
                absl::StrCat("[", absl::StrJoin(tensor.shape, ", "), "]").c_str(),
                std::string(NameOf(tensor.dtype)).c_str(),
                static_cast<unsigned long long>(tensor.size_bytes));
  }
}

void PrintTokenizer(const ModelReport& report) {
  if (!report.tokenizer_problem.empty()) {
    std::printf("\nTokenizer    not usable: %s\n", report.tokenizer_problem.c_str());
    return;
  }
  if (report.tokenizer == nullptr) {
    std::printf("\nTokenizer    none: served with token ids in and out\n");
    return;
  }
  std::printf("\nTokenizer    byte-level BPE, %u tokens, BOS \"%s\", EOS \"%s\"\n",
              report.tokenizer->vocab_size(), report.bundle->bos_token.c_str(),
              report.bundle->eos_token.c_str());
  if (report.bundle->chat_template.empty()) {
    std::printf("Chat template  none: conversations are refused\n");
    return;
  }
  const std::vector<std::string> lines = absl::StrSplit(report.bundle->chat_template, '\n');
  constexpr size_t kShownLines = 6;
  constexpr size_t kShownColumns = 92;
  std::printf("Chat template, %zu lines\n", lines.size());
  for (size_t i = 0; i < std::min(lines.size(), kShownLines); ++i) {
    const bool is_cut = lines[i].size() > kShownColumns;
    std::printf("  | %s%s\n", lines[i].substr(0, kShownColumns).c_str(), is_cut ? " ..." : "");
  }
  if (lines.size() > kShownLines) std::printf("  | ...\n");
}

void PrintMemory(const ModelReport& report, const Flags& flags) {
  std::printf("\nMemory of a worker (KV in %s: %llu bytes a token; %u tokens a step)\n",
              flags.kv_cache_dtype.c_str(),
              static_cast<unsigned long long>(report.kv.bytes_per_token()),
              flags.options.limits.max_num_batched_tokens);
  std::printf("  %10s %12s %12s %12s %12s %16s %18s\n", "context", "weights", "workspace",
              "program", "KV of one", "all, 1 sequence",
              absl::StrCat("all, ", flags.options.limits.max_num_seqs, " sequences").c_str());
  for (const ContextPlan& plan : report.contexts) {
    std::printf("  %10u %12s %12s %12s %12s %16s %18s\n", plan.max_model_len,
                Mib(plan.one.weights_bytes).c_str(), Mib(plan.one.workspace_bytes).c_str(),
                Mib(plan.one.process_bytes).c_str(), Mib(plan.one.kv_bytes).c_str(),
                Mib(plan.one.total_bytes()).c_str(), Mib(plan.all.total_bytes()).c_str());
  }
}

void PrintText(const ModelReport& report, const Flags& flags) {
  const ModelSource& source = *report.source;
  std::printf("%s: %s, %s, %.1f M parameters, %s of weights\n", source.config().name.c_str(),
              std::string(source.format()).c_str(),
              std::string(NameOf(source.config().architecture)).c_str(),
              static_cast<double>(source.num_parameters()) / 1e6,
              Mib(source.weights_bytes()).c_str());
  std::printf("\nConfig\n");
  const Json config = ConfigJson(source.config());
  for (const auto& [name, value] : config.items()) {
    std::printf("  %-20s %s\n", name.c_str(), value.dump().c_str());
  }
  if (flags.tensors) PrintTensors(source);
  std::printf("\nTypes\n");
  for (const auto& [dtype, total] : TotalsOf(source)) {
    std::printf("  %-5s %5u tensors %14s\n", dtype.c_str(), total.second, Mib(total.first).c_str());
  }
  PrintTokenizer(report);
  PrintMemory(report, flags);
}

}  // namespace

int RunInspect(const CommandLineArgs& args) {
  Flags flags;
  FlagTable table("mili inspect", kUsage);
  table.AddPositional("MODEL", &flags.model, "A GGUF file, or a directory with safetensors files.",
                      true);
  table.Add(
      {.name = "json", .target = &flags.json, .value_name = "", .help = "Print one JSON object."});
  table.Add(
      {.name = "tensors", .target = &flags.tensors, .value_name = "", .help = "List all tensors."});
  table.Add({.name = "quantization",
             .target = &flags.quantization,
             .value_name = "none|q8_0|q4_k",
             .help = "Show the model as serve --quantization would load it.",
             .choices = {"none", "q8_0", "q4_k"}});
  table.AddSection("Memory");
  table.Add({.name = "max-model-len",
             .target = &flags.options.limits.max_model_len,
             .value_name = "TOKENS",
             .help = "Plan for this context. 0: for several."});
  table.Add({.name = "max-num-seqs",
             .target = &flags.options.limits.max_num_seqs,
             .value_name = "N",
             .help = "Sequences that run at once.",
             .min_value = 1,
             .max_value = 4096});
  table.Add({.name = "max-num-batched-tokens",
             .target = &flags.options.limits.max_num_batched_tokens,
             .value_name = "N",
             .help = "Most tokens that one step computes.",
             .min_value = 1});
  table.Add({.name = "page-size",
             .target = &flags.options.limits.page_size_tokens,
             .value_name = "TOKENS",
             .help = "Tokens of one KV page.",
             .min_value = 1,
             .max_value = 1024});
  table.Add({.name = "kv-cache-dtype",
             .target = &flags.kv_cache_dtype,
             .value_name = "bf16|f32",
             .help = "Type of KV; f32 is what --cpu-kernels reference takes.",
             .choices = {"bf16", "f32"}});
  if (const std::optional<int> code = ParseFlags(table, args)) return *code;
  if (absl::Status status = CheckModelPath(flags.model); !status.ok()) return Fail(status);
  auto source = ModelSource::Open(flags.model);
  if (source.ok()) source = QuantizeWhileReading(*std::move(source), flags.quantization);
  if (!source.ok()) return Fail(source.status());
  flags.options.kv_dtype = flags.kv_cache_dtype == "f32" ? DType::kF32 : DType::kBF16;
  const auto report = Inspect(**source, flags.options);
  if (!report.ok()) return Fail(report.status());
  if (flags.json) {
    PrintJson(*report, flags);
  } else {
    PrintText(*report, flags);
  }
  return std::fflush(stdout) == 0 ? kExitOk : kExitFailure;
}

}  // namespace mili
