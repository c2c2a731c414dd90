// The native engine with unusual numbers: not finite, denormal, huge, tiny, zero, the worst sums of int8.
#include <cfenv>
#include <limits>

#include "native_agreement.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Finite answers only where the reference's are.
bool shows_all(std::span<const float> got, const Values& wanted) {
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (std::isfinite(got[i]) && !std::isfinite(wanted[i])) return false;
  }
  return std::any_of(wanted.begin(), wanted.end(), [](double value) { return !std::isfinite(value); });
}

/// One bad number in row 1 spoils row 1, and row 0 not by a bit.
void not_finite(const UnetFolder& folder, const std::string& precision, const std::string& isa) {
  native::NativeEngine engine(native_options(isa, precision, std::min(2, cores_here())));
  LoadedUnet unet(engine, folder);
  const ReferenceUnet reference(*folder.spec, folder.weights);
  const std::string name = isa + " " + precision + ", ";
  unet.draw(1);
  const std::vector<float> clean = unet.ran();
  const auto half = std::ptrdiff_t(clean.size() / 2);
  Chosen chosen;
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    for (const char* place : {"first", "middle", "last"}) {
      for (const bool in_sample : {true, false}) {
        if (!chosen.next()) continue;
        unet.draw(1);
        const std::span<float> values = in_sample ? unet.sample() : unet.condition();
        const std::size_t begin = values.size() / 2, last = values.size() - 1;
        const std::size_t at = place[0] == 'f' ? begin : place[0] == 'm' ? (begin + last) / 2 : last;
        values[at] = bad;
        const std::vector<float> got = unet.ran();
        const std::string what =
            name + std::to_string(bad) + (in_sample ? " in sample, " : " in condition, ") + place;
        if (!in_sample && !shows_all(unet.film_values(), wanted_film(reference, unet, folder.shape))) {
          fail(__FILE__, __LINE__, what + ": the film is finite");
        }
        if (!shows_all(got, wanted_output(reference, unet, folder.shape))) {
          fail(__FILE__, __LINE__, what + ": the output is finite");
        }
        if (!std::equal(clean.begin(), clean.begin() + half, got.begin())) {
          fail(__FILE__, __LINE__, what + ": the other row has changed");
        }
      }
    }
  }
  unet.draw(1);
  CHECK(unet.ran() == clean);  // nothing of it stays
}

void not_finite_anywhere() {
  const UnetShape shape = {.dims = {24, 40}, .actions = 5, .horizon = 8, .condition = 7, .rows = 2};
  const UnetFolder folder(shape, random_weights(shape));
  for (const std::string& precision : kPrecisions) {
    for (const std::string& isa : isas_here()) not_finite(folder, precision, isa);
  }
}

const UnetShape kShape = {.dims = {24, 40}, .actions = 9, .horizon = 16, .condition = 11, .rows = 2};

void agrees_everywhere(const UnetShape& shape, const Weights& weights,
                       const std::function<void(LoadedUnet&)>& prepare = {}) {
  const UnetFolder folder(shape, weights);
  for (const std::string& precision : kPrecisions) {
    for (const std::string& isa : isas_here()) agrees(folder, precision, isa, 1, 2, prepare);
  }
}

void scale(Weights& weights, const std::string& name, double factor) {
  for (double& value : weights.at(name).values) value = static_cast<float>(value * factor);
}

void scaled_weights() {
  Chosen chosen;
  for (const double factor : {0.0, 1e-40, 1e-30, 1e-15, 1e15}) {
    for (const char* name : {"down.0.0.first.0.weight", "shrink.0.weight", "middle.1.second.0.weight",
                             "grow.0.weight", "up.0.0.shortcut.weight", "final.1.weight", "film.weight"}) {
      if (!chosen.next()) continue;
      Weights weights = random_weights(kShape);
      scale(weights, name, factor);
      agrees_everywhere(kShape, weights);
    }
  }
}

void zeros() {
  Weights weights = random_weights(kShape);
  for (auto& [name, tensor] : weights) {
    const auto channels = static_cast<std::size_t>(tensor.shape.back());
    for (std::size_t i = 0; i < tensor.values.size(); i += channels) tensor.values[i] = 0;  // channel 0
  }
  agrees_everywhere(kShape, weights);
  for (auto& [name, tensor] : weights) {
    if (is_converted(tensor)) std::fill(tensor.values.begin(), tensor.values.end(), 0);
  }
  agrees_everywhere(kShape, weights);  // biases alone
  for (auto& [name, tensor] : weights) std::fill(tensor.values.begin(), tensor.values.end(), 0);
  agrees_everywhere(kShape, weights);
}

/// Every part of Mish, one at a time: the last norm gives its bias alone, and the output is nothing but Mish
/// of that, however small, times a sum of weights.
void mish_everywhere() {
  const UnetShape shape = {.dims = {16}, .actions = 2, .horizon = 4};
  Weights weights = random_weights(shape);
  scale(weights, "final.0.1.weight", 0);
  scale(weights, "final.1.bias", 0);
  Chosen chosen;
  for (const float place :
       {-45.0f, -30.0f, -20.5f, -19.0f, -12.0f, -8.5f, -5.0f, -1.2f, -0.5f,  -1e-3f, 1e-3f,
        0.7f,   3.0f,   10.0f,  19.0f,  20.5f,  45.0f, 87.0f, 88.8f, 104.0f, 500.0f, 1e15f}) {
    if (!chosen.next()) continue;
    std::vector<double>& bias = weights.at("final.0.1.bias").values;
    std::fill(bias.begin(), bias.end(), place);
    agrees_everywhere(shape, weights);
  }
  for (const float nothing : {-88.0f, -104.0f, -500.0f, -1e30f}) {  // beside something
    weights.at("final.0.1.bias").values[0] = nothing;
    std::fill(weights.at("final.0.1.bias").values.begin() + 1, weights.at("final.0.1.bias").values.end(), 1);
    agrees_everywhere(shape, weights);
  }
}

void unusual_inputs() {
  Chosen chosen;
  for (const float factor : {0.0f, 1e-42f, 1e-40f, 1e-30f, 1e-10f, 1e10f, 1e15f}) {
    if (!chosen.next()) continue;
    agrees_everywhere(kShape, random_weights(kShape), [factor](LoadedUnet& unet) {
      for (float& value : unet.sample()) value *= factor;
    });
  }
  for (const float factor : {0.0f, 1e-42f, 1e-30f, 1e3f}) {
    agrees_everywhere(kShape, random_weights(kShape), [factor](LoadedUnet& unet) {
      for (float& value : unet.condition()) value *= factor;
    });
  }
  agrees_everywhere(kShape, random_weights(kShape), [](LoadedUnet& unet) {  // rows of different magnitude
    const std::span<float> row = unet.sample().subspan(unet.sample().size() / 2);
    for (float& value : row) value *= 1e6f;
  });
}

/// Numbers whose squares leave the range of float32: PyTorch's norm makes NaN of these, which the safety gate
/// sees. Wrong and finite would reach the robot.
void beyond_float32() {
  for (const char* name : {"down.0.0.first.0.weight", "up.0.0.shortcut.weight", "final.1.weight"}) {
    Weights weights = random_weights(kShape);
    scale(weights, name, 1e30);
    const UnetFolder folder(kShape, weights);
    for (const std::string& precision : kPrecisions) {
      for (const std::string& isa : isas_here()) {
        native::NativeEngine engine(native_options(isa, precision));
        LoadedUnet unet(engine, folder);
        unet.draw(4);
        const std::vector<float> got = unet.ran();
        const Values wanted = wanted_output({*folder.spec, rounded(weights, precision)}, unet, kShape);
        const bool finite = std::all_of(got.begin(), got.end(), [](float x) { return std::isfinite(x); });
        if (!finite || deviation(got, wanted) < 0.1) continue;
        fail(__FILE__, __LINE__,
             isa + " " + precision + ", " + name + " * 1e30: finite and wrong by " +
                 std::to_string(deviation(got, wanted)));
      }
    }
  }
}

/// Every product of a sum is the greatest there is, with one sign: 7 x 4096 of them in the first convolution,
/// 4097 in the film's.
void worst_sums() {
  const UnetShape shape = {
      .dims = {8}, .actions = 4096, .horizon = 8, .condition = 4097, .kernel = 7, .groups = 2};
  Weights weights = random_weights(shape);
  const auto sign = [](std::size_t i) { return i * 2654435761u >> 7 & 1 ? 1.0f : -1.0f; };
  for (const char* name : {"down.0.0.first.0.weight", "down.0.0.shortcut.weight", "film.weight"}) {
    StoredTensor& tensor = weights.at(name);
    const auto outputs = static_cast<std::size_t>(tensor.shape[2]), inputs = std::size_t(tensor.shape[1]);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const std::size_t input = i / outputs % inputs, output = i % outputs;
      const float with = name[0] == 'f' ? 1.0f : sign(input);
      tensor.values[i] = output == 0 ? with : output == 1 ? -with : with * sign(i);
      tensor.values[i] *= 0.03125;
    }
  }
  agrees_everywhere(shape, weights, [&](LoadedUnet& unet) {
    for (std::size_t i = 0; i < unet.sample().size(); ++i) {
      unet.sample()[i] = sign(i % static_cast<std::size_t>(shape.actions));
    }
    std::fill(unet.condition().begin(), unet.condition().end(), 0.01f);
  });
}

void refuses_timesteps() {
  const UnetFolder folder(kShape, random_weights(kShape));
  for (const std::string& isa : isas_here()) {
    native::NativeEngine engine(native_options(isa, "fp32"));
    LoadedUnet unet(engine, folder);
    unet.draw(6);
    const std::vector<float> clean = unet.ran();
    const std::int64_t right = unet.timestep();
    for (const std::int64_t wrong :
         {std::int64_t{-1}, std::int64_t{kShape.train_steps}, std::numeric_limits<std::int64_t>::max(),
          std::numeric_limits<std::int64_t>::min(), std::int64_t{1} << 32}) {
      unet.timestep() = wrong;
      CHECK(unet.run_step() == Status::engine_failure);
      CHECK(unet.step->error().find("timestep: expected 0..9, got ") != std::string::npos);
    }
    unet.timestep() = right;
    CHECK(unet.ran() == clean);
  }
}

/// A control loop's rounding mode and denormals are its own.
void leaves_the_floating_point_environment() {
  const UnetFolder folder(kShape, random_weights(kShape));
  for (const std::string& isa : isas_here()) {
    native::NativeEngine engine(native_options(isa, "fp32"));
    LoadedUnet unet(engine, folder);
    unet.draw(6);
    std::fesetround(FE_DOWNWARD);
    CHECK(unet.run());
    CHECK(std::fegetround() == FE_DOWNWARD);
    std::fesetround(FE_TONEAREST);
    volatile float tiny = 1e-40f;
    CHECK(tiny * 1.5f != 0);
  }
}

}  // namespace

int main() {
  not_finite_anywhere();
  scaled_weights();
  zeros();
  mish_everywhere();
  unusual_inputs();
  beyond_float32();
  worst_sums();
  refuses_timesteps();
  leaves_the_floating_point_environment();
  return result();
}
