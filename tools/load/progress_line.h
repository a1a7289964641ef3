// SPDX-License-Identifier: Apache-2.0
//
// A ProgressLine is one line of a terminal that says how far something has
// come, and is gone when it is over.
//
//   void CountUp(int fd, int most) {
//     ProgressLine line(fd);
//     for (int i = 0; i < most; ++i) line.Show(absl::StrCat(i, " of ", most));
//   }
//
// What it is not: for logs. Where there is no terminal nothing is written.
//
// It is redrawn five times a second at most, however often there is news; what
// comes between is not shown. A text that is too long for the terminal is cut,
// so that it stays one line.
//
// Ownership: the descriptor is borrowed. The destructor clears the line; so
// does Clear(), for who has something else to say meanwhile.
//
// Errors: a terminal that is gone is written to no more, nobody is told.
// Threads: one at a time. Signals: none. Fork: one of both should draw.
// Rests on: isatty(3), TIOCGWINSZ, ECMA-48 for "erase to the end of the line".
#ifndef BROOD_TOOLS_LOAD_PROGRESS_LINE_H_
#define BROOD_TOOLS_LOAD_PROGRESS_LINE_H_

#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace brood {

class ProgressLine {
 public:
  explicit ProgressLine(int fd);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { Clear(); }

  // One line without control characters.
  void Show(std::string_view text);
  void Clear();

 private:
  void Write(std::string_view text);

  int fd_;
  bool live_;
  bool drawn_ = false;
  std::optional<absl::Duration> last_ = std::nullopt;
};

}  // namespace brood

#endif  // BROOD_TOOLS_LOAD_PROGRESS_LINE_H_
