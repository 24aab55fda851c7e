// NativeProgram (src/dataplane/native.ts) to weir::Program, checked.
#pragma once
#include <napi.h>

#include <memory>
#include <string>

#include "engine/program.h"

namespace weir {

// Null with `error` set when something is wrong with it.
// The rows of rules that were read last, and the program that has them: the same array need not be read and indexed again. Whoever
// makes programs never changes an array that it has handed over.
struct KnownRules {
  Napi::ObjectReference rows;
  std::shared_ptr<const Program> program;
};

std::shared_ptr<const Program> read_program(Napi::Object object, std::string& error, KnownRules* known = nullptr);

}  // namespace weir
