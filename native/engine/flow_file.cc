#include "engine/flow_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/siphash.h"

namespace weir {
namespace {

constexpr size_t kBlock = 2 << 20;  // a huge page
constexpr char kMagic[8] = {'w', 'e', 'i', 'r', 'f', 'l', 'o', 'w'};

struct Header {
  char magic[8];
  uint32_t layout;
  uint32_t entry_bytes;
  uint32_t far_pins;
  uint32_t spare;
  uint32_t capacity;
  uint32_t high_water;    // changes while the table is in use
  uint32_t far_reserved;  // so does this
  uint32_t reserved;
  uint64_t file_bytes;
  uint64_t identity;
  uint64_t key_check;
  std::array<uint8_t, 16> boot_id;
  uint64_t check;  // over all of it but what changes
};
static_assert(sizeof(Header) == 88 && std::is_trivially_copyable_v<Header>);

constexpr size_t round_up(size_t n) { return (n + kBlock - 1) / kBlock * kBlock; }
size_t entry_bytes(uint32_t capacity) { return round_up(flow_rows(capacity) * sizeof(Flow)); }
size_t far_offset(uint32_t capacity) { return kBlock + entry_bytes(capacity); }
size_t far_bytes(uint32_t capacity) { return round_up(flow_rows(capacity) * kFarPins * sizeof(uint16_t)); }
size_t file_bytes(uint32_t capacity) { return far_offset(capacity) + far_bytes(capacity); }

// Tells keys apart and gives nothing away of them.
uint64_t key_check(const uint64_t key[2]) {
  static constexpr uint8_t kText[] = "weir flow table";
  return siphash24(key, kText, sizeof kText - 1);
}

uint64_t header_check(const Header& h) {
  static constexpr uint64_t kKey[2] = {0, 0};
  Header fixed = h;
  fixed.high_water = fixed.far_reserved = 0;
  fixed.check = 0;
  uint8_t bytes[sizeof fixed];
  std::memcpy(bytes, &fixed, sizeof fixed);
  return siphash24(kKey, bytes, sizeof bytes);
}

std::string failed(const std::string& what) { return what + ": " + std::strerror(errno); }
std::string megabytes(size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

// Takes the memory of a range now: a page that tmpfs can't give later is a signal, not an error.
bool populate(int fd, uint8_t* map, size_t offset, size_t bytes) {
  if (fallocate(fd, 0, off_t(offset), off_t(bytes)) != 0) return false;
  madvise(map + offset, bytes, 23 /* MADV_POPULATE_WRITE, Linux 5.14: the page tables, too */);
  return true;
}

}  // namespace

FlowRows FlowFile::Region::rows() const {
  if (!map) return {};
  uint32_t high;
  std::memcpy(&high, map + offsetof(Header, high_water), sizeof high);
  return {reinterpret_cast<Flow*>(map + kBlock), reinterpret_cast<uint16_t*>(map + far_offset(capacity)), capacity,
          std::min(high, capacity + kSpareFlows)};
}

void FlowFile::Region::release() {
  if (reserved) munmap(reserved, reserved_bytes);
  if (fd >= 0) close(fd);
  *this = {};
}

FlowFile::~FlowFile() {
  source_.release();
  target_.release();
}

FlowFile::Opened FlowFile::open(const FlowFileOptions& options) {
  Opened opened;
  std::unique_ptr<FlowFile> file(new FlowFile(options));
  opened.error = file->open_existing(opened.busy);
  if (opened.error.empty() && !file->target_.map) opened.error = file->create();
  if (opened.error.empty()) opened.file = std::move(file);
  return opened;
}

// Finds what is under the name (or was handed over), locks it, and maps it as the table or as what the table is to be made of.
std::string FlowFile::open_existing(bool& busy) {
  const std::string& path = options_.path;
  int fd = options_.descriptor;
  const bool handed_over = fd >= 0;
  if (!handed_over) {
    // Whoever had the lock may have put another file in its place meanwhile.
    for (int tries = 0;; tries++) {
      // Without O_NONBLOCK a FIFO would hold us.
      fd = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
      if (fd < 0) return errno == ENOENT ? "" : errno == ELOOP ? path + " is a symbolic link" : failed(path);
      struct stat own, there;
      if (fstat(fd, &own) != 0 || !S_ISREG(own.st_mode) || own.st_uid != geteuid() || (own.st_mode & 077) != 0) {
        close(fd);
        return path + " is not a file of this user with mode 0600: remove it";
      }
      if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        busy = errno == EWOULDBLOCK;
        const std::string why = busy ? path + " is in use by another weir" : failed(path);
        close(fd);
        return why;
      }
      if (lstat(path.c_str(), &there) == 0 && there.st_ino == own.st_ino && there.st_dev == own.st_dev) break;
      close(fd);
      if (tries == 10) return path + " is replaced all the time";
    }
  }
  Region region;
  region.fd = fd;
  note_ = options_.fresh ? "it was asked to start empty" : check_header(fd, region.capacity, region.far_reserved);
  if (!note_.empty()) {
    // Kept open until publish(): its lock keeps others away from the name.
    source_ = region;
    return {};
  }
  if (std::string error = map(region); !error.empty()) {
    region.release();
    return error;
  }
  (region.capacity == options_.capacity ? target_ : source_) = region;
  published_ = region.capacity == options_.capacity;
  return {};
}

std::string FlowFile::check_header(int fd, uint32_t& capacity, bool& far_reserved) const {
  Header h;
  struct stat status;
  if (fstat(fd, &status) != 0) return failed(options_.path);
  if (pread(fd, &h, sizeof h, 0) != ssize_t(sizeof h) || std::memcmp(h.magic, kMagic, sizeof kMagic) != 0) return "the file there is no flow table";
  if (h.layout != kFlowLayout || h.entry_bytes != sizeof(Flow) || h.far_pins != kFarPins || h.spare != kSpareFlows)
    return "the table there has another layout (" + std::to_string(h.layout) + ", this weir has " + std::to_string(kFlowLayout) + ")";
  if (h.check != header_check(h)) return "the header of the table there is damaged";
  if (h.capacity == 0 || h.capacity > kMostFlows || h.file_bytes != file_bytes(h.capacity) || uint64_t(status.st_size) != h.file_bytes)
    return "the table there was cut short or lengthened";
  if (h.boot_id != options_.boot_id) return "the table there is from before the machine was started";
  if (h.identity != options_.identity) return "the table there belongs to another state directory, or to a state that is lost";
  if (h.key_check != key_check(options_.affinity_key)) return "the table there was made with another affinity key";
  capacity = h.capacity;
  far_reserved = h.far_reserved == 1;
  return {};
}

std::string FlowFile::map(Region& region) {
  const size_t bytes = file_bytes(region.capacity);
  region.reserved_bytes = bytes + kBlock;
  void* reserved = mmap(nullptr, region.reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return failed("no address space for the flow table");
  region.reserved = reserved;
  uint8_t* at = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(reserved)));
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, region.fd, 0) == MAP_FAILED) return failed(options_.path);
  region.map = at;
  const size_t entries = entry_bytes(region.capacity);
  // tmpfs gives huge pages by its mount option only, or where they are asked for by name (Linux 6.1): MADV_COLLAPSE.
  madvise(at + kBlock, entries, MADV_HUGEPAGE);
  if (!populate(region.fd, at, 0, sizeof(Header)) || !populate(region.fd, at, kBlock, entries))
    return "no room for " + megabytes(kBlock + entries) + " in " + options_.path + ": " + std::strerror(errno);
  if (region.far_reserved) region.far_reserved = populate(region.fd, at, far_offset(region.capacity), far_bytes(region.capacity));
  region.huge = madvise(at + kBlock, entries, 25 /* MADV_COLLAPSE */) == 0;
  return {};
}

std::string FlowFile::create() {
  const std::string directory = options_.path.substr(0, options_.path.find_last_of('/') + 1);
  target_.capacity = options_.capacity;
  // Without a name until publish(): what dies before leaves nothing behind.
  target_.fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (target_.fd < 0) return failed(directory);
  struct statfs system;
  if (fstatfs(target_.fd, &system) != 0) return failed(directory);
  if (system.f_type != TMPFS_MAGIC) return directory + " is no tmpfs, and a table on a disk would be slow";
  if (flock(target_.fd, LOCK_EX | LOCK_NB) != 0 || ftruncate(target_.fd, off_t(file_bytes(target_.capacity))) != 0) return failed(directory);
  if (std::string error = map(target_); !error.empty()) return error;
  Header h{};
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  h.layout = kFlowLayout;
  h.entry_bytes = sizeof(Flow);
  h.far_pins = kFarPins;
  h.spare = kSpareFlows;
  h.capacity = target_.capacity;
  h.file_bytes = file_bytes(target_.capacity);
  h.identity = options_.identity;
  h.key_check = key_check(options_.affinity_key);
  h.boot_id = options_.boot_id;
  h.check = header_check(h);
  std::memcpy(target_.map, &h, sizeof h);
  return {};
}

FlowRows FlowFile::rows() const { return target_.rows(); }
FlowRows FlowFile::found() const { return source_.rows(); }

void FlowFile::set_high_water(uint32_t n) { std::atomic_ref<uint32_t>(reinterpret_cast<Header*>(target_.map)->high_water).store(n, std::memory_order_release); }

std::string FlowFile::reserve_far_pins() {
  if (target_.far_reserved) return {};
  if (!populate(target_.fd, target_.map, far_offset(target_.capacity), far_bytes(target_.capacity)))
    return "the flow table's memory has no room for the instances of chains over " + std::to_string(Route::kInlinePins) + " hops: " +
           megabytes(far_bytes(target_.capacity)) + " more in " + options_.path + ": " + std::strerror(errno);
  target_.far_reserved = true;
  reinterpret_cast<Header*>(target_.map)->far_reserved = 1;
  return {};
}

std::string FlowFile::publish() {
  if (published_) return {};
  published_ = true;
  const std::string& path = options_.path;
  if (source_.fd >= 0 && unlink(path.c_str()) != 0 && errno != ENOENT) return failed(path);
  const std::string self = "/proc/self/fd/" + std::to_string(target_.fd);
  const int linked = linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
  const std::string error = linked == 0 ? "" : failed(path);
  source_.release();
  return error;
}

void FlowFile::rest(uint32_t live) {
  if (!published_) return;
  if (live == 0) {
    unlink(options_.path.c_str());
    return;
  }
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const size_t used = rows().high_water + size_t(1);
  auto punch = [&](size_t offset, size_t from, size_t to) {
    from = (from + 4095) / 4096 * 4096;
    if (from < to) fallocate(target_.fd, kPunch, off_t(offset + from), off_t(to - from));
  };
  punch(kBlock, used * sizeof(Flow), entry_bytes(target_.capacity));
  if (target_.far_reserved) punch(far_offset(target_.capacity), used * kFarPins * sizeof(uint16_t), far_bytes(target_.capacity));
}

bool FlowFile::remove_unused(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  struct stat own;
  const bool ours = fstat(fd, &own) == 0 && S_ISREG(own.st_mode) && own.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0;
  const bool removed = ours && unlink(path.c_str()) == 0;
  close(fd);
  return removed;
}

}  // namespace weir
