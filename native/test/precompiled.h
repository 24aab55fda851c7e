// What nearly every file reads anyhow, read once for all of them: half of the time that compiling takes.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#ifdef WEIR_ADDON
#include <napi.h>
#endif
#ifdef WEIR_CASES
#include <doctest/doctest.h>
#endif
