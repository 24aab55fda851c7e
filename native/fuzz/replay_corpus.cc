// Runs a target over files, for compilers without libFuzzer: every file of every directory given, and every file given.
//   TARGET FILE…                        each as it is
//   TARGET --changed SEED FOUND FILE…   each changed at random, in turn, for 2 s of CPU; what breaks the target is written to FOUND
// The seed alone says which inputs come, in which order; how many of them, the machine's speed.
#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "mutations.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

// With g++ UBSan's runtime is a library of its own, which knows no death callbacks: it has to end by a signal, too.
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1"; }

namespace {

constexpr double kSeconds = 2;
constexpr unsigned kLongestSeconds = 20;  // of one input

std::vector<std::filesystem::path> files_of(char** first, char** last) {
  std::vector<std::filesystem::path> files;
  for (; first != last; first++) {
    if (!std::filesystem::is_directory(*first)) {
      files.emplace_back(*first);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(*first))
      if (entry.is_regular_file()) files.push_back(entry.path());
  }
  // A directory has no order of its own, and the seed has to mean the same everywhere.
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<uint8_t> read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(stream)), {});
  return {bytes.begin(), bytes.end()};
}

// What is being run. Kept when the process dies, not before each run: that would be most of the work.
struct Current {
  const std::vector<uint8_t>* input = nullptr;
  const char* found = nullptr;
  uint64_t seed = 0, number = 0;
} current;

void keep() {
  const std::vector<uint8_t>* input = std::exchange(current.input, nullptr);
  if (!input) return;
  char path[4096];
  std::snprintf(path, sizeof path, "%s", current.found);
  for (char* at = path; (at = std::strchr(at + 1, '/'));) {
    *at = 0;
    ::mkdir(path, 0777);
    *at = '/';
  }
  ::mkdir(path, 0777);
  std::snprintf(path, sizeof path, "%s/seed-%llu-%llu", current.found, static_cast<unsigned long long>(current.seed), static_cast<unsigned long long>(current.number));
  const int file = ::open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  const bool written = file >= 0 && ::write(file, input->data(), input->size()) == ssize_t(input->size());
  char line[4300];
  const int length = std::snprintf(line, sizeof line, "WEIR_SEED=%llu, changed input %llu: %s%s\n", static_cast<unsigned long long>(current.seed),
                                   static_cast<unsigned long long>(current.number), written ? "" : "could not be written to ", path);
  if (::write(STDERR_FILENO, line, size_t(length)) < 0) _exit(1);
}

void on_signal(int signal) {
  if (signal == SIGALRM) {
    static constexpr char kSlow[] = "an input takes too long\n";
    if (::write(STDERR_FILENO, kSlow, sizeof kSlow - 1) < 0) _exit(1);
  }
  keep();
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

int run_changed(uint64_t seed, const char* found, const std::vector<std::filesystem::path>& files) {
  std::vector<std::vector<uint8_t>> kept;
  for (const auto& file : files) kept.push_back(read(file));
  std::mt19937_64 random(seed);
  current.found = found;
  current.seed = seed;
  __sanitizer_set_death_callback(keep);
  std::signal(SIGABRT, on_signal);
  std::signal(SIGALRM, on_signal);
  std::vector<uint8_t> input;
  const std::clock_t begin = std::clock();
  while (double(std::clock() - begin) < kSeconds * CLOCKS_PER_SEC) {
    input = kept[current.number % kept.size()];
    weir::fuzz::change(input, kept[random() % kept.size()], random);
    current.input = &input;
    ::alarm(kLongestSeconds);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    current.input = nullptr;
    current.number++;
  }
  ::alarm(0);
  std::printf("%llu changed inputs\n", static_cast<unsigned long long>(current.number));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const bool changed = count > 3 && std::strcmp(arguments[1], "--changed") == 0;
  const auto files = files_of(arguments + (changed ? 4 : 1), arguments + count);
  if (files.empty()) {
    std::fprintf(stderr, "no inputs\n");
    return 1;
  }
  if (changed) return run_changed(std::strtoull(arguments[2], nullptr, 10), arguments[3], files);
  for (const auto& file : files) {
    const std::vector<uint8_t> bytes = read(file);
    std::fprintf(stderr, "%s\n", file.c_str());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs\n", files.size());
  return 0;
}
