#include "engine/datagram_batch.h"

namespace weir {

// All datagrams of a frame leave by one port with one outer header, and have one size; only the last may be shorter.
bool DatagramBatch::continues(const Tunnel& t, uint32_t length) const {
  return datagrams_ < kBatchDatagrams && last_ == size_ && length <= size_ && total_ + length <= kBatchPayload && t.code == tunnel_.code && t.port == tunnel_.port &&
         t.destination == tunnel_.destination && t.source == tunnel_.source && t.destination_mac == tunnel_.destination_mac &&
         t.encapsulation == tunnel_.encapsulation && t.dscp == tunnel_.dscp;
}

void DatagramBatch::add(Sink& sink, const Tunnel& tunnel, Visit visit, Piece head, bool room, Piece payload) {
  const uint32_t length = head.length + payload.length;
  if (datagrams_ && (!continues(tunnel, length) || !sink.carries(tunnel.port, Offload::kGsoUdp))) finish(sink);
  if (!datagrams_) {
    tunnel_ = tunnel;
    visit_ = visit;
    room_ = room;
    size_ = length;
  }
  Piece& before = pieces_[pieces_in_use_ - 1];
  if (datagrams_ && before.bytes + before.length == head.bytes) {
    before.length += head.length;  // the next datagram of the frame that it came in
  } else {
    pieces_[pieces_in_use_++] = head;
  }
  if (payload.length) pieces_[pieces_in_use_++] = payload;
  last_ = length;
  total_ += length;
  datagrams_++;
}

void DatagramBatch::finish(Sink& sink) {
  if (!datagrams_) return;
  const uint32_t outer = tunnel_.outer_length();
  uint8_t* headers = room_ ? const_cast<uint8_t*>(pieces_[1].bytes) - outer : sink.scratch(outer);
  Offload offload;
  if (datagrams_ > 1) {
    offload = write_outer_batch(headers, tunnel_, total_, size_);
  } else {
    write_outer(headers, tunnel_, {&pieces_[1], pieces_in_use_ - 1});
  }
  if (room_) {
    pieces_[1] = {headers, outer + pieces_[1].length};
  } else {
    pieces_[0] = {headers, outer};
  }
  const uint32_t bytes = datagrams_ * outer + total_;
  counters_.stamped.add(datagrams_, bytes);
  counters_.instances[visit_.instance].sent.add(datagrams_, bytes);
  counters_.hops[visit_.hop].add(datagrams_, bytes);
  sink.emit({tunnel_.port, offload, {pieces_.data() + (room_ ? 1 : 0), pieces_in_use_ - (room_ ? 1 : 0)}});
  datagrams_ = size_ = last_ = total_ = 0;
  pieces_in_use_ = 1;
}

}  // namespace weir
