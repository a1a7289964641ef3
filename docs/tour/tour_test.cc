// SPDX-License-Identifier: Apache-2.0
// A stop of the tour does what its pages say: what the program prints is what
// they show, and the code they show is the program's.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/fork.h"
#include "brood/proc/posix.h"
#include "brood/proc/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::array<std::string_view, 2> kPages = {"README.md",
                                                    "README.ko.md"};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

// What the program prints, to whichever of the two outputs.
std::string OutputOf(const std::string& program) {
  std::array<int, 2> ends;
  CHECK_EQ(pipe2(ends.data(), O_CLOEXEC), 0) << ErrnoStatus(errno, "pipe2");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  absl::StatusOr<Child> child = Fork({.parent_death_signal = SIGKILL}, [&] {
    const int null = open("/dev/null", O_RDONLY);
    if (dup2(null, STDIN_FILENO) == -1 ||
        dup2(writer.get(), STDOUT_FILENO) == -1 ||
        dup2(writer.get(), STDERR_FILENO) == -1) {
      return 127;
    }
    (void)execl(program.c_str(), program.c_str(), nullptr);
    return 127;
  });
  EXPECT_THAT(child, IsOk());
  writer = UniqueFd();  // Or its end would not be seen.
  std::string output;
  while (true) {
    std::array<char, 4096> bytes;
    const ssize_t n = RetryOnEintr(
        [&] { return read(reader.get(), bytes.data(), bytes.size()); });
    CHECK_GE(n, 0) << ErrnoStatus(errno, "read from the program");
    if (n == 0) break;
    output.append(bytes.data(), static_cast<size_t>(n));
  }
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
  return output;
}

// Every fenced block whose fence says `language`.
std::vector<std::string> Blocks(std::string_view page,
                                std::string_view language) {
  std::vector<std::string> blocks;
  bool inside = false;
  for (std::string_view line : absl::StrSplit(page, '\n')) {
    if (absl::ConsumePrefix(&line, "```")) {
      inside = line == language;
      if (inside) blocks.emplace_back();
    } else if (inside) {
      blocks.back().append(line).append("\n");
    }
  }
  return blocks;
}

// `text` with each match of `pattern` changed.
template <typename Change>
std::string Replace(const std::string& text, const std::string& pattern,
                    Change change) {
  const std::regex regex(pattern);
  std::string result;
  auto rest = text.begin();
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end;
       match != end; ++match) {
    result.append(rest, text.begin() + match->position());
    result.append(change(*match));
    rest = text.begin() + match->position() + match->length();
  }
  return result.append(rest, text.end());
}

// `output` as every run prints it: pids numbered in the order in which they
// appear, so that who is who is still compared; no number where numbers vary;
// no white space at the end of a line, which no reader sees.
std::string Normalised(const std::string& output) {
  std::map<std::string, int> numbers;
  std::string result = Replace(
      output, "([Pp]id|proc id:)( +)([1-9][0-9]*)",
      [&](const std::smatch& match) {
        const int next = static_cast<int>(numbers.size()) + 1;
        const int number = numbers.try_emplace(match[3], next).first->second;
        return absl::StrCat(match[1].str(), match[2].str(), "#", number);
      });
  const std::string varies = std::getenv("VARIES");
  if (!varies.empty()) {
    result = Replace(result, varies, [](const std::smatch& match) {
      return std::regex_replace(match.str(), std::regex("[0-9]+"), "#");
    });
  }
  return std::regex_replace(result, std::regex(" +\n"), "\n");
}

// Without white space, which a formatter may place otherwise.
std::string Squeezed(std::string_view text) {
  std::string squeezed;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) squeezed += c;
  }
  return squeezed;
}

// The program, as docs/tour/1_zombie/1_zombie.
fs::path Program() { return std::getenv("PROGRAM"); }

// "./bazelw run //docs/tour/1_zombie", by which a person runs it.
std::string Command() {
  return absl::StrCat("./bazelw run //", Program().parent_path().string());
}

TEST(TourTest, ThePagesShowWhatTheProgramPrints) {
  const std::string printed = Normalised(OutputOf(Program()));
  for (std::string_view page : kPages) {
    const std::vector<std::string> blocks =
        Blocks(ReadFile(Program().parent_path() / page), "console");
    const std::string prompt = absl::StrCat("$ ", Command(), "\n");
    ASSERT_THAT(blocks, Not(IsEmpty())) << page << " shows no output";
    std::string_view shown = blocks[0];
    ASSERT_TRUE(absl::ConsumePrefix(&shown, prompt)) << page << "\n" << shown;
    EXPECT_EQ(Normalised(std::string(shown)), printed) << page;
  }
}

TEST(TourTest, ThePagesShowCodeOfTheProgram) {
  std::string source;
  for (const auto& entry : fs::directory_iterator(Program().parent_path())) {
    if (entry.path().extension() == ".cc") source += ReadFile(entry.path());
  }
  for (std::string_view page : kPages) {
    const std::vector<std::string> blocks =
        Blocks(ReadFile(Program().parent_path() / page), "cpp");
    EXPECT_THAT(blocks, Not(IsEmpty())) << page << " shows no code";
    for (const std::string& block : blocks) {
      EXPECT_TRUE(absl::StrContains(Squeezed(source), Squeezed(block)))
          << page << " shows what the program does not have:\n"
          << block;
    }
  }
}

TEST(TourTest, TheIndexLeadsHere) {
  const std::string stop = Program().filename();
  for (std::string_view page : kPages) {
    const std::string index =
        ReadFile(Program().parent_path().parent_path() / page);
    EXPECT_THAT(index, HasSubstr(Command()));
    EXPECT_THAT(index, HasSubstr(absl::StrCat("(", stop, "/", page, ")")));
  }
}

}  // namespace
}  // namespace brood
