#include "common/base/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "common/base/check.h"

namespace mili {

struct Sha256::Context {
  Context() : digest(EVP_MD_CTX_new()) {}
  ~Context() { EVP_MD_CTX_free(digest); }
  EVP_MD_CTX* digest;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  MILI_CHECK(context_->digest != nullptr, "OpenSSL has no memory for a hash");
  MILI_CHECK(EVP_DigestInit_ex(context_->digest, EVP_sha256(), nullptr) == 1,
             "OpenSSL offers no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::Update(std::string_view bytes) {
  MILI_CHECK(EVP_DigestUpdate(context_->digest, bytes.data(), bytes.size()) == 1,
             "SHA-256 cannot fail on plain bytes");
}

std::string Sha256::FinishHex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  MILI_CHECK(EVP_DigestFinal_ex(context_->digest, digest.data(), &size) == 1, "a digest ends once");
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(size_t{size} * 2);
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back(kHex[digest[i] >> 4]);
    hex.push_back(kHex[digest[i] & 15]);
  }
  return hex;
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.FinishHex();
}

}  // namespace mili
