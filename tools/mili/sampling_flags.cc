#include "tools/mili/sampling_flags.h"

namespace mili {

void AddSamplingFlags(FlagTable& table, SamplingFlags& flags) {
  table.AddSection("Sampling (what is not given is the server's default)");
  table.Add({.name = "max-tokens",
             .target = &flags.max_tokens,
             .value_name = "N",
             .help = "Most tokens to produce.",
             .short_name = 'n'});
  table.Add({.name = "temperature",
             .target = &flags.temperature,
             .value_name = "T",
             .help = "0 always takes the likeliest token; up to 100.",
             .short_name = 't',
             .min_value = 0,
             .max_value = 100});
  table.Add({.name = "top-p",
             .target = &flags.top_p,
             .value_name = "P",
             .help = "Choose among the likeliest tokens that make up this probability.",
             .min_value = 0,
             .max_value = 1});
  table.Add({.name = "top-k",
             .target = &flags.top_k,
             .value_name = "K",
             .help = "Choose among the K likeliest tokens. 0 or -1: all.",
             .min_value = -1});
  table.Add({.name = "min-p",
             .target = &flags.min_p,
             .value_name = "P",
             .help = "Leave out tokens less likely than this share of the likeliest one.",
             .min_value = 0,
             .max_value = 1});
  table.Add({.name = "seed",
             .target = &flags.seed,
             .value_name = "N",
             .help = "The same seed gives the same answer."});
  table.Add({.name = "presence-penalty",
             .target = &flags.presence_penalty,
             .value_name = "X",
             .help = "Against tokens that have come at all.",
             .min_value = -2,
             .max_value = 2});
  table.Add({.name = "frequency-penalty",
             .target = &flags.frequency_penalty,
             .value_name = "X",
             .help = "Against tokens by how often they have come.",
             .min_value = -2,
             .max_value = 2});
  table.Add({.name = "repetition-penalty",
             .target = &flags.repetition_penalty,
             .value_name = "X",
             .help = "Above 1: against tokens of the prompt and the answer.",
             .min_value = 0});
  table.Add({.name = "stop",
             .target = &flags.stop,
             .value_name = "TEXT",
             .help = "End the answer before this text."});
  table.Add({.name = "ignore-eos",
             .target = &flags.ignore_eos,
             .value_name = "",
             .help = "Go on after the model's own end."});
  table.Add({.name = "model-name",
             .target = &flags.model_name,
             .value_name = "NAME",
             .help = "Which of the server's models, where it has several."});
}

void Apply(const SamplingFlags& flags, v1::GenerateRequest* request) {
  request->set_model(flags.model_name);
  if (flags.max_tokens) request->set_max_tokens(*flags.max_tokens);
  const auto as_float = [](double value) { return static_cast<float>(value); };
  if (flags.temperature) request->set_temperature(as_float(*flags.temperature));
  if (flags.top_p) request->set_top_p(as_float(*flags.top_p));
  if (flags.top_k) request->set_top_k(*flags.top_k);
  if (flags.min_p) request->set_min_p(as_float(*flags.min_p));
  if (flags.seed) request->set_seed(*flags.seed);
  if (flags.presence_penalty) request->set_presence_penalty(as_float(*flags.presence_penalty));
  if (flags.frequency_penalty) request->set_frequency_penalty(as_float(*flags.frequency_penalty));
  if (flags.repetition_penalty) {
    request->set_repetition_penalty(as_float(*flags.repetition_penalty));
  }
  for (const std::string& stop : flags.stop) request->add_stop(stop);
  request->set_ignore_eos(flags.ignore_eos);
}

}  // namespace mili
