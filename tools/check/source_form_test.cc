// SPDX-License-Identifier: Apache-2.0
#include "brood/tools/check/source_form.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "brood/tools/check/finding.h"
#include "brood/tools/check/source_tree.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kLicence[] = "// SPDX-License-Identifier: Apache-2.0\n";

// What is wrong with a source that has a licence and then `text`.
std::vector<std::string> Try(const std::string& text,
                             const std::string& path = "net/a.cc") {
  const SourceTree tree = SourceTree::Of(
      {{path, absl::StrCat(kLicence, text)}, {"docs/there.md", ""}});
  std::vector<std::string> wrong;
  for (const Finding& finding : FormMistakes(tree)) {
    wrong.push_back(absl::StrCat(finding.line, " ", finding.what));
  }
  return wrong;
}

TEST(FormMistakesTest, NamesTheFileAndWhatIsMissing) {
  const SourceTree tree = SourceTree::Of({{"net/a.h", "#ifndef A_H\n"}});
  EXPECT_THAT(
      FormMistakes(tree),
      ElementsAre(Finding{"net/a.h", 1,
                          "is not // SPDX-License-Identifier: "
                          "Apache-2.0"},
                  Finding{"net/a.h", 0, "has no guard BROOD_NET_A_H_"}));
}

TEST(FormMistakesTest, WantsTheGuardToBeThePath) {
  const std::string good =
      "#ifndef BROOD_NET_A_H_\n#define BROOD_NET_A_H_\n\n"
      "#endif  // BROOD_NET_A_H_\n";
  EXPECT_THAT(Try(good, "net/a.h"), IsEmpty());
  EXPECT_THAT(Try(good, "net/b.h"), ElementsAre("0 has no guard BROOD_NET_B_H_",
                                                "3 defines a macro"));
}

TEST(FormMistakesTest, WantsIncludesAsTheProjectWritesThem) {
  EXPECT_THAT(Try("#include <string>\n#include <sys/socket.h>\n"
                  "#include \"absl/status/status.h\"\n"
                  "#include \"brood/docs/there.md\"\n"),
              IsEmpty());
  EXPECT_THAT(
      Try("#include \"net/a.h\"\n#include <gtest/gtest.h>\n"
          "#include \"brood/net/gone.h\"\n"),
      ElementsAre(
          "2 #include \"net/a.h\" is not \"brood/...\" nor a dependency's",
          "3 #include <gtest/gtest.h> is built with the project, so it is in "
          "quotes",
          "4 #include \"brood/net/gone.h\" is not there"));
}

TEST(FormMistakesTest, WantsNoMacroAndNothingLeftForLater) {
  EXPECT_THAT(Try("#define SQUARE(x) ((x) * (x))\n"),
              ElementsAre("2 defines a macro"));
  EXPECT_THAT(Try(absl::StrCat("int a;  // TO", "DO: b\nint c;\n")),
              ElementsAre(absl::StrCat("2 TO",
                                       "DO: is an issue, not a "
                                       "comment")));
}

TEST(FormMistakesTest, FindsPathsOfOneMachineInEveryFile) {
  const std::string home = absl::StrCat("/ho", "me/somebody");
  const SourceTree tree =
      SourceTree::Of({{"docs/a.md", absl::StrCat("one\nsee ", home, "/x\n")},
                      {"net/corpus/a/b", home}});
  EXPECT_THAT(
      FormMistakes(tree),
      ElementsAre(Finding{"docs/a.md", 2, "names a folder of one machine"}));
}

TEST(FormMistakesTest, LetsPathsAloneThatOnlyLookLikeThat) {
  EXPECT_THAT(Try(absl::StrCat("// x/ho", "me/a ${HOME}/ro", "ot/b, /ro",
                               "ot or /ho", "me/*\n")),
              IsEmpty());
}

TEST(FormMistakesTest, LeavesTheStrangersWorkspaceItsOwnWays) {
  EXPECT_THAT(FormMistakes(SourceTree::Of(
                  {{"tests/consumer/net/address.h", "#define X\n"}})),
              IsEmpty());
}

}  // namespace
}  // namespace brood
