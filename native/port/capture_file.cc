#include "port/capture_file.h"

#include <pcap/pcap.h>
#include <stdio_ext.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "wire/ethernet.h"

namespace weir {
namespace {

constexpr uint32_t kHeadroom = 192;
constexpr uint32_t kLongest = 262144;  // libpcap's own limit
// Ethernet addresses for packets that had none: a workload and its peer, locally administered.
constexpr uint8_t kWorkload[6] = {2, 0, 0, 0, 0, 0xaa}, kPeer[6] = {2, 0, 0, 0, 0, 0xbb};

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
  char error[PCAP_ERRBUF_SIZE] = "";
  FILE* stream = std::fopen(path.c_str(), "rbe");
  if (!stream) return "can't read " + path + ": " + std::strerror(errno);
  set_buffer(stream);
  file_ = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, error);
  if (!file_) {
    std::fclose(stream);
    return "can't read " + path + ": " + error;
  }
  struct stat info;
  if (stat(path.c_str(), &info) == 0) bytes_total_ = uint64_t(info.st_size);
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
  buffer_.resize(kHeadroom + kLongest + 64);
  return {};
}

CaptureReader::~CaptureReader() {
  if (file_) pcap_close(file_);
}

bool CaptureReader::has_ethernet() const { return link_ == DLT_EN10MB; }

uint64_t CaptureReader::bytes_read() const {
  FILE* f = pcap_file(file_);
  const long at = f ? ftell(f) : -1;
  return at < 0 ? 0 : uint64_t(at);
}

void CaptureReader::build(uint16_t ethertype, const uint8_t* payload, uint32_t length, uint32_t wire_length) {
  uint8_t* p = buffer_.data() + kHeadroom;
  // Who is the workload is found out later, from the IP addresses; the two MACs only have to differ.
  std::memcpy(p, kPeer, 6);
  std::memcpy(p + 6, kWorkload, 6);
  store16(p + 12, ethertype);
  std::memcpy(p + kEthernetHeader, payload, length);
  frame_ = {p, kEthernetHeader + length, kEthernetHeader + wire_length, kHeadroom, {}, true};
}

bool CaptureReader::normalise(const uint8_t* p, uint32_t n, uint32_t wire) {
  sent_by_host_ = -1;
  n = std::min(n, kLongest);
  auto ip = [&](uint32_t at) {
    if (n <= at) return false;
    const uint8_t version = p[at] >> 4;
    if (version != 4 && version != 6) return false;
    build(version == 4 ? kEtherIpv4 : kEtherIpv6, p + at, n - at, wire - at);
    return true;
  };
  switch (link_) {
    case DLT_EN10MB:
      std::memcpy(buffer_.data() + kHeadroom, p, n);
      frame_ = {buffer_.data() + kHeadroom, n, wire, kHeadroom, {}, true};
      return true;
    case DLT_LINUX_SLL:
      if (n < 16) return false;
      if (const uint16_t kind = load16(p); kind == 4) sent_by_host_ = 1; else if (kind < 4) sent_by_host_ = 0;
      if (load16(p + 14) < 0x0600) return false;  // an 802.2 or other payload, not an ethertype
      build(load16(p + 14), p + 16, n - 16, wire - 16);
      return true;
    case DLT_LINUX_SLL2:
      if (n < 20) return false;
      if (p[10] == 4) sent_by_host_ = 1; else if (p[10] < 4) sent_by_host_ = 0;
      if (load16(p) < 0x0600) return false;
      build(load16(p), p + 20, n - 20, wire - 20);
      return true;
    case DLT_NULL:
    case DLT_LOOP: {
      if (n < 4) return false;
      uint32_t family;
      std::memcpy(&family, p, 4);
      if (link_ == DLT_LOOP || swapped_) family = __builtin_bswap32(family);
      if (family > 0xffff) family = __builtin_bswap32(family);
      if (family == 2) build(kEtherIpv4, p + 4, n - 4, wire - 4);
      else if (is_inet6(family)) build(kEtherIpv6, p + 4, n - 4, wire - 4);
      else return false;
      return true;
    }
    default:
      return ip(0);
  }
}

CaptureReader::Next CaptureReader::next() {
  pcap_pkthdr* header;
  const uint8_t* packet;
  const int result = pcap_next_ex(file_, &header, &packet);
  if (result == PCAP_ERROR_BREAK) return Next::end;
  if (result != 1) {
    error_ = pcap_geterr(file_);
    return Next::broken;
  }
  // With nanosecond precision tv_usec holds nanoseconds. Times before 1970 or absurd ones count as 0.
  const int64_t seconds = header->ts.tv_sec, fraction = header->ts.tv_usec;
  constexpr int64_t kLastSecond = 17'000'000'000;  // fits 64-bit nanoseconds
  time_ns_ = seconds < 0 || seconds > kLastSecond || fraction < 0 || fraction > 999'999'999
                 ? 0
                 : uint64_t(seconds) * 1'000'000'000 + uint64_t(fraction);
  return normalise(packet, header->caplen, std::max(header->len, header->caplen)) ? Next::frame : Next::unusable;
}

std::string CaptureWriter::open(const std::string& path) {
  path_ = path;
  handle_ = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, int(kLongest), PCAP_TSTAMP_PRECISION_NANO);
  if (!handle_) return "can't write " + path + ": no memory";
  FILE* stream = std::fopen(path.c_str(), "wbe");
  if (!stream) return "can't write " + path + ": " + std::strerror(errno);
  set_buffer(stream);
  dumper_ = pcap_dump_fopen(handle_, stream);
  if (!dumper_) {
    std::fclose(stream);
    return "can't write " + path + ": " + pcap_geterr(handle_);
  }
  return {};
}

void CaptureWriter::write(uint64_t time_ns, const uint8_t* bytes, uint32_t length) {
  pcap_pkthdr header{};
  header.ts.tv_sec = time_t(time_ns / 1'000'000'000);
  header.ts.tv_usec = suseconds_t(time_ns % 1'000'000'000);
  header.caplen = header.len = length;
  pcap_dump(reinterpret_cast<uint8_t*>(dumper_), &header, bytes);
}

std::string CaptureWriter::close() {
  std::string error;
  if (dumper_) {
    if (pcap_dump_flush(dumper_) != 0 || ferror(pcap_dump_file(dumper_))) error = "can't write " + path_ + ": the disk may be full";
    pcap_dump_close(dumper_);
  }
  dumper_ = nullptr;
  if (handle_) pcap_close(handle_);
  handle_ = nullptr;
  return error;
}

CaptureWriter::~CaptureWriter() { close(); }

}  // namespace weir
