{
  "targets": [{
    "target_name": "weir",
    "sources": [
      "native/addon.cc",
      "native/binding/convert.cc",
      "native/binding/engine_binding.cc",
      "native/binding/program_binding.cc",
      "native/binding/views_binding.cc",
      "native/engine/classifier.cc",
      "native/engine/engine.cc",
      "native/engine/flow_table.cc",
      "native/engine/fragment_table.cc",
      "native/engine/packet.cc",
      "native/engine/pipeline.cc",
      "native/engine/pipeline_capture.cc",
      "native/engine/pipeline_return.cc",
      "native/engine/program.cc",
      "native/engine/segment.cc",
      "native/engine/service_map.cc",
      "native/engine/stamp.cc",
      "native/engine/stream_table.cc",
      "native/binding/worker_binding.cc",
      "native/port/ring_port.cc",
      "native/worker.cc",
      "native/netlink.cc",
      "native/node/service_node.cc",
      "native/node/stamped_datagram.cc",
      "native/binding/netlink_binding.cc",
      "native/binding/node_binding.cc"
    ],
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")", "native"],
    "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS"],
    "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-fno-exceptions"],
    "libraries": ["-lpcap"]
  }]
}
