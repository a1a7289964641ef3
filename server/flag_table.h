// SPDX-License-Identifier: Apache-2.0
//
// A FlagTable reads a command line by the flags that a program has, and says in
// --help what they are.
//
//   struct Greeting {
//     int times = 1;
//     bool loud = false;
//   };
//   FlagTable FlagsInto(Greeting& greeting) {
//     return FlagTable(
//         {{.name = "times",
//           .value_name = "N",
//           .what = "how often",
//           .allowed = "a number from 1 to 9",
//           .by_default = "1",
//           .parse =
//               [&greeting](std::string_view value) {
//                 return AllowedIf(ReadNumber(value, 1, 9, greeting.times));
//               }},
//          {.name = "loud",
//           .what = "in capitals",
//           .parse =
//               [&greeting](std::string_view value) {
//                 return AllowedIf(ReadBool(value, greeting.loud));
//               }}},
//         {.example = "--times=3"});
//   }
//
// What it is not: a registry. There are no globals; a program has the flags of
// its table, and --help, which each table has as its last.
//
// A flag is written --name=value or --name value; a value that begins with --
// only in the first form. One that is true or false is a switch, and is also
// written --name and --noname; one with a `bare` value is also --name. -h is --help. What follows a lone -- is no flag.
// Each flag is given once, unless it adds up.
//
// Ownership: a table holds on to what its flags read into, and what was given
// to the arguments, whose texts it does not copy.
//
// Errors: InvalidArgument, one line of printable characters that names the
// input and what is allowed. A program ends with exit code 2 after it.
//
// Threads, signals, fork: values.
#ifndef BROOD_SERVER_FLAG_TABLE_H_
#define BROOD_SERVER_FLAG_TABLE_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace brood {

struct Flag {
  bool is_switch() const { return value_name.empty(); }

  std::string_view name = {};
  // Empty of a switch.
  std::string_view value_name = {};
  // Its heading in --help; those of one group stand together.
  std::string_view group = "flags";
  std::string_view what = {};
  // What the value may be, the end of "allowed is", and what it is without the
  // flag. A switch needs neither: it is false.
  std::string_view allowed = {};
  std::string_view by_default = {};
  // What else --help says.
  std::string_view more = {};
  // What the flag alone means; a value then comes after = only.
  std::string_view bare = {};
  // Never sees an empty value, and of a switch only "true" and "false". An
  // error without words is that the value is not what `allowed` says; one with
  // words says itself which it was.
  std::function<absl::Status(std::string_view value)> parse = nullptr;
  // It may be given more than once.
  bool adds_up = false;
};

// What was on a command line.
class GivenFlags {
 public:
  // Was asked for; whether the others go together then does not matter.
  bool help() const { return help_; }
  // What follows a lone --, if there is one.
  const std::optional<std::vector<std::string_view>>& rest() const {
    return rest_;
  }
  // The value, if it was written and is not a switch's "false", which says what
  // is so anyway. Of flags that add up the last.
  std::optional<std::string_view> Value(std::string_view name) const;
  // The first of `names` that has a Value() is an error: "--name `why`".
  absl::Status Refuse(absl::Span<const std::string_view> names,
                      std::string_view why) const;
  // The same for every flag but those of `names`.
  absl::Status RefuseAllBut(absl::Span<const std::string_view> names,
                            std::string_view why) const;

 private:
  friend class FlagTable;

  struct Given {
    std::string_view name;
    bool is_switch;
    std::optional<std::string_view> value;
  };

  std::vector<Given> given_;  // In the table's order.
  std::optional<std::vector<std::string_view>> rest_;
  bool help_ = false;
};

class FlagTable {
 public:
  struct Words {
    // A flag as somebody may write it, for who writes none.
    std::string_view example = {};
    // What may follow a lone --, with its article; nothing may if it is empty.
    std::string_view rest = {};
  };

  FlagTable(std::vector<Flag> flags, Words words);

  // `args` without the program's name.
  absl::StatusOr<GivenFlags> Parse(
      absl::Span<const std::string_view> args) const;

  // Every flag, what it may be and what it is without, in 80 columns, by group.
  // Each group begins with an empty line.
  std::string Help() const;

 private:
  class Reader;

  const Flag* Find(std::string_view name) const;
  absl::Status UnknownFlag(std::string_view name) const;

  std::vector<Flag> flags_;
  Words words_;
};

}  // namespace brood

#endif  // BROOD_SERVER_FLAG_TABLE_H_
