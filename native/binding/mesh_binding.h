// The service map of a node, read from JavaScript.
#pragma once
#include <napi.h>

#include <memory>
#include <string>

#include "node/mesh_map.h"

namespace weir {

// Null, and what is wrong, for a map that makes no sense. Its shape: NativeMeshMap in src/dataplane/native.ts.
std::shared_ptr<const MeshMap> read_mesh_map(Napi::Object object, std::string& error);

}  // namespace weir
