#include "router/api/text_service.h"

#include <utility>

#include "common/base/status_macros.h"
#include "common/wire/status_wire.h"
#include "router/api/tokenise.h"

namespace mili::router {
namespace {

absl::StatusOr<std::shared_ptr<const ServedModel>> ModelWithTokenizer(const Frontend& frontend,
                                                                      const std::string& name) {
  MILI_ASSIGN_OR_RETURN(std::shared_ptr<const ServedModel> model, frontend.Model());
  MILI_RETURN_IF_ERROR(CheckModelName(name, *model));
  if (model->tokenizer == nullptr) {
    return BadField("model", "this model comes without a tokenizer");
  }
  return model;
}

absl::StatusOr<TokenizeOutcome> DoTokenize(const TokenizeJob& job, const ServedModel& model) {
  TokenizeOutcome outcome;
  outcome.max_model_len = model.facts.max_model_len;
  MILI_ASSIGN_OR_RETURN(outcome.token_ids, Tokenise(job.input, model, job.add_special_tokens));
  if (job.return_token_strs) {
    for (const TokenId id : outcome.token_ids) {
      outcome.token_strs.push_back(model.tokenizer->SpellingOf(id));
    }
  }
  return outcome;
}

}  // namespace

void Tokenize(Frontend* frontend, TokenizeJob job,
              std::function<void(absl::StatusOr<TokenizeOutcome>)> done) {
  const auto model = ModelWithTokenizer(*frontend, job.model);
  if (!model.ok()) return done(model.status());
  const absl::Status accepted = frontend->RunText(
      [model = *model, job = std::move(job), done] { done(DoTokenize(job, *model)); });
  if (!accepted.ok()) done(accepted);
}

void Detokenize(Frontend* frontend, DetokenizeJob job,
                std::function<void(absl::StatusOr<std::string>)> done) {
  const auto model = ModelWithTokenizer(*frontend, job.model);
  if (!model.ok()) return done(model.status());
  if (absl::Status s = CheckTokenIds(job.token_ids, **model, "token_ids"); !s.ok()) return done(s);
  const absl::Status accepted = frontend->RunText([model = *model, job = std::move(job), done] {
    done(model->tokenizer->Decode(job.token_ids, job.skip_special_tokens));
  });
  if (!accepted.ok()) done(accepted);
}

}  // namespace mili::router
