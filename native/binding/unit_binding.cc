#include "binding/unit_binding.h"

#include "binding/place_binding.h"

namespace weir {

std::shared_ptr<const UnitMaps> read_unit_maps(Napi::Object object, std::string& error) {
  auto maps = std::make_shared<UnitMaps>();
  Reader r(object, "maps", error);
  maps->own = read_place(r.within("own"));
  if (!r.null("ownUnit")) maps->own_unit = uint16_t(r.u32("ownUnit", UnitMaps::kNobody - 1));
  maps->epoch = r.u32("epoch");
  maps->opened = r.u32("opened");
  r.each("dispatchers", [&](Reader x) { maps->dispatchers.push_back(read_place(x)); });
  r.each("units", [&](Reader x) { maps->units.push_back(read_ranked_place(x)); });
  r.each("maps", [&](Reader x) { maps->maps.push_back({x.u32("version"), read_members(x)}); });
  if (error.empty()) error = maps->check();
  if (!error.empty()) {
    error = "the maps of the appliance are not valid: " + error;
    return nullptr;
  }
  return maps;
}

}  // namespace weir
