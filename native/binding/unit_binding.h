// The maps of an appliance as JavaScript gives them to a unit's node.
#pragma once
#include <napi.h>

#include <memory>
#include <string>

#include "node/unit_maps.h"

namespace weir {

// Null, and what is wrong in `error`, for maps that make no sense.
std::shared_ptr<const UnitMaps> read_unit_maps(Napi::Object object, std::string& error);

}  // namespace weir
