// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/accounts.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "brood/proc/child.h"
#include "brood/proc/exit_status.h"
#include "brood/proc/posix.h"
#include "brood/proc/privileges.h"
#include "brood/proc/read_file.h"
#include "brood/proc/spawn.h"
#include "brood/proc/unique_fd.h"

namespace brood {
namespace {

struct User {
  std::string name;
  uid_t uid;
  gid_t gid;
};

struct Group {
  std::string name;
  gid_t gid;
  std::vector<std::string> members;
};

User Copy(const passwd& entry) {
  return {.name = entry.pw_name, .uid = entry.pw_uid, .gid = entry.pw_gid};
}

Group Copy(const group& entry) {
  Group copy = {.name = entry.gr_name, .gid = entry.gr_gid, .members = {}};
  for (char** member = entry.gr_mem; *member != nullptr; ++member) {
    copy.members.emplace_back(*member);
  }
  return copy;
}

// The highest of all numbers means "unchanged" to the kernel: nobody has it.
bool IsNobodys(const User& user) {
  return user.uid == static_cast<uid_t>(-1) ||
         user.gid == static_cast<gid_t>(-1);
}
bool IsNobodys(const Group& group) {
  return group.gid == static_cast<gid_t>(-1);
}

// The entries of `text` that mean something, in the order they have. Neither
// fgetpwent_r(3) nor fgetgrent_r(3) knows of any service: they read.
template <typename Entry, typename Raw>
std::vector<Entry> Parse(std::string text,
                         int (*next)(FILE*, Raw*, char*, size_t, Raw**)) {
  std::vector<Entry> entries;
  if (text.empty()) return entries;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(
      fmemopen(text.data(), text.size(), "r"), fclose);
  if (file == nullptr) return entries;
  std::vector<char> buffer(1024);
  while (true) {
    const off_t here = ftello(file.get());
    Raw raw;
    Raw* found = nullptr;
    const int error =
        next(file.get(), &raw, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) {
      buffer.resize(buffer.size() * 2);
      if (fseeko(file.get(), here, SEEK_SET) == -1) return entries;
      continue;
    }
    if (found == nullptr) return entries;
    Entry entry = Copy(*found);
    // In these files "+" and "-" stand for what other services know.
    if (!entry.name.empty() && entry.name[0] != '+' && entry.name[0] != '-' &&
        !IsNobodys(entry)) {
      entries.push_back(std::move(entry));
    }
  }
}

std::vector<User> Users(std::string text) {
  return Parse<User, passwd>(std::move(text), fgetpwent_r);
}
std::vector<Group> Groups(std::string text) {
  return Parse<Group, group>(std::move(text), fgetgrent_r);
}

// A small container has neither file.
absl::StatusOr<std::string> ReadIfThere(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(AT_FDCWD, path);
  if (absl::IsNotFound(text.status())) return "";
  return text;
}

// What comes out of `fd` until its end.
absl::StatusOr<std::string> ReadUntil(int fd, absl::Time deadline) {
  constexpr size_t kMost = size_t{16} << 20;
  const Deadline end = deadline;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() <= kMost) {
    const absl::StatusOr<bool> ready = PollUntil(fd, POLLIN, end);
    if (!ready.ok()) return ready.status();
    if (!*ready) return absl::DeadlineExceededError("no answer in time");
    const ssize_t n =
        RetryOnEintr([&] { return read(fd, buffer.data(), buffer.size()); });
    if (n == -1) return ErrnoStatus(errno, "read");
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  return absl::UnavailableError("an answer without end");
}

// What getent(1) prints of `key`: nothing if it knows of none, or if there is
// no such program.
absl::StatusOr<std::string> Ask(const std::string& database,
                                const std::string& key,
                                const AccountSources& sources) {
  if (sources.getent.empty()) return "";
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == -1) return ErrnoStatus(errno, "pipe2");
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  SpawnOptions options = {.fds = {{.child = STDOUT_FILENO, .parent = ends[1]}},
                          .inherit_stdio = false};
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) {
    options.fds.push_back({.child = STDIN_FILENO, .parent = null.get()});
    options.fds.push_back({.child = STDERR_FILENO, .parent = null.get()});
  }
  const absl::Time deadline = absl::Now() + sources.patience;
  absl::StatusOr<Child> getent =
      Spawn({sources.getent, database, key}, options);
  in = UniqueFd();
  if (absl::IsNotFound(getent.status())) return "";
  if (!getent.ok()) return getent.status();
  const std::string name =
      absl::StrCat(sources.getent, " ", database, " ", key);
  absl::StatusOr<std::string> answer = ReadUntil(out.get(), deadline);
  if (!answer.ok()) {  // The child is killed and reaped by its destructor.
    return absl::Status(answer.status().code(),
                        absl::StrCat(name, ": ", answer.status().message()));
  }
  const absl::StatusOr<std::optional<ExitStatus>> status =
      getent->WaitUntil(deadline);
  if (!status.ok()) return status.status();
  if (!status->has_value()) {
    return absl::DeadlineExceededError(
        absl::StrCat(name, ": it does not end in time"));
  }
  // Lost: SIGCHLD is ignored, and the kernel has told nobody.
  if ((*status)->success() || (*status)->lost()) return answer;
  constexpr int kNoSuchKey = 2;
  if ((*status)->exit_code() == kNoSuchKey) return "";
  return absl::UnavailableError(
      absl::StrCat(name, ": ", (*status)->ToString()));
}

// What can be asked for: no option, no list, no entry of the kind that stands
// for other services, and nothing that getent(1) would take for a number.
bool IsName(std::string_view name) {
  constexpr std::string_view kNever(":,\n\0", 4);
  if (name.empty() || name.find_first_of(kNever) != std::string_view::npos) {
    return false;
  }
  if (name[0] == '-' || name[0] == '+' || absl::ascii_isspace(name[0])) {
    return false;
  }
  return !std::ranges::all_of(name,
                              [](char c) { return absl::ascii_isdigit(c); });
}

template <typename Entry>
const Entry* Find(const std::vector<Entry>& entries,
                  absl::FunctionRef<bool(const Entry&)> is_it) {
  const auto found = std::ranges::find_if(entries, is_it);
  return found == entries.end() ? nullptr : &*found;
}

// All that the user is in, his own group among them.
std::vector<gid_t> GroupsOf(const User& user, const std::vector<Group>& groups,
                            std::string_view initgroups) {
  std::vector<gid_t> gids = {user.gid};
  for (const Group& group : groups) {
    if (std::ranges::count(group.members, user.name) != 0) {
      gids.push_back(group.gid);
    }
  }
  // "name                  20 30".
  if (absl::ConsumePrefix(&initgroups, user.name)) {
    for (const std::string_view word : absl::StrSplit(
             initgroups, absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
      gid_t gid = 0;
      if (absl::SimpleAtoi(word, &gid) && gid != static_cast<gid_t>(-1)) {
        gids.push_back(gid);
      }
    }
  }
  std::ranges::sort(gids);
  gids.erase(std::ranges::unique(gids).begin(), gids.end());
  return gids;
}

}  // namespace

absl::StatusOr<Credentials> LookUpUser(const std::string& name,
                                       const AccountSources& sources) {
  const std::string what = absl::StrCat("user \"", name, "\"");
  const absl::Status none =
      absl::NotFoundError(absl::StrCat(what, " does not exist"));
  if (!IsName(name)) return none;
  absl::StatusOr<std::string> passwd = ReadIfThere(sources.passwd);
  if (!passwd.ok()) return passwd.status();
  std::vector<User> users = Users(*std::move(passwd));
  const User* user =
      Find<User>(users, [&](const User& entry) { return entry.name == name; });
  if (user == nullptr) {
    absl::StatusOr<std::string> answer = Ask("passwd", name, sources);
    if (!answer.ok()) return answer.status();
    // By the name it is known by there: some services know one user by several.
    users = Users(*std::move(answer));
    if (users.empty()) return none;
    user = &users.front();
  }
  absl::StatusOr<std::string> group = ReadIfThere(sources.group);
  if (!group.ok()) return group.status();
  // Who cannot be asked has no groups to give.
  const absl::StatusOr<std::string> initgroups =
      Ask("initgroups", user->name, sources);
  return Credentials{.uid = user->uid,
                     .gid = user->gid,
                     .groups = GroupsOf(*user, Groups(*std::move(group)),
                                        initgroups.value_or(""))};
}

absl::StatusOr<gid_t> LookUpGroup(const std::string& name,
                                  const AccountSources& sources) {
  const std::string what = absl::StrCat("group \"", name, "\"");
  const absl::Status none =
      absl::NotFoundError(absl::StrCat("there is no ", what));
  if (!IsName(name)) return none;
  absl::StatusOr<std::string> file = ReadIfThere(sources.group);
  if (!file.ok()) return file.status();
  std::vector<Group> groups = Groups(*std::move(file));
  const Group* group = Find<Group>(
      groups, [&](const Group& entry) { return entry.name == name; });
  if (group != nullptr) return group->gid;
  absl::StatusOr<std::string> answer = Ask("group", name, sources);
  if (!answer.ok()) return answer.status();
  groups = Groups(*std::move(answer));
  if (groups.empty()) return none;
  return groups.front().gid;
}

absl::StatusOr<std::string> NameOfUser(uid_t uid,
                                       const AccountSources& sources) {
  const std::string what = absl::StrCat("user ", uid);
  const auto has_it = [&](const User& entry) { return entry.uid == uid; };
  absl::StatusOr<std::string> file = ReadIfThere(sources.passwd);
  if (!file.ok()) return file.status();
  std::vector<User> users = Users(*std::move(file));
  const User* user = Find<User>(users, has_it);
  if (user != nullptr) return user->name;
  absl::StatusOr<std::string> answer =
      Ask("passwd", absl::StrCat(uid), sources);
  if (!answer.ok()) return answer.status();
  users = Users(*std::move(answer));
  user = Find<User>(users, has_it);
  if (user != nullptr) return user->name;
  return absl::NotFoundError(absl::StrCat(what, " has no name"));
}

}  // namespace brood
