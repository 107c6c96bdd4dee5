// PrepareGrpc: what a program that uses gRPC says to it once, at the start of main.
#pragma once

namespace mili {

// Silences gRPC's own log unless GRPC_VERBOSITY is set, and spares its locks the search for
// deadlocks. Before any other thread and any use of gRPC.
void PrepareGrpc();

}  // namespace mili
