// Infer requests and answers as messages of protobuf.
#pragma once

#include "integrations/server/infer.h"
#include "integrations/server/inference.pb.h"

namespace mpq::serve {

/// Sets the job's inputs, which point into the message. Typed contents become raw ones, numbers out
/// of their type's range are refused; so the message is changed, but may be read again.
/// binary_outputs: what outputs are to be, raw or typed.
MaybeFailure read_message(const Facts& facts, bool binary_outputs,
                          inference::ModelInferRequest* message, Job* job, Wanted* wanted);

/// All but the id.
void write_message(const Facts& facts, const Wanted& wanted, const Job& job,
                   inference::ModelInferResponse* message);

}  // namespace mpq::serve
