// NativeProgram (src/dataplane/native.ts) to weir::Program, checked.
#pragma once
#include <napi.h>

#include <memory>
#include <string>

#include "engine/program.h"

namespace weir {

// Null with `error` set when something is wrong with it.
std::shared_ptr<const Program> read_program(Napi::Object object, std::string& error);

}  // namespace weir
