// The way out where an interface refuses super-frames: cuts one to the frames that it stands for, checksums complete.
#pragma once
#include <functional>

#include "engine/frame.h"

namespace weir {

// Calls `take` with each frame; its pieces are valid during the call and lie in the sink's scratch memory or in `frame`.
// False when the frame is none that can be cut.
bool cut_frame(const OutFrame& frame, Sink& sink, const std::function<void(const OutFrame&)>& take);

}  // namespace weir
