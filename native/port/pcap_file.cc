#include "port/pcap_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace weir {
namespace {

constexpr uint32_t kFileHeader = 24, kRecordHeader = 16;
constexpr uint32_t kMicroseconds = 0xa1b2c3d4, kNanoseconds = 0xa1b23c4d, kEthernet = 1;
// A read of this many bytes is still in the second-level cache when its frames are handled.
constexpr uint32_t kChunk = 256 * 1024;
constexpr uint32_t kCapacity = kRecordHeadroom + kRecordHeader + kLongestRecord + kChunk;

uint32_t load(const uint8_t* p, bool swapped) {
  uint32_t value;
  std::memcpy(&value, p, 4);
  return swapped ? __builtin_bswap32(value) : value;
}

}  // namespace

std::unique_ptr<PcapFile> PcapFile::open(int descriptor) {
  struct stat info;
  uint8_t header[kFileHeader];
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode) || lseek(descriptor, 0, SEEK_CUR) != 0) return nullptr;
  if (pread(descriptor, header, sizeof header, 0) != ssize_t(sizeof header)) return nullptr;
  const uint32_t magic = load(header, false), other = load(header, true);
  const bool swapped = other == kMicroseconds || other == kNanoseconds;
  const uint32_t kind = swapped ? other : magic;
  if (kind != kMicroseconds && kind != kNanoseconds) return nullptr;
  // Version 2.4; a link type with nothing said of frame check sequences.
  uint16_t major, minor;
  std::memcpy(&major, header + 4, 2);
  std::memcpy(&minor, header + 6, 2);
  if (swapped) major = __builtin_bswap16(major), minor = __builtin_bswap16(minor);
  if (major != 2 || minor != 4 || load(header + 20, swapped) != kEthernet) return nullptr;
  const uint32_t snapshot = load(header + 16, swapped);
  const bool unlimited = snapshot == 0 || snapshot > kLongestRecord;
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::unique_ptr<PcapFile>(new PcapFile(descriptor, swapped, kind == kNanoseconds, unlimited ? kLongestRecord : snapshot));
}

PcapFile::PcapFile(int descriptor, bool swapped, bool nanoseconds, uint32_t snapshot)
    : descriptor_(descriptor), swapped_(swapped), nanoseconds_(nanoseconds), snapshot_(snapshot), buffer_(new uint8_t[kCapacity]),
      at_(kRecordHeadroom), end_(kRecordHeadroom), taken_(kFileHeader) {}

PcapFile::~PcapFile() { close(descriptor_); }

uint32_t PcapFile::field(uint32_t at) const { return load(buffer_.get() + at, swapped_); }

// Whether so many bytes lie at at_, after reading on if need be. Moves what has not been given out.
bool PcapFile::have(uint32_t bytes) {
  if (end_ - at_ >= bytes) return true;
  std::memmove(buffer_.get() + kRecordHeadroom, buffer_.get() + at_, end_ - at_);
  end_ -= at_ - kRecordHeadroom;
  at_ = kRecordHeadroom;
  while (end_ - at_ < bytes && !over_ && error_.empty()) {
    const ssize_t n = pread(descriptor_, buffer_.get() + end_, std::min(kCapacity - end_, kChunk), off_t(taken_));
    if (n < 0) {
      if (errno != EINTR) error_ = std::string("error reading dump file: ") + std::strerror(errno);
    } else if (n == 0) {
      over_ = true;
    } else {
      end_ += uint32_t(n);
      taken_ += uint64_t(n);
    }
  }
  return end_ - at_ >= bytes;
}

uint32_t PcapFile::read(std::span<CaptureRecord> records) {
  uint32_t n = 0;
  for (; n < records.size(); n++) {
    // Reading on would move what has been given out: what there is goes first.
    if (end_ - at_ < kRecordHeader && (n || !have(kRecordHeader))) {
      if (!n && error_.empty() && end_ != at_)
        error_ = "truncated dump file; tried to read " + std::to_string(kRecordHeader) + " header bytes, only got " + std::to_string(end_ - at_);
      break;
    }
    const uint32_t captured = field(at_ + 8), length = field(at_ + 12);
    if (captured > kLongestRecord) {
      if (!n) error_ = "invalid packet capture length " + std::to_string(captured) + ", bigger than maximum of " + std::to_string(kLongestRecord);
      break;
    }
    if (end_ - at_ < kRecordHeader + captured && (n || !have(kRecordHeader + captured))) {
      if (!n && error_.empty()) cut_short(captured);
      break;
    }
    const uint32_t seconds = field(at_), fraction = field(at_ + 4);
    // libpcap takes the fields as signed, but for what it has swapped.
    const int64_t signed_seconds = swapped_ ? int64_t(seconds) : int64_t(int32_t(seconds));
    const int64_t signed_fraction = swapped_ ? int64_t(fraction) : int64_t(int32_t(fraction));
    const uint32_t kept = std::min(captured, snapshot_);
    CaptureRecord& record = records[n];
    record.frame = {buffer_.get() + at_ + kRecordHeader, kept, std::max(length, kept), kRecordHeadroom, {}, true};
    record.time_ns = record_time_ns(signed_seconds, nanoseconds_ ? signed_fraction : signed_fraction * 1000);
    record.sent_by_host = -1;
    record.usable = true;
    at_ += kRecordHeader + captured;
  }
  return n;
}

// As libpcap says it, which reads up to the snapshot length and then skips the rest.
void PcapFile::cut_short(uint32_t captured) {
  const uint32_t there = end_ - at_ - kRecordHeader;
  const bool in_rest = captured > snapshot_ && there >= snapshot_;
  const uint32_t tried = in_rest ? captured : std::min(captured, snapshot_);
  error_ = "truncated dump file; tried to read " + std::to_string(tried) + " captured bytes, only got " + std::to_string(there);
}

}  // namespace weir
