// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over the files of its corpus, and over what is left of each
// when its end is missing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

TEST(CorpusTest, NoInputAndNoPartOfItDoesHarm) {
  const char* corpus = std::getenv("CORPUS");
  ASSERT_NE(corpus, nullptr);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file),
                            std::istreambuf_iterator<char>()};
    ASSERT_FALSE(input.empty());
    ++files;
    for (size_t size = 0; size <= input.size(); ++size) {
      // Of exactly this size: the address sanitizer sees a read beyond it.
      const std::vector<uint8_t> bytes(input.begin(),
                                       input.begin() + static_cast<long>(size));
      EXPECT_EQ(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()), 0);
    }
  }
  EXPECT_GT(files, 0);
}

}  // namespace
