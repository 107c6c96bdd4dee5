#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "mili/worker/v1/worker.grpc.pb.h"
#include "router/dispatch/channel.h"
#include "router/dispatch/grpc_group_client.h"

namespace mili::router {
namespace {

constexpr size_t kMaxBundleBytes = 256 << 20;

// Returns once the worker has loaded its model.
absl::Status WaitUntilLoaded(worker::v1::Worker::Stub& stub, absl::Time deadline) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  context.set_wait_for_ready(true);
  auto reader = stub.Describe(&context, worker::v1::DescribeRequest());
  worker::v1::DescribeResponse response;
  while (reader->Read(&response)) {
  }
  return FromGrpc(reader->Finish());
}

}  // namespace

absl::StatusOr<TokenizerBundle> FetchTokenizer(const std::string& address, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const auto stub = worker::v1::Worker::NewStub(MakeWorkerChannel(address));
  if (absl::Status status = WaitUntilLoaded(*stub, deadline); !status.ok()) return status;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  auto reader = stub->GetTokenizer(&context, worker::v1::GetTokenizerRequest());
  std::string bytes;
  std::string sha256;
  worker::v1::GetTokenizerResponse response;
  while (reader->Read(&response)) {
    if (bytes.size() + response.data().size() > kMaxBundleBytes) {
      context.TryCancel();
      return absl::DataLossError(
          absl::StrCat("tokenizer from ", address, ": more than ", kMaxBundleBytes >> 20, " MiB"));
    }
    bytes += response.data();
    sha256 = response.sha256();
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) return FromGrpc(status);
  if (const std::string digest = Sha256Hex(bytes); digest != sha256) {
    return absl::DataLossError(absl::StrCat("tokenizer from ", address, ": sha256 is ", digest,
                                            ", the worker said ", sha256));
  }
  worker::v1::TokenizerBundle bundle;
  if (!bundle.ParseFromString(bytes)) {
    return absl::DataLossError(absl::StrCat("tokenizer from ", address, ": not a TokenizerBundle"));
  }
  return FromProto(bundle);
}

}  // namespace mili::router
