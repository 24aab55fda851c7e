// The flow table's file as an object of JavaScript.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/flow_adoption.h"
#include "engine/flow_file.h"

namespace weir {

// What of the options `flowFile` and `tenants` hold: null and none where they are not given.
struct FlowFileUse {
  std::shared_ptr<FlowFile> file;
  std::vector<uint32_t> tenants;
};
FlowFileUse read_flow_file(Napi::Object options, std::string& error);
Napi::Object adoption_to_js(Napi::Env env, const Adoption& adoption, double milliseconds);

}  // namespace weir
