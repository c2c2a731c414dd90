// How a feature's values were scaled for the network.
#pragma once

#include <string>
#include <vector>

namespace keystep {

/// y = (x - offset) * scale brings physical values into the range the network was trained in.
struct Normalization {
  std::string mode;  ///< min_max (to [-1, 1]) | quantile (most of it to [-1, 1]) | mean_std | identity
  std::vector<double> low_or_mean, high_or_std;
};

}  // namespace keystep
