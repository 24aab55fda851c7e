// SipHash-2-4 (Aumasson, Bernstein, 2012): of one message, or of as many messages of one length as a vector has lanes.
#pragma once
#include <cstdint>
#include <cstring>

namespace weir {

// `Word` is uint64_t, or a vector of them that holds the same word of each message.
template <typename Word>
class SipHash24 {
 public:
  [[gnu::always_inline]] explicit SipHash24(const uint64_t key[2])
      : v0_(Word{} + (key[0] ^ 0x736f6d6570736575)),
        v1_(Word{} + (key[1] ^ 0x646f72616e646f6d)),
        v2_(Word{} + (key[0] ^ 0x6c7967656e657261)),
        v3_(Word{} + (key[1] ^ 0x7465646279746573)) {}

  // The next eight bytes, little-endian. The last ones have the message's length in their highest byte.
  [[gnu::always_inline]] void add(const Word& m) {
    v3_ ^= m;
    round();
    round();
    v0_ ^= m;
  }
  [[gnu::always_inline]] void finish(Word& hash) {
    v2_ ^= Word{} + uint64_t(0xff);
    for (int i = 0; i < 4; i++) round();
    hash = v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  template <int n>
  [[gnu::always_inline]] static void rotate(Word& w) {
    w = (w << n) | (w >> (64 - n));
  }
  [[gnu::always_inline]] void round() {
    v0_ += v1_; rotate<13>(v1_); v1_ ^= v0_; rotate<32>(v0_);
    v2_ += v3_; rotate<16>(v3_); v3_ ^= v2_;
    v0_ += v3_; rotate<21>(v3_); v3_ ^= v0_;
    v2_ += v1_; rotate<17>(v1_); v1_ ^= v2_; rotate<32>(v2_);
  }

  Word v0_, v1_, v2_, v3_;
};

// Of any message.
inline uint64_t siphash24(const uint64_t key[2], const uint8_t* data, uint32_t n) {
  SipHash24<uint64_t> hash(key);
  uint32_t at = 0;
  for (; at + 8 <= n; at += 8) {
    uint64_t word;
    std::memcpy(&word, data + at, 8);
    hash.add(word);
  }
  uint64_t last = uint64_t(n) << 56;
  for (uint32_t i = 0; at + i < n; i++) last |= uint64_t(data[at + i]) << (8 * i);
  hash.add(last);
  uint64_t result;
  hash.finish(result);
  return result;
}

}  // namespace weir
