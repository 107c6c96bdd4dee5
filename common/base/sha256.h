// SHA-256: digests by which router and worker agree that they mean the same model. Not a secret's
// guard. Stateless; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace mili {

// Hashes a message that comes in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  // The digest in 64 lower-case hex digits. Ends the message: call it once.
  std::string FinishHex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// FIPS 180-4, in 64 lower-case hex digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace mili
