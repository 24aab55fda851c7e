#include "port/capture_file.h"

#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio_ext.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "wire/ethernet.h"

namespace weir {
namespace {

// Ethernet addresses for packets that had none: a workload and its peer, locally administered.
constexpr uint8_t kWorkload[6] = {2, 0, 0, 0, 0, 0xaa}, kPeer[6] = {2, 0, 0, 0, 0, 0xbb};

constexpr uint32_t kMostTogether = 1 << 20;  // bytes of records that are given out at once
constexpr uint32_t kMostRoom = kRecordHeadroom + kEthernetHeader + kLongestRecord;

// BSD address families of the null and loopback link types; IPv6 has three numbers (pcap-linktype(7)).
constexpr bool is_inet6(uint32_t family) { return family == 10 || family == 24 || family == 28 || family == 30; }

// For one thread, a few records at a system call.
void set_buffer(FILE* stream) {
  constexpr size_t kBuffer = 1 << 18;
  std::setvbuf(stream, nullptr, _IOFBF, kBuffer);
  __fsetlocking(stream, FSETLOCKING_BYCALLER);
}

}  // namespace

std::string CaptureReader::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return "can't read " + path + ": " + std::strerror(errno);
  struct stat info;
  if (fstat(descriptor, &info) == 0) bytes_total_ = uint64_t(info.st_size);
  plain_ = PcapFile::open(descriptor);
  if (plain_) return {};

  FILE* stream = fdopen(descriptor, "rb");
  if (!stream) {
    ::close(descriptor);
    return "can't read " + path + ": " + std::strerror(errno);
  }
  set_buffer(stream);
  char error[PCAP_ERRBUF_SIZE] = "";
  file_ = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, error);
  if (!file_) {
    std::fclose(stream);
    return "can't read " + path + ": " + error;
  }
  link_ = pcap_datalink(file_);
  swapped_ = pcap_is_swapped(file_);
  switch (link_) {
    case DLT_EN10MB: case DLT_RAW: case DLT_IPV4: case DLT_IPV6: case DLT_LINUX_SLL: case DLT_LINUX_SLL2: case DLT_NULL: case DLT_LOOP:
      break;
    default: {
      const char* name = pcap_datalink_val_to_name(link_);
      return path + ": link type " + (name ? name : "unknown") + " (" + std::to_string(link_) +
             ") can't be replayed; weir reads Ethernet, raw IP, Linux cooked v1 and v2, and BSD loopback";
    }
  }
  buffer_.resize(kMostTogether + kMostRoom);
  return {};
}

CaptureReader::~CaptureReader() {
  if (file_) pcap_close(file_);
}

uint64_t CaptureReader::bytes_read() const {
  if (plain_) return plain_->bytes_read();
  FILE* f = pcap_file(file_);
  const long at = f ? ftell(f) : -1;
  return at < 0 ? 0 : uint64_t(at);
}

uint32_t CaptureReader::read(std::span<CaptureRecord> records) {
  if (plain_) return plain_->read(records);
  used_ = 0;
  uint32_t n = 0;
  while (n < records.size() && used_ < kMostTogether && error_.empty() && next(records[n])) n++;
  return n;
}

void CaptureReader::build(uint16_t ethertype, const uint8_t* payload, uint32_t length, uint32_t wire_length, CaptureRecord& record) {
  uint8_t* p = room();
  // Who is the workload is found out later, from the IP addresses; the two MACs only have to differ.
  std::memcpy(p, kPeer, 6);
  std::memcpy(p + 6, kWorkload, 6);
  store16(p + 12, ethertype);
  std::memcpy(p + kEthernetHeader, payload, length);
  record.frame = {p, kEthernetHeader + length, kEthernetHeader + wire_length, kRecordHeadroom, {}, true};
}

bool CaptureReader::normalise(const uint8_t* p, uint32_t n, uint32_t wire, CaptureRecord& record) {
  record.sent_by_host = -1;
  n = std::min(n, kLongestRecord);
  auto ip = [&](uint32_t at) {
    if (n <= at) return false;
    const uint8_t version = p[at] >> 4;
    if (version != 4 && version != 6) return false;
    build(version == 4 ? kEtherIpv4 : kEtherIpv6, p + at, n - at, wire - at, record);
    return true;
  };
  switch (link_) {
    case DLT_EN10MB:
      std::memcpy(room(), p, n);
      record.frame = {room(), n, wire, kRecordHeadroom, {}, true};
      return true;
    case DLT_LINUX_SLL:
      if (n < 16) return false;
      if (const uint16_t kind = load16(p); kind == 4) record.sent_by_host = 1; else if (kind < 4) record.sent_by_host = 0;
      if (load16(p + 14) < 0x0600) return false;  // an 802.2 or other payload, not an ethertype
      build(load16(p + 14), p + 16, n - 16, wire - 16, record);
      return true;
    case DLT_LINUX_SLL2:
      if (n < 20) return false;
      if (p[10] == 4) record.sent_by_host = 1; else if (p[10] < 4) record.sent_by_host = 0;
      if (load16(p) < 0x0600) return false;
      build(load16(p), p + 20, n - 20, wire - 20, record);
      return true;
    case DLT_NULL:
    case DLT_LOOP: {
      if (n < 4) return false;
      uint32_t family;
      std::memcpy(&family, p, 4);
      if (link_ == DLT_LOOP || swapped_) family = __builtin_bswap32(family);
      if (family > 0xffff) family = __builtin_bswap32(family);
      if (family == 2) build(kEtherIpv4, p + 4, n - 4, wire - 4, record);
      else if (is_inet6(family)) build(kEtherIpv6, p + 4, n - 4, wire - 4, record);
      else return false;
      return true;
    }
    default:
      return ip(0);
  }
}

bool CaptureReader::next(CaptureRecord& record) {
  pcap_pkthdr* header;
  const uint8_t* packet;
  const int result = pcap_next_ex(file_, &header, &packet);
  if (result == PCAP_ERROR_BREAK) return false;
  if (result != 1) {
    error_ = pcap_geterr(file_);
    return false;
  }
  // With nanosecond precision tv_usec holds nanoseconds.
  record.time_ns = record_time_ns(header->ts.tv_sec, header->ts.tv_usec);
  // A length that the file makes up leaves room for the Ethernet header that may come before.
  const uint32_t wire = std::min(std::max(header->len, header->caplen), UINT32_MAX - kEthernetHeader);
  record.usable = normalise(packet, header->caplen, wire, record);
  if (record.usable) used_ += kRecordHeadroom + record.frame.length;
  return true;
}

}  // namespace weir
