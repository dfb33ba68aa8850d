// SHA-256, by libmd.
#include "train/sha256.hpp"

#include <sys/types.h>

#include <sha2.h>

#include <cstdint>

namespace attune::train {

std::string sha256_hex(std::string_view text) {
  SHA2_CTX context;
  SHA256Init(&context);
  SHA256Update(&context, reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  char hex[SHA256_DIGEST_STRING_LENGTH];
  return SHA256End(&context, hex);
}

}  // namespace attune::train
