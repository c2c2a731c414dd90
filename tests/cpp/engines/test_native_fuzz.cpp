// Damaged weights files: each loads and runs, or is refused as BundleError. Worth most under the sanitizers.
#include "check.hpp"
#include "loaded_unet.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

constexpr int kFiles = cases(400, 60);  // of each precision and kind of damage

const UnetShape kShape = {
    .dims = {4, 6}, .actions = 2, .horizon = 4, .condition = 3, .groups = 2, .train_steps = 2};

std::size_t below(std::mt19937& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

/// One to four flipped bits among the first `size` bytes.
void flip(std::string& file, std::size_t size, std::mt19937& random) {
  for (std::size_t i = below(random, 4) + 1; i > 0; --i) {
    file[below(random, size)] ^= static_cast<char>(1 << below(random, 8));
  }
}

/// A digit of the header becomes another: offsets, extents.
void change_digit(std::string& file, std::size_t header, std::mt19937& random) {
  const std::size_t from = 8 + below(random, header - 8);
  const std::size_t at = file.find_first_of("0123456789", from);
  if (at < header) file[at] = static_cast<char>('0' + below(random, 10));
}

void damage(std::string& file, std::size_t header, int kind, std::mt19937& random) {
  if (kind == 0) file.resize(below(random, file.size()));
  if (kind == 1) flip(file, file.size(), random);
  if (kind == 2) flip(file, header, random);
  if (kind == 3) change_digit(file, header, random);
  if (kind == 4) file.erase(below(random, header), below(random, 16));
}

/// Whether it loaded; anything but BundleError ends the test.
bool loads(const UnetFolder& folder, const std::string& isa) {
  native::NativeEngine engine(native_options(isa, folder.spec->precision));
  try {
    LoadedUnet unet(engine, folder);
    unet.draw(1);
    CHECK(unet.run());
    return true;
  } catch (const BundleError& error) {
    CHECK(std::string(error.what()).find(": expected ") != std::string::npos);
    return false;
  }
}

}  // namespace

int main() {
  std::mt19937 random(3);
  const std::vector<std::string> isas = isas_here();
  int loaded = 0, refused = 0;
  for (const std::string& precision : kPrecisions) {
    const UnetFolder folder(kShape, random_weights(kShape), precision);
    const FileTensors tensors = file_tensors(folder.weights, precision);
    const std::string right = safetensors_file(tensors);
    const std::size_t header = right.size() - safetensors_data(tensors).size();
    for (int kind = 0; kind < 5; ++kind) {
      for (int i = 0; i < kFiles; ++i) {
        std::string file = right;
        damage(file, header, kind, random);
        write_file(folder.path() / folder.spec->file, file);
        ++(loads(folder, isas[std::size_t(i) % isas.size()]) ? loaded : refused);
      }
    }
  }
  std::printf("%d files loaded, %d were refused\n", loaded, refused);
  CHECK(loaded > kFiles / 2 && refused > kFiles);  // flipped weights load, cut files do not
  return result();
}
