// When a thread that is busy naps, and when it sleeps in earnest.
#include <doctest/doctest.h>

#include "port/moderation.h"

using namespace weir;

namespace {

constexpr uint64_t kMs = 1'000'000;

TEST_CASE("moderation: while frames come by the hundred a millisecond each nap that brings some is followed by another") {
  Moderation moderation;
  uint64_t now = 2 * kMs;
  moderation.add(1000);
  CHECK(moderation.nap(now));
  for (int i = 0; i < 5; i++) {
    moderation.add(20);
    CHECK(moderation.nap(now += kMs / 10));
  }
  CHECK_FALSE(moderation.nap(now += kMs / 10));  // the last one brought nothing
}

TEST_CASE("moderation: fewer frames wake at once") {
  Moderation moderation;
  moderation.add(150);
  CHECK_FALSE(moderation.nap(2 * kMs));
  moderation.add(1);
  CHECK_FALSE(moderation.nap(3 * kMs));
}

}  // namespace
