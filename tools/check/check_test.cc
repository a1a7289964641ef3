// SPDX-License-Identifier: Apache-2.0
// The check itself, on a small project with a mistake of every kind. What it
// asks of Bazel there, a script answers.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "brood/tools/check/run_program.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::absl_testing::IsOk;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CheckTest : public testing::Test {
 protected:
  CheckTest() : root_(fs::path(testing::TempDir()) / "project") {
    Write("bazelw",
          "#!/bin/sh\n"
          "[ \"$1\" = query ] || exit 1\n"
          "echo 'cc_library rule //net:a'\n"
          "echo 'source file //net:a.cc'\n");
    fs::permissions(root_ / "bazelw", fs::perms::owner_all);
    Write("net/a.cc", "// SPDX-License-Identifier: Apache-2.0\nint a = 1;\n");
    Write("README.md", "# A\n\n[a](net/a.cc) is `//net:a`.\n");
  }
  ~CheckTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  // Those of the checks that need nothing but the project.
  ProgramRun Run(const std::vector<std::string>& flags = {
                     "--only=links,calls,form,names,files"}) {
    std::vector<std::string> argv = {
        "env", absl::StrCat("BUILD_WORKSPACE_DIRECTORY=", root_.string()),
        fs::absolute(std::getenv("CHECK")).string()};
    argv.insert(argv.end(), flags.begin(), flags.end());
    absl::StatusOr<ProgramRun> run = RunProgram(argv, "/");
    EXPECT_THAT(run, IsOk());
    return *run;
  }

  fs::path root_;
};

TEST_F(CheckTest, PassesWhatIsInOrder) {
  const ProgramRun run = Run();
  EXPECT_TRUE(run.status.success()) << run.out << run.err;
  EXPECT_THAT(run.out, EndsWith("\n5 passed, 0 failed, 0 skipped\n"));
}

TEST_F(CheckTest, FindsEveryMistakeThatIsPlanted) {
  Write("docs/dead.md", "[x](nowhere.md) and `//net:b` with `--nonsense`\n");
  Write("net/b.cc", "#include \"a.h\"\nint b = system(\"true\");\n");
  const ProgramRun run = Run();
  EXPECT_EQ(run.status.exit_code(), 1);
  for (const char* found :
       {"FAILED: links: ", "docs/dead.md:1: links to nowhere.md: not there",
        "FAILED: calls: ", "net/b.cc:2: system(): ", "FAILED: form: ",
        "net/b.cc:1: is not // SPDX",
        "FAILED: names: ", "docs/dead.md:1: //net:b: no target",
        "docs/dead.md:1: --nonsense: no flag",
        "FAILED: files: ", "net/b.cc: is in no target"}) {
    EXPECT_THAT(run.out, HasSubstr(found));
  }
  EXPECT_THAT(run.out, EndsWith("\n0 passed, 5 failed, 0 skipped\n"));
}

TEST_F(CheckTest, WhatOnlyAFilegroupHasIsInNoTarget) {
  Write("net/b.cc", "// SPDX-License-Identifier: Apache-2.0\nint b = 2;\n");
  Write("bazelw",
        "#!/bin/sh\n"
        "echo 'cc_library rule //net:a'\n"
        "echo 'source file //net:a.cc'\n"
        "case \"$*\" in *'//...:*'*) echo 'source file //net:b.cc' ;; esac\n");
  const ProgramRun run = Run({"--only=files"});
  EXPECT_EQ(run.status.exit_code(), 1);
  EXPECT_THAT(run.out, HasSubstr("net/b.cc: is in no target"));
}

TEST_F(CheckTest, FailsWhereBazelCannotSayWhatThereIs) {
  Write("bazelw", "#!/bin/sh\necho broken >&2\nexit 7\n");
  const ProgramRun run = Run({"--only=files"});
  EXPECT_EQ(run.status.exit_code(), 1);
  EXPECT_THAT(run.out, AllOf(HasSubstr("FAILED: files: "), HasSubstr("broken"),
                             EndsWith("\n0 passed, 1 failed, 0 skipped\n")));
}

TEST_F(CheckTest, SkipsAloudWhatItHasNoProgramFor) {
  Write("tools/bootstrap/buildifier.sh",
        "#!/bin/sh\necho 'no buildifier, for a reason' >&2\nexit 1\n");
  fs::permissions(root_ / "tools/bootstrap/buildifier.sh",
                  fs::perms::owner_all);
  const ProgramRun run = Run({"--only=build_format"});
  EXPECT_EQ(run.status.exit_code(), 0);
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("skipped: build_format: no buildifier, for a"),
                    EndsWith("\n0 passed, 0 failed, 1 skipped\n")));
}

TEST_F(CheckTest, RefusesACheckThatThereIsNot) {
  const ProgramRun run = Run({"--only=links,tydi"});
  EXPECT_EQ(run.status.exit_code(), 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("links,tydi"), HasSubstr("format, ")));
  EXPECT_THAT(run.out, IsEmpty());
}

TEST_F(CheckTest, ListsWhatItChecks) {
  const ProgramRun run = Run({"--list"});
  EXPECT_TRUE(run.status.success());
  EXPECT_THAT(run.out, HasSubstr("links: no link of a page leads nowhere\n"));
}

}  // namespace
}  // namespace brood
