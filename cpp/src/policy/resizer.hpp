// Images of another size than the network's, made to fit as the training data was.
#pragma once

#include <cstdint>
#include <vector>

namespace keystep {

/// A borrowed, contiguous RGB image of height x width x 3 bytes.
struct ImageView {
  const std::uint8_t* data = nullptr;
  int height = 0;
  int width = 0;
};

/// Antialiased bilinear resizing as Pillow's Image.resize(size, BILINEAR) does it for RGB: one axis after the
/// other, bytes between, and a triangle filter that is as wide as the step between two results when
/// shrinking. Rows are always resized first; Pillow chooses the order by the sizes. Equal bytes where it
/// agrees, else at most 1 of 255 apart.
class Resizer {
 public:
  /// `height`, `width`: of the results.
  Resizer(int height, int width) : height_(height), width_(width) {}

  /// The image at this resizer's size, valid until the next call; an image that has it already comes back
  /// as it is. Allocates only for a source larger than any before; std::bad_alloc leaves it usable.
  ImageView resize(const ImageView& image);

 private:
  /// Which source pixels make a result, along one axis: result i is the sum over k < count of
  /// weights[i * taps + k] * source[first + k], in fixed point.
  struct Axis {
    struct Range {
      int first = 0, count = 0;
    };
    int source = 0, taps = 0;
    std::vector<Range> ranges;
    std::vector<std::int32_t> weights;
    void fit(int source_size, int size);
  };

  void resize_rows(const ImageView& image);
  void resize_columns();

  int height_, width_;
  Axis across_, down_;
  std::vector<std::uint8_t> narrowed_, result_;  ///< source height x width; height x width
};

}  // namespace keystep
