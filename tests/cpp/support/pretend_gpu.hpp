// What the pretended GPU of pretend_gpu.cpp was asked, and what it is to answer.
#pragma once

#include <string>
#include <vector>

namespace keystep::test {

struct PretendGpu {
  bool fails = false;             ///< sessions for the device, as without a driver
  int device_sessions = 0;        ///< made so far
  std::vector<std::string> axes;  ///< fixed so far, "name=extent"
};

}  // namespace keystep::test
