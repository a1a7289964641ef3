// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target as an ordinary test, with any compiler: over its corpus,
// and over mutations of it. libFuzzer searches for inputs that do harm; this
// holds on to those that did.
//
// A target that finds harm ends the process. The input that did it is then the
// file "input" among the test's undeclared outputs, which Bazel keeps in
// bazel-testlogs/<package>/<test>/test.outputs; it belongs into the corpus.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "brood/proc/unique_fd.h"
#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace brood {
namespace {

using Random = std::mt19937_64;

constexpr int kMutants = 20000;
constexpr size_t kMaxMutant = 4096;

// From 0 to `limit` - 1.
size_t Below(size_t limit, Random& random) {
  return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  CHECK(value != nullptr) << name << " is not set; see brood_fuzz_test";
  return value;
}

// The files in the order of their names: the same everywhere.
std::vector<std::string> ReadCorpus() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(Variable("CORPUS"))) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const std::filesystem::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    CHECK(in.is_open()) << file;
    corpus.emplace_back(std::istreambuf_iterator<char>(in),
                        std::istreambuf_iterator<char>());
  }
  return corpus;
}

// Runs the target, each input being on record before it is tried: a file
// outlives the process, however it ends.
class Runner {
 public:
  Runner()
      : path_(absl::StrCat(Variable("TEST_UNDECLARED_OUTPUTS_DIR"), "/input")),
        record_(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                     0666)) {
    CHECK(record_.valid()) << path_;
  }
  ~Runner() { unlink(path_.c_str()); }

  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void Run(std::string_view input) {
    CHECK_EQ(pwrite(record_.get(), input.data(), input.size(), 0),
             static_cast<ssize_t>(input.size()));
    CHECK_EQ(ftruncate(record_.get(), static_cast<off_t>(input.size())), 0);
    // An allocation of exactly this size, so that the address sanitizer sees a
    // read beyond it.
    const std::vector<uint8_t> bytes(input.begin(), input.end());
    EXPECT_EQ(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()), 0);
  }

 private:
  std::string path_;
  UniqueFd record_;
};

// One small change, of the kinds that parsers stumble over.
void Mutate(std::string& text, const std::vector<std::string>& corpus,
            Random& random) {
  const size_t at = Below(text.size() + 1, random);
  const size_t length = Below(text.size() - at + 1, random);
  switch (Below(7, random)) {
    case 0:  // Any byte, at any place.
      text.insert(at, 1, static_cast<char>(Below(256, random)));
      return;
    case 1:  // A byte that the text already knows: most often punctuation.
      if (text.empty()) return;
      text.insert(at, 1, text[Below(text.size(), random)]);
      return;
    case 2:
      if (at == text.size()) return;
      text[at] = static_cast<char>(text[at] ^ (1 << Below(8, random)));
      return;
    case 3:
      text.erase(at, length);
      return;
    case 4:
      text.insert(at, text.substr(at, length));
      return;
    case 5: {  // Goes on as another does.
      const std::string& other = corpus[Below(corpus.size(), random)];
      text.replace(at, std::string::npos,
                   other.substr(Below(other.size() + 1, random)));
      return;
    }
    case 6:
      text.resize(at);
      return;
  }
}

TEST(FuzzTest, NoInputOfTheCorpusDoesHarm) {
  const std::vector<std::string> corpus = ReadCorpus();
  ASSERT_FALSE(corpus.empty());
  Runner runner;
  for (const std::string& input : corpus) runner.Run(input);
  runner.Run("");
}

TEST(FuzzTest, NoMutantOfTheCorpusDoesHarm) {
  const std::vector<std::string> corpus = ReadCorpus();
  ASSERT_FALSE(corpus.empty());
  Runner runner;
  Random random(20240611);
  for (int i = 0; i < kMutants; ++i) {
    std::string mutant = corpus[Below(corpus.size(), random)];
    for (size_t changes = 1 + Below(4, random); changes > 0; --changes) {
      Mutate(mutant, corpus, random);
    }
    if (mutant.size() > kMaxMutant) mutant.resize(kMaxMutant);
    runner.Run(mutant);
  }
}

}  // namespace
}  // namespace brood
