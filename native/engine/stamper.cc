#include "engine/stamper.h"

namespace weir {

void Stamper::segment(uint8_t* header, uint32_t header_length, Piece payload) {
  const uint32_t stamp_bytes = stamp_length(tunnel_.encapsulation);
  const uint32_t length = stamp_bytes + header_length + payload.length;
  // All datagrams of a batch have one size; only the last may be shorter.
  const bool joins = batches_ && datagrams_ < kBatchDatagrams && last_ == size_ && length <= size_ && total_ + length <= kBatchPayload;
  if (datagrams_ && !joins) finish();
  uint8_t* stamp = header - stamp_bytes;
  write_stamp(stamp, tunnel_.encapsulation, stamp_, inner_version_);
  if (!datagrams_) size_ = length;
  pieces_[pieces_in_use_++] = {stamp, stamp_bytes + header_length};
  if (payload.length) pieces_[pieces_in_use_++] = payload;
  last_ = length;
  total_ += length;
  datagrams_++;
}

void Stamper::finish() {
  if (!datagrams_) return;
  const uint32_t outer = tunnel_.outer_length();
  uint8_t* headers = const_cast<uint8_t*>(pieces_[0].bytes) - outer;
  Offload offload;
  if (datagrams_ > 1) {
    offload = write_outer_batch(headers, tunnel_, total_, size_);
  } else {
    write_outer(headers, tunnel_, {pieces_.data(), pieces_in_use_});
  }
  pieces_[0] = {headers, pieces_[0].length + outer};
  stamped_.add(datagrams_, datagrams_ * outer + total_);
  sent_.add(datagrams_, datagrams_ * outer + total_);
  sink_.emit({kUnderlayPort, offload, {pieces_.data(), pieces_in_use_}});
  datagrams_ = pieces_in_use_ = size_ = last_ = total_ = 0;
}

}  // namespace weir
