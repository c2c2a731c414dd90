// The resizer against its definition, written slowly in floating point, and cases known by hand.
#include <algorithm>
#include <random>

#include "check.hpp"
#include "policy/resizer.hpp"

using namespace keystep;
using namespace keystep::test;

namespace {

using Bytes = std::vector<std::uint8_t>;

/// One line: the mean of the source under a triangle centred on each result, rounded to a byte.
Bytes reference_line(const Bytes& source, int size) {
  const int n = static_cast<int>(source.size());
  const double step = static_cast<double>(n) / size, reach = std::max(1.0, step);
  Bytes result;
  for (int i = 0; i < size; ++i) {
    double sum = 0, total = 0;
    for (int k = 0; k < n; ++k) {
      const double distance = std::abs((k + 0.5) - (i + 0.5) * step);
      const double weight = std::max(0.0, 1 - distance / reach);
      sum += weight * source[static_cast<std::size_t>(k)];
      total += weight;
    }
    result.push_back(static_cast<std::uint8_t>(std::lround(sum / total)));
  }
  return result;
}

struct Image {
  int height, width;
  Bytes data = Bytes(static_cast<std::size_t>(height) * width * 3);
  std::uint8_t& at(int y, int x, int c) { return data[(static_cast<std::size_t>(y) * width + x) * 3 + c]; }
  ImageView view() const { return {data.data(), height, width}; }
};

Image reference(Image image, int height, int width) {
  Image narrowed{image.height, width}, result{height, width};
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < image.height; ++y) {
      Bytes row;
      for (int x = 0; x < image.width; ++x) row.push_back(image.at(y, x, c));
      row = reference_line(row, width);
      for (int x = 0; x < width; ++x) narrowed.at(y, x, c) = row[static_cast<std::size_t>(x)];
    }
    for (int x = 0; x < width; ++x) {
      Bytes column;
      for (int y = 0; y < image.height; ++y) column.push_back(narrowed.at(y, x, c));
      column = reference_line(column, height);
      for (int y = 0; y < height; ++y) result.at(y, x, c) = column[static_cast<std::size_t>(y)];
    }
  }
  return result;
}

Image random_image(int height, int width, std::mt19937& random) {
  Image image{height, width};
  for (std::uint8_t& value : image.data) value = static_cast<std::uint8_t>(random() >> 24);
  return image;
}

int greatest_difference(const ImageView& a, const Image& b) {
  CHECK(a.height == b.height && a.width == b.width);
  int greatest = 0;
  for (std::size_t i = 0; i < b.data.size(); ++i) {
    greatest = std::max(greatest, std::abs(a.data[i] - b.data[i]));
  }
  return greatest;
}

/// One byte apart at most: a weight rounded to 22 bits may turn a half up or down.
void agrees_with_the_reference() {
  std::mt19937 random(3);
  for (const auto& [height, width] : {std::pair{12, 16}, {7, 5}, {1, 1}, {1, 9}}) {
    Resizer resizer(height, width);
    for (const auto& [rows, columns] :
         {std::pair{48, 64}, {12, 16}, {97, 61}, {5, 3}, {12, 40}, {33, 16}, {1, 1}, {1, 50}, {50, 1}}) {
      const Image image = random_image(rows, columns, random);
      CHECK(greatest_difference(resizer.resize(image.view()), reference(image, height, width)) <= 1);
    }
  }
}

void the_same_size_is_untouched() {
  std::mt19937 random(4);
  const Image image = random_image(6, 8, random);
  Resizer resizer(6, 8);
  CHECK(resizer.resize(image.view()).data == image.data.data());
}

/// Going back to a size seen before gives what it gave then: no state but the tables.
void source_sizes_may_alternate() {
  std::mt19937 random(5);
  const Image large = random_image(40, 30, random), small = random_image(3, 4, random);
  Resizer resizer(10, 10);
  const ImageView view = resizer.resize(large.view());
  const Bytes first(view.data, view.data + 300);
  resizer.resize(small.view());
  const ImageView again = resizer.resize(large.view());
  CHECK(std::equal(first.begin(), first.end(), again.data));
}

void extremes_stay() {
  for (const std::uint8_t value : {0, 255}) {
    Image image{31, 17};
    std::fill(image.data.begin(), image.data.end(), value);
    for (const int size : {1, 8, 64}) {
      Resizer resizer(size, 9);
      const ImageView view = resizer.resize(image.view());
      CHECK(std::all_of(view.data, view.data + size * 27, [&](std::uint8_t got) { return got == value; }));
    }
  }
}

/// Twice as wide: results lie at 1/4 and 3/4 between two pixels, the outermost on the border.
void known_by_hand() {
  Image image{1, 2};
  for (int c = 0; c < 3; ++c) image.at(0, 1, c) = static_cast<std::uint8_t>(100 + 10 * c);
  Resizer resizer(1, 4);
  const ImageView view = resizer.resize(image.view());
  const Bytes wanted = {0, 0, 0, 25, 28, 30, 75, 83, 90, 100, 110, 120};
  CHECK(std::equal(wanted.begin(), wanted.end(), view.data));
}

}  // namespace

int main() {
  agrees_with_the_reference();
  the_same_size_is_untouched();
  source_sizes_may_alternate();
  extremes_stay();
  known_by_hand();
  return result();
}
