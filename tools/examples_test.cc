// SPDX-License-Identifier: Apache-2.0
// The example that opens a public header, and the C++ that the README shows, is code
// that a test or a program of this repository compiles: it stands there word for word.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file),
          std::istreambuf_iterator<char>()};
}

// Without white space, which a formatter may place otherwise, and without comments,
// which may say more in one place than in the other.
std::string Squeezed(std::string_view text) {
  std::string squeezed;
  for (std::string_view line : absl::StrSplit(text, '\n')) {
    for (const char c : line.substr(0, line.find("// "))) {
      if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
        squeezed.push_back(c);
      }
    }
  }
  return squeezed;
}

// The first block of a header that is indented within the opening comment.
std::string HeaderExample(std::string_view header) {
  std::string example;
  for (std::string_view line : absl::StrSplit(header, '\n')) {
    if (!absl::ConsumePrefix(&line, "//")) break;
    const bool code = absl::StartsWith(line, "   ");
    const bool blank = line.empty();
    if (code) {
      example.append(line).append("\n");
    } else if (!blank && !example.empty()) {
      break;
    }
  }
  return example;
}

// Every fenced block of C++ in a page.
std::vector<std::string> FencedExamples(std::string_view page) {
  std::vector<std::string> examples;
  bool inside = false;
  for (std::string_view line : absl::StrSplit(page, '\n')) {
    if (absl::StartsWith(line, "```")) {
      inside = line == "```cpp";
      if (inside) examples.emplace_back();
    } else if (inside) {
      examples.back().append(line).append("\n");
    }
  }
  return examples;
}

class ExamplesTest : public testing::Test {
 protected:
  ExamplesTest() {
    for (const char* folder :
         {"docs", "net", "proc", "server", "signal", "tools"}) {
      for (const fs::directory_entry& entry :
           fs::recursive_directory_iterator(folder)) {
        const std::string path = entry.path().string();
        if (absl::EndsWith(path, ".h")) headers_[path] = ReadFile(path);
        if (absl::EndsWith(path, ".cc")) sources_ += Squeezed(ReadFile(path));
      }
    }
  }

  std::map<std::string, std::string> headers_;  // By path.
  std::string sources_;                         // Squeezed, one after another.
};

TEST_F(ExamplesTest, EveryHeaderOpensWithCodeThatIsCompiled) {
  EXPECT_GT(headers_.size(), 10);
  for (const auto& [path, header] : headers_) {
    const std::string example = HeaderExample(header);
    EXPECT_FALSE(example.empty()) << path << " shows no example";
    EXPECT_TRUE(absl::StrContains(sources_, Squeezed(example)))
        << path << " shows what nothing compiles:\n"
        << example;
  }
}

TEST_F(ExamplesTest, TheReadmeShowsCodeThatIsCompiled) {
  for (const char* page : {"README.md", "README.ko.md"}) {
    const std::vector<std::string> examples = FencedExamples(ReadFile(page));
    EXPECT_FALSE(examples.empty()) << page << " shows no C++";
    for (const std::string& example : examples) {
      EXPECT_TRUE(absl::StrContains(sources_, Squeezed(example)))
          << page << " shows what nothing compiles:\n"
          << example;
    }
  }
}

}  // namespace
}  // namespace brood
