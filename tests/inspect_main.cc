// SPDX-License-Identifier: Apache-2.0
// Prints what kind of process it is, a fact a line: "cwd: /tmp". For tests of
// what starts processes.
#include <dirent.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>

namespace {

// One that the directory's own descriptor is not among.
std::string OpenDescriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return "unknown";
  std::set<int> open;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    open.insert(std::atoi(entry->d_name));
  }
  open.erase(dirfd(directory));
  closedir(directory);
  std::string text;
  for (const int fd : open)
    text += (text.empty() ? "" : " ") + std::to_string(fd);
  return text;
}

std::string Joined(char** words) {
  std::string text;
  for (; *words != nullptr; ++words) {
    if (!text.empty()) text += "|";
    text += *words;
  }
  return text;
}

std::string Groups() {
  std::array<gid_t, 64> groups;
  const int count = getgroups(groups.size(), groups.data());
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += (text.empty() ? "" : " ") + std::to_string(groups[i]);
  }
  return text;
}

}  // namespace

int main(int, char** argv) {
  std::printf("descriptors: %s\n", OpenDescriptors().c_str());
  std::printf("arguments: %s\n", Joined(argv).c_str());
  std::printf("environment: %s\n", Joined(environ).c_str());
  char cwd[4096];
  std::printf("cwd: %s\n", getcwd(cwd, sizeof(cwd)) == nullptr ? "?" : cwd);
  const mode_t mask = umask(0);
  std::printf("umask: %03o\n", mask);
  std::printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
  std::printf("pid: %d\ngroup: %d\nsession: %d\n", getpid(), getpgrp(),
              getsid(0));
  uid_t uids[3];
  gid_t gids[3];
  if (getresuid(&uids[0], &uids[1], &uids[2]) == -1 ||
      getresgid(&gids[0], &gids[1], &gids[2]) == -1) {
    return 1;
  }
  std::printf("users: %u %u %u\n", uids[0], uids[1], uids[2]);
  std::printf("groups: %u %u %u, %s\n", gids[0], gids[1], gids[2],
              Groups().c_str());
  int signo = 0;
  prctl(PR_GET_PDEATHSIG, &signo);
  std::printf("parent death signal: %d\n", signo);
  std::printf("no new privileges: %d\n",
              prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  std::printf("files: %llu:%llu\n",
              static_cast<unsigned long long>(files.rlim_cur),
              static_cast<unsigned long long>(files.rlim_max));
  std::ifstream cgroups("/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    std::printf("cgroup %s\n", line.c_str());
  }
  return 0;
}
