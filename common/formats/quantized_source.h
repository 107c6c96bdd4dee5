// A ModelSource whose matrices are quantised while they are read, so that a model stored in
// floating point runs quantised. Thread-safe after creation, as every source.
#pragma once

#include <memory>
#include <string_view>

#include <absl/status/statusor.h>

#include "common/formats/model_source.h"

namespace mili {

// `source` itself for "none"; else a source that reports and gives its matrices in that type. A
// matrix whose rows are no whole blocks of it takes q8_0, or stays as it is where that does not fit
// either; with q4_k the embedding and the head take q8_0, as they lose most. Norms and biases stay.
// INVALID_ARGUMENT for another name, or if a matrix is quantised already. Reading fails with
// DATA_LOSS for a weight that is not finite or too large.
absl::StatusOr<std::unique_ptr<ModelSource>> QuantizeWhileReading(
    std::unique_ptr<ModelSource> source, std::string_view quantization);

}  // namespace mili
