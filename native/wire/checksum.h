// Internet checksum (RFC 1071) in 64-bit steps, kept in native byte order until it is stored.
#pragma once
#include <cstdint>
#include <cstring>

namespace weir {

// Adds `n` bytes to a running one's complement sum. An odd trailing byte counts as the high byte of a 16-bit word, so only
// the last range of a sum may have odd length.
inline uint64_t checksum_add(const uint8_t* p, uint32_t n, uint64_t sum) {
  if (n >= 64) {
    // The halves of 64-bit lanes are added up apart: that needs no carry, never overflows for any n, and goes two vectors at a
    // time with nothing newer than SSE2. A third of the time of the loop below.
    typedef uint64_t Lanes __attribute__((vector_size(16)));
    Lanes low[2]{}, high[2]{};
    for (; n >= 32; p += 32, n -= 32) {
      Lanes words[2];
      std::memcpy(words, p, 32);
      low[0] += words[0] & 0xffffffff;
      high[0] += words[0] >> 32;
      low[1] += words[1] & 0xffffffff;
      high[1] += words[1] >> 32;
    }
    const Lanes all = low[0] + high[0] + low[1] + high[1];
    for (int i = 0; i < 2; i++) {
      const uint64_t lane = all[i];
      sum += lane;
      sum += sum < lane;
    }
  }
  while (n >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    sum += word;
    sum += sum < word;
    p += 8;
    n -= 8;
  }
  if (n >= 4) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    sum += word;
    sum += sum < word;
    p += 4;
    n -= 4;
  }
  if (n >= 2) {
    uint16_t word;
    std::memcpy(&word, p, 2);
    sum += word;
    sum += sum < word;
    p += 2;
    n -= 2;
  }
  if (n) {
    uint16_t word = 0;
    std::memcpy(&word, p, 1);
    sum += word;
    sum += sum < word;
  }
  return sum;
}

// Folds to 16 bits, native order, not complemented.
inline uint16_t checksum_fold(uint64_t sum) {
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 32) + (sum & 0xffffffff);
  sum = (sum >> 16) + (sum & 0xffff);
  sum = (sum >> 16) + (sum & 0xffff);
  return uint16_t(sum);
}

// Pseudo-header sum of RFC 793 / RFC 8200 section 8.1. `addresses` is source and destination next to each other:
// 8 bytes for IPv4, 32 for IPv6.
inline uint64_t checksum_pseudo(const uint8_t* addresses, uint32_t address_bytes, uint8_t protocol, uint32_t length) {
  const uint8_t tail[8] = {uint8_t(length >> 24), uint8_t(length >> 16), uint8_t(length >> 8), uint8_t(length), 0, 0, 0, protocol};
  return checksum_add(tail, 8, checksum_add(addresses, address_bytes, 0));
}

// Stores a folded, native-order sum.
inline void checksum_store(uint8_t* at, uint16_t folded) { std::memcpy(at, &folded, 2); }

// Replaces a 16-bit word and keeps a checksum that covers it right (RFC 1624, eqn. 3). Both words in network order.
inline void checksum_replace16(uint8_t* checksum, uint8_t* word, uint16_t value) {
  uint16_t old_word, new_word, sum;
  std::memcpy(&old_word, word, 2);
  word[0] = uint8_t(value >> 8);
  word[1] = uint8_t(value);
  std::memcpy(&new_word, word, 2);
  std::memcpy(&sum, checksum, 2);
  uint32_t s = uint32_t(uint16_t(~sum)) + uint16_t(~old_word) + new_word;
  s = (s >> 16) + (s & 0xffff);
  s = (s >> 16) + (s & 0xffff);
  checksum_store(checksum, uint16_t(~s));
}

}  // namespace weir
