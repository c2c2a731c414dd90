// The few checks the C++ tests need. A failed one is printed and counted; `result` is main's return value.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <typeinfo>

namespace keystep::test {

inline int failures = 0;

inline void fail(const char* file, int line, const std::string& what) {
  ++failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

inline int result() {
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures ? 1 : 0;
}

#ifdef KEYSTEP_SANITIZE
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// How many cases of a kind a long test tries: a sanitizer makes each of them many times as slow, and sees in
/// the first ones what it would see in all.
constexpr int cases(int all, int sanitized) { return kSanitized ? sanitized : all; }

/// For loops over numbers, which matter little to a sanitizer: true for every case, or for one in five.
class Chosen {
 public:
  bool next() { return count_++ % cases(1, 5) == 0; }

 private:
  int count_ = 0;
};

/// What CTest's SKIP_RETURN_CODE is set to: a test that lacks something never passes silently.
inline constexpr int kSkipped = 77;

}  // namespace keystep::test

#define CHECK(condition) \
  ((condition) ? void() : keystep::test::fail(__FILE__, __LINE__, "CHECK(" #condition ") is false"))

#define CHECK_NEAR(got, wanted, tolerance)                                                               \
  do {                                                                                                   \
    const double got_ = (got), wanted_ = (wanted);                                                       \
    if (!(std::abs(got_ - wanted_) <= (tolerance))) {                                                    \
      keystep::test::fail(__FILE__, __LINE__,                                                            \
                          #got " is " + std::to_string(got_) + ", expected " + std::to_string(wanted_)); \
    }                                                                                                    \
  } while (false)

/// The expression throws exactly `Type`, and its message contains `text`.
#define CHECK_THROWS(Type, text, ...)                                                            \
  do {                                                                                           \
    std::string got_ = "nothing";                                                                \
    bool right_ = false;                                                                         \
    try {                                                                                        \
      __VA_ARGS__;                                                                               \
    } catch (const Type& error_) {                                                               \
      got_ = error_.what();                                                                      \
      right_ = typeid(error_) == typeid(Type) && got_.find(text) != std::string::npos;           \
    } catch (const std::exception& error_) {                                                     \
      got_ = std::string("another type: ") + error_.what();                                      \
    }                                                                                            \
    if (!right_) {                                                                               \
      keystep::test::fail(__FILE__, __LINE__,                                                    \
                          std::string("expected " #Type " with '") + (text) + "', got " + got_); \
    }                                                                                            \
  } while (false)
