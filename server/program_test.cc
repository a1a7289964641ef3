// SPDX-License-Identifier: Apache-2.0
#include "brood/server/program.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_matchers.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "brood/net/address.h"
#include "brood/net/listener.h"
#include "brood/net/stream.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"
#include "brood/server/connection_handler.h"
#include "brood/tests/in_child.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

absl::StatusOr<Child> RunFor(Stream& stream, const ConnectionInfo& info) {
  const std::vector<std::string> argv = {"cat", "-u"};
  absl::StatusOr<std::string> path = ResolveProgram(argv);
  if (!path.ok()) return path.status();
  absl::StatusOr<ProgramEnvironment> environment =
      ProgramEnvironment::Create("LANG,TZ");
  if (!environment.ok()) return environment.status();
  return Spawn(argv, {.program = *path,
                      .env = environment->For(info, {}),
                      .fds = {{0, stream.fd()}, {1, stream.fd()}}});
}

// ---- The program ----

class ResolveProgramTest : public testing::Test {
 protected:
  ResolveProgramTest()
      : folder_(absl::StrCat(testing::TempDir(), "/program.XXXXXX")) {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
  }
  ~ResolveProgramTest() override {
    // What is in a folder was made after it.
    while (!made_.empty()) {
      EXPECT_EQ(remove(made_.back().c_str()), 0) << made_.back();
      made_.pop_back();
    }
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
  }

  std::string Path(std::string_view name) const {
    return absl::StrCat(folder_, "/", name);
  }

  std::string Make(std::string_view name, std::string_view content,
                   mode_t mode = 0755) {
    const std::string path = Path(name);
    UniqueFd file(
        open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    EXPECT_TRUE(file.valid());
    made_.push_back(path);
    EXPECT_EQ(write(file.get(), content.data(), content.size()),
              content.size());
    EXPECT_EQ(fchmod(file.get(), mode), 0);
    return path;
  }

  std::string MakeFolder(std::string_view name) {
    made_.push_back(Path(name));
    EXPECT_EQ(mkdir(made_.back().c_str(), 0700), 0);
    return made_.back();
  }

  // An ELF file that asks for `loader` and has nothing else.
  std::string MakeElf(std::string_view name, std::string_view loader) {
    Elf64_Ehdr header = {};
    Elf64_Phdr segment = {};
    const UniqueFd self(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(read(self.get(), &header, sizeof(header)), sizeof(header));
    header.e_phoff = sizeof(header);
    header.e_phnum = 1;
    segment.p_type = PT_INTERP;
    segment.p_offset = sizeof(header) + sizeof(segment);
    segment.p_filesz = loader.size() + 1;
    std::string content(reinterpret_cast<const char*>(&header), sizeof(header));
    content.append(reinterpret_cast<const char*>(&segment), sizeof(segment));
    content.append(loader).push_back('\0');
    return Make(name, content);
  }

  std::string folder_;
  std::vector<std::string> made_;
};

TEST_F(ResolveProgramTest, FindsANameInPathAndTakesAPathAsItIs) {
  const absl::StatusOr<std::string> sh = ResolveProgram({"sh", "-c", "exit"});
  ASSERT_THAT(sh, IsOk());
  EXPECT_THAT(*sh, EndsWith("/sh"));
  EXPECT_THAT(ResolveProgram({*sh}), IsOkAndHolds(*sh));
  EXPECT_THAT(ResolveProgram({"/bin/../bin/sh"}),
              IsOkAndHolds("/bin/../bin/sh"));
}

// Whatever is wrong, it is found before the first client comes, and it is what
// that client would have met.
TEST_F(ResolveProgramTest, SaysWhatExecveWouldSay) {
  const std::string plain = Make("plain", "#!/bin/sh\n", 0644);
  std::string deep = "/bin/sh";
  std::vector<std::string> scripts;
  for (int i = 1; i <= 6; ++i) {
    deep = Make(absl::StrCat(i), absl::StrCat("#!", deep, "\n"));
    scripts.push_back(deep);
  }
  EXPECT_EQ(mkfifo(Path("fifo").c_str(), 0755), 0);
  made_.push_back(Path("fifo"));
  struct Case {
    std::string path;
    int error;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"/bin/sh", 0, ""},
      {Make("script", "#!/bin/sh\nexit 0\n"), 0, ""},
      {Make("blanks", "#! \t/bin/sh \t-e \n"), 0, ""},
      {Make("no_newline", "#!/bin/sh"), 0, ""},
      {Path("none"), ENOENT, ": No such file or directory (ENOENT)"},
      {absl::StrCat(plain, "/x"), ENOTDIR, ": Not a directory (ENOTDIR)"},
      {MakeFolder("folder"), EACCES,
       ": is a directory: Permission denied (EACCES)"},
      {Path("fifo"), EACCES,
       ": is no regular file: Permission denied (EACCES)"},
      {plain, EACCES, ": is not executable: Permission denied (EACCES)"},
      {Make("empty", ""), ENOEXEC,
       ": begins neither with #! nor as ELF: Exec format error (ENOEXEC)"},
      {Make("text", "exit 0\n"), ENOEXEC,
       ": begins neither with #! nor as ELF: Exec format error (ENOEXEC)"},
      {Make("nobody", "#! \n/bin/sh\n"), ENOEXEC,
       ": names no interpreter after its #!: Exec format error (ENOEXEC)"},
      {Make("endless", absl::StrCat("#!/", std::string(300, 'x'), "\n")),
       ENOEXEC,
       ": names no interpreter after its #!: Exec format error (ENOEXEC)"},
      {Make("gone", "#!/nowhere/sh -e\n"), ENOENT,
       ": its interpreter \"/nowhere/sh\": No such file or directory "
       "(ENOENT)"},
      {Make("indirect", absl::StrCat("#!", plain, "\n")), EACCES,
       absl::StrCat(": its interpreter \"", plain,
                    "\": is not executable: Permission denied (EACCES)")},
      {MakeElf("elf", "/nowhere/ld.so"), ENOENT,
       ": its loader \"/nowhere/ld.so\": No such file or directory (ENOENT)"},
      {scripts[4], 0, ""},
      {scripts[5], ELOOP,
       ": its interpreter \"/bin/sh\": Too many levels of symbolic links "
       "(ELOOP)"},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<std::string> path = ResolveProgram({c.path});
    EXPECT_EQ(ErrnoOf(path.status()), c.error) << path.status();
    if (!path.ok()) {
      EXPECT_THAT(path.status().message(),
                  AllOf(StartsWith(absl::StrCat("program \"", c.path, "\": ")),
                        EndsWith(c.message)));
    }
    absl::StatusOr<Child> child = Spawn({c.path}, {.inherit_stdio = false});
    EXPECT_EQ(ErrnoOf(child.status()), c.error)
        << c.path << ": " << child.status();
    if (child.ok()) {
      EXPECT_THAT(child->Wait(), IsOk());
    }
  }
}

TEST_F(ResolveProgramTest, SearchesPathAsSpawnDoes) {
  const std::string first = MakeFolder("first");
  const std::string second = MakeFolder("second");
  Make("first/denied", "#!/bin/sh\n", 0644);
  Make("first/both", "#!/bin/sh\n", 0644);
  Make("second/both", "#!/bin/sh\n");
  Make("first/broken", "text");
  Make("second/broken", "#!/bin/sh\n");
  Make("only_relative", "#!/bin/sh\n");
  EXPECT_EQ(
      InChild([&] {
        setenv("PATH", absl::StrCat(".::", first, ":/nowhere:", second).c_str(),
               1);
        EXPECT_EQ(chdir(folder_.c_str()), 0);
        EXPECT_THAT(ResolveProgram({"both"}),
                    IsOkAndHolds(absl::StrCat(second, "/both")));
        EXPECT_EQ(ErrnoOf(ResolveProgram({"denied"}).status()), EACCES);
        EXPECT_EQ(ErrnoOf(ResolveProgram({"broken"}).status()), ENOEXEC);
        EXPECT_EQ(ErrnoOf(ResolveProgram({"only_relative"}).status()), ENOENT);
        EXPECT_THAT(ResolveProgram({"./only_relative"}), IsOk());
        for (const std::string name :
             {"both", "denied", "broken", "only_relative"}) {
          absl::StatusOr<Child> child = Spawn({name}, {.inherit_stdio = false});
          EXPECT_EQ(ErrnoOf(child.status()),
                    ErrnoOf(ResolveProgram({name}).status()));
          if (child.ok()) {
            EXPECT_THAT(child->Wait(), IsOk());
          }
        }
        EXPECT_THAT(ResolveProgram({"missing"}).status().message(),
                    AllOf(StartsWith("program \"missing\": find it in PATH "),
                          HasSubstr("/nowhere")));
        unsetenv("PATH");
        EXPECT_THAT(ResolveProgram({"sh"}), IsOkAndHolds("/bin/sh"));
        return testing::Test::HasFailure() ? 1 : 0;
      }),
      0);
}

TEST_F(ResolveProgramTest, RefusesWhatIsNoProgramAtAll) {
  EXPECT_THAT(ResolveProgram({}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "program: expected its name or path, and then its "
                       "arguments"));
  EXPECT_THAT(ResolveProgram({"", "x"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ResolveProgram({"cat", std::string("a\0", 2)}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "program: \"a\\x00\": expected text without NUL"));
}

// ---- The environment ----

ProgramEnvironment Environment(std::string_view keep = "") {
  absl::StatusOr<ProgramEnvironment> environment =
      ProgramEnvironment::Create(keep);
  EXPECT_THAT(environment, IsOk());
  return *std::move(environment);
}

ConnectionInfo Info(std::string_view local, std::string_view peer) {
  return {*Address::Parse(local), *Address::Parse(peer)};
}

std::string PathNow() { return absl::StrCat("PATH=", std::getenv("PATH")); }

TEST(ProgramEnvironmentTest, TellsOfAConnectionByIpv4) {
  EXPECT_THAT(Environment().For(Info("127.0.0.1:7007", "192.0.2.1:4711"),
                                {.connections = 1}),
              ElementsAre(PathNow(), "PROTO=TCP", "TCPLOCALIP=127.0.0.1",
                          "TCPLOCALPORT=7007", "TCPREMOTEIP=192.0.2.1",
                          "TCPREMOTEPORT=4711", "TCPCONNNUM=1",
                          "REMOTE_ADDR=192.0.2.1", "REMOTE_PORT=4711"));
}

TEST(ProgramEnvironmentTest, TellsOfAConnectionByIpv6UnderTheSameNames) {
  EXPECT_THAT(
      Environment().For(Info("[2001:db8::1]:7007", "[fe80::1%2]:4711"), {}),
      ElementsAre(PathNow(), "PROTO=TCP", "TCPLOCALIP=2001:db8::1",
                  "TCPLOCALPORT=7007", "TCPREMOTEIP=fe80::1",
                  "TCPREMOTEPORT=4711", "REMOTE_ADDR=fe80::1%2",
                  "REMOTE_PORT=4711"));
}

TEST(ProgramEnvironmentTest, TellsOfAnIpv4ClientOfASocketForBothFamilies) {
  const std::vector<std::string> environment = Environment().For(
      Info("[::ffff:127.0.0.1]:7007", "[::ffff:192.0.2.1]:4711"), {});
  EXPECT_THAT(environment, Contains("TCPLOCALIP=127.0.0.1"));
  EXPECT_THAT(environment, Contains("TCPREMOTEIP=192.0.2.1"));
  EXPECT_THAT(environment, Contains("REMOTE_ADDR=192.0.2.1"));
}

TEST(ProgramEnvironmentTest, TellsOfAConnectionByUnix) {
  EXPECT_THAT(
      Environment().For(Info("unix:/run/a b", "unix:(unnamed)"),
                        {.credentials = {{.pid = 3, .uid = 1, .gid = 2}}}),
      ElementsAre(PathNow(), "PROTO=UNIX", "UNIXLOCALPATH=/run/a b",
                  "UNIXREMOTEEUID=1", "UNIXREMOTEEGID=2", "UNIXREMOTEPID=3"));
  EXPECT_THAT(
      Environment().For({*Address::UnixAbstract(std::string_view("a\0b", 3)),
                         *Address::UnixPath("/client")},
                        {}),
      ElementsAre(PathNow(), "PROTO=UNIX", "UNIXLOCALPATH=@a\\x00b"));
}

TEST(ProgramEnvironmentTest, KeepsWhatIsAskedForAndNothingElse) {
  EXPECT_EQ(InChild([] {
              setenv("KEPT", "a=b", 1);
              setenv("EMPTY", "", 1);
              setenv("DROPPED", "x", 1);
              unsetenv("NOT_SET");
              const ProgramEnvironment environment =
                  Environment("KEPT,NOT_SET,EMPTY,KEPT");
              setenv("KEPT", "later", 1);
              const std::vector<std::string> variables =
                  environment.For(Info("unix:/x", "unix:(unnamed)"), {});
              EXPECT_THAT(variables, ElementsAre(PathNow(), "KEPT=a=b",
                                                 "EMPTY=", "PROTO=UNIX",
                                                 "UNIXLOCALPATH=/x"));
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

TEST(ProgramEnvironmentTest, HasAPathWhereTheServerHasNone) {
  EXPECT_EQ(InChild([] {
              unsetenv("PATH");
              EXPECT_THAT(Environment().For({}, {}),
                          Contains("PATH=/bin:/usr/bin"));
              return testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

TEST(ProgramEnvironmentTest, SaysWhatCannotBeKept) {
  for (const std::string_view keep :
       {",", "A,", "A,,B", "1A", "A B", "A=1", "\xc3\xa9"}) {
    EXPECT_THAT(ProgramEnvironment::Create(keep).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         EndsWith(": allowed are names of letters, digits "
                                  "and _, no digit first, with commas between "
                                  "them")))
        << keep;
  }
  EXPECT_THAT(ProgramEnvironment::Create("A=1\n").status().message(),
              StartsWith("\"A=1\\n\": "));
  for (const std::string_view keep : {"PATH", "LANG,TCPREMOTEIP", "PROTO"}) {
    EXPECT_THAT(ProgramEnvironment::Create(keep).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         EndsWith(": allowed are names that the server does "
                                  "not set")));
  }
}

// Everything that is set is refused, so that neither comes twice.
TEST(ProgramEnvironmentTest, RefusesEveryNameThatItSets) {
  std::vector<std::string> all =
      Environment().For(Info("127.0.0.1:1", "127.0.0.1:2"), {.connections = 1});
  for (std::string& variable :
       Environment().For(Info("unix:/x", "unix:/y"), {.credentials = {{}}})) {
    all.push_back(std::move(variable));
  }
  for (const std::string& variable : all) {
    const std::string name = variable.substr(0, variable.find('='));
    EXPECT_THAT(ProgramEnvironment::Create(name), Not(IsOk())) << name;
  }
}

// ---- Both ----

std::string ReadAll(Stream& stream) {
  std::string text;
  std::array<char, 4096> buffer;
  while (true) {
    const absl::StatusOr<IoResult> got = stream.Read(absl::MakeSpan(buffer));
    if (!got.ok() || got->end()) return text;
    text.append(buffer.data(), *got->bytes());
  }
}

TEST(ProgramTest, HeaderExample) {
  absl::StatusOr<Listener> listener =
      Listener::Open(*Address::Parse("127.0.0.1:0"));
  ASSERT_THAT(listener, IsOk());
  absl::StatusOr<Stream> client = Stream::Connect(listener->address());
  ASSERT_THAT(client, IsOk());
  absl::StatusOr<std::optional<Accepted>> accepted = listener->Accept();
  ASSERT_THAT(accepted, IsOk());
  absl::StatusOr<Child> child =
      RunFor((*accepted)->stream, {listener->address(), (*accepted)->peer});
  ASSERT_THAT(child, IsOk());
  EXPECT_THAT((*accepted)->stream.Close(), IsOk());
  EXPECT_THAT(client->WriteAll("hello"), IsOk());
  EXPECT_THAT(client->ShutdownWrite(), IsOk());
  EXPECT_EQ(ReadAll(*client), "hello");
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

TEST(ProgramTest, ReadsItsVariablesLikeAnyOther) {
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  Stream client{UniqueFd(ends[0]), Address()};
  UniqueFd server(ends[1]);
  const absl::StatusOr<std::string> path = ResolveProgram({"env"});
  ASSERT_THAT(path, IsOk());
  absl::StatusOr<Child> child =
      Spawn({"env"},
            {.program = *path,
             .env = Environment().For(Info("127.0.0.1:7", "192.0.2.1:8"), {}),
             .fds = {{1, server.get()}},
             .inherit_stdio = false});
  ASSERT_THAT(child, IsOk());
  server = UniqueFd();
  EXPECT_EQ(ReadAll(client),
            absl::StrCat(PathNow(),
                         "\nPROTO=TCP\nTCPLOCALIP=127.0.0.1\nTCPLOCALPORT=7\n"
                         "TCPREMOTEIP=192.0.2.1\nTCPREMOTEPORT=8\n"
                         "REMOTE_ADDR=192.0.2.1\nREMOTE_PORT=8\n"));
  EXPECT_THAT(child->Wait(), IsOkAndHolds(ExitStatus::Exited(0)));
}

}  // namespace
}  // namespace brood
