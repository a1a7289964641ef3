// SPDX-License-Identifier: Apache-2.0
#include "brood/proc/unforked.h"

#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

#include "brood/tests/in_child.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

struct Job {
  pid_t pid = -1;
  std::array<char, 512> what = {};
};
using Jobs = std::vector<Job, UnforkedAllocator<Job>>;

class Foreman : public Unforked {  // By new, each in pages of its own.
 public:
  Jobs jobs;
};

// Whether this process has anything at the page of `address`.
bool IsMapped(const void* address) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address) & ~(page - 1);
  unsigned char resident;
  return mincore(reinterpret_cast<void*>(begin), page, &resident) == 0 ||
         errno != ENOMEM;
}

TEST(UnforkedTest, KeepsWhatAContainerHoldsAsItGrows) {
  Jobs jobs;
  for (pid_t pid = 0; pid < 10'000; ++pid) jobs.push_back({.pid = pid});
  for (pid_t pid = 0; pid < 10'000; ++pid) ASSERT_EQ(jobs[pid].pid, pid);
  jobs.clear();
  jobs.shrink_to_fit();
  EXPECT_EQ(jobs.capacity(), 0);
}

TEST(UnforkedTest, IsNotThereInAChild) {
  const Jobs jobs(1000);
  const Job* const last = &jobs.back();
  ASSERT_TRUE(IsMapped(last));
  EXPECT_EQ(InChild([last] { return IsMapped(last) ? 1 : 0; }), 0);
  EXPECT_EQ(jobs.back().pid, -1);
}

TEST(UnforkedTest, KeepsAnObjectThatIsMadeByNewFromAChild) {
  const auto foreman = std::make_unique<Foreman>();
  foreman->jobs.resize(1);
  ASSERT_TRUE(IsMapped(foreman.get()));
  EXPECT_EQ(InChild([&] { return IsMapped(foreman.get()) ? 1 : 0; }), 0);
  EXPECT_EQ(foreman->jobs.back().pid, -1);
}

TEST(UnforkedTest, GivesBackTheMemoryOfAnObjectOfADerivedClass) {
  class Chief : public Foreman {
   public:
    virtual ~Chief() = default;
    std::array<char, 10'000> more = {};
  };
  std::array<const char*, 2> gone;
  {
    const auto chief = std::make_unique<Chief>();
    gone = {&chief->more.front(), &chief->more.back()};
    for (const char* const where : gone) ASSERT_TRUE(IsMapped(where));
  }
  for (const char* const where : gone) EXPECT_FALSE(IsMapped(where));
}

TEST(UnforkedTest, GivesItsMemoryBack) {
  const Job* gone = nullptr;
  {
    const Jobs jobs(1000);
    gone = jobs.data();
    ASSERT_TRUE(IsMapped(gone));
  }
  EXPECT_FALSE(IsMapped(gone));
}

}  // namespace
}  // namespace brood
