// Target: the readers of capture files, ours and libpcap's. No record is longer than it may be, no file is read for ever, and
// the memory before a frame is writable, as its readers count on.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "fuzz_input.h"
#include "port/capture_file.h"

using namespace weir;
using namespace weir::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static const int file = memfd_create("capture", MFD_CLOEXEC);
  CLAIM(file >= 0 && ftruncate(file, 0) == 0 && pwrite(file, bytes, size, 0) == ssize_t(size));
  CaptureReader reader;
  if (!reader.open("/proc/self/fd/" + std::to_string(file)).empty()) return 0;
  std::array<CaptureRecord, 32> records;
  uint64_t count = 0;
  while (const uint32_t n = reader.read(records)) {
    CLAIM(n <= records.size());
    for (uint32_t i = 0; i < n; i++) {
      const CaptureRecord& record = records[i];
      if (!record.usable) continue;
      CLAIM(record.frame.length <= kLongestRecord + kRecordHeadroom);
      CLAIM(record.frame.length <= record.frame.wire_length);
      CLAIM(record.frame.headroom == kRecordHeadroom);
      if (record.frame.length) record.frame.bytes[record.frame.length - 1] ^= 1;
    }
    // As what handles them does: from the first on, over what is before.
    for (uint32_t i = 0; i < n; i++)
      if (records[i].usable) std::memset(records[i].frame.bytes - kRecordHeadroom, 0xee, kRecordHeadroom);
    count += n;
    CLAIM(count <= size);  // each record takes some bytes of the file
  }
  CLAIM(reader.bytes_read() <= size);
  return 0;
}
