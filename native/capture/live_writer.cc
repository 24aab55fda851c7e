#include "capture/live_writer.h"

#include <fcntl.h>
#include <pcap/pcap.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace weir {
namespace {

// A descriptor of its own, which waits for slow readers whatever others have set.
FILE* standard_output() {
  const int fd = fcntl(1, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return nullptr;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fdopen(fd, "wb");
}

}  // namespace

std::string LiveWriter::open(const std::string& path, uint32_t snaplen) {
  path_ = path == "-" ? "standard output" : path;
  handle_ = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, int(snaplen), PCAP_TSTAMP_PRECISION_NANO);
  if (!handle_) return "can't write " + path_ + ": no memory";
  FILE* stream = path == "-" ? standard_output() : std::fopen(path.c_str(), "wbe");
  if (!stream) return "can't write " + path_ + ": " + std::strerror(errno);
  constexpr size_t kBuffer = 1 << 18;
  std::setvbuf(stream, nullptr, _IOFBF, kBuffer);
  dumper_ = pcap_dump_fopen(handle_, stream);
  if (dumper_) return {};
  std::fclose(stream);
  return "can't write " + path_ + ": " + pcap_geterr(handle_);
}

void LiveWriter::write(uint64_t time_ns, const uint8_t* bytes, uint32_t length, uint32_t wire_length) {
  pcap_pkthdr header{};
  header.ts.tv_sec = time_t(time_ns / 1'000'000'000);
  header.ts.tv_usec = suseconds_t(time_ns % 1'000'000'000);  // nanoseconds, by the precision above
  header.caplen = length;
  header.len = wire_length;
  pcap_dump(reinterpret_cast<uint8_t*>(dumper_), &header, bytes);
}

std::string LiveWriter::flush() {
  errno = 0;
  if (pcap_dump_flush(dumper_) == 0 && !ferror(pcap_dump_file(dumper_))) return {};
  return "can't write " + path_ + ": " + (errno == EPIPE ? "nobody reads it any more" : errno ? std::strerror(errno) : "the disk may be full");
}

std::string LiveWriter::close() {
  std::string error;
  if (dumper_) {
    error = flush();
    pcap_dump_close(dumper_);
  }
  dumper_ = nullptr;
  if (handle_) pcap_close(handle_);
  handle_ = nullptr;
  return error;
}

LiveWriter::~LiveWriter() { close(); }

}  // namespace weir
