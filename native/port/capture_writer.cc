#include "port/capture_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "port/capture_record.h"

namespace weir {
namespace {

// What is written at once: enough that the call costs nothing, little enough to be in the second-level cache still.
constexpr uint32_t kFlush = 256 * 1024;
// A record with all the headers that may come before its frame.
constexpr uint32_t kMostRecord = 16 + kRecordHeadroom + kLongestRecord;
constexpr uint32_t kCapacity = kFlush + kMostRecord;

}  // namespace

std::string CaptureWriter::open(const std::string& path) {
  path_ = path;
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) return "can't write " + path + ": " + std::strerror(errno);
  buffer_.reset(new uint8_t[kCapacity]);
  // Magic number of nanoseconds, version 2.4, snapshot length, Ethernet.
  const uint32_t header[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, kLongestRecord, 1};
  std::memcpy(buffer_.get(), header, sizeof header);
  used_ = sizeof header;
  return {};
}

void CaptureWriter::write(uint64_t time_ns, std::span<const Piece> pieces) {
  uint32_t length = 0;
  for (const Piece& piece : pieces) length += piece.length;
  if (length > kMostRecord - 16) {  // no such frame is ever made
    failure_ = EMSGSIZE;
    return;
  }
  const uint32_t header[4] = {uint32_t(time_ns / 1'000'000'000), uint32_t(time_ns % 1'000'000'000), length, length};
  uint8_t* to = buffer_.get() + used_;
  std::memcpy(to, header, sizeof header);
  to += sizeof header;
  for (const Piece& piece : pieces) {
    std::memcpy(to, piece.bytes, piece.length);
    to += piece.length;
  }
  used_ = uint32_t(to - buffer_.get());
  if (used_ >= kFlush) flush();
}

void CaptureWriter::flush() {
  for (uint32_t done = 0; done < used_ && !failure_;) {
    const ssize_t n = ::write(descriptor_, buffer_.get() + done, used_ - done);
    if (n > 0) {
      done += uint32_t(n);
    } else if (n == 0 || errno != EINTR) {
      failure_ = n == 0 ? EIO : errno;
    }
  }
  used_ = 0;
}

std::string CaptureWriter::close() {
  if (descriptor_ < 0) return {};
  flush();
  if (::close(descriptor_) != 0 && !failure_) failure_ = errno;
  descriptor_ = -1;
  return failure_ ? "can't write " + path_ + ": " + std::strerror(failure_) : std::string();
}

CaptureWriter::~CaptureWriter() { close(); }

}  // namespace weir
