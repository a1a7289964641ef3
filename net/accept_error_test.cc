// SPDX-License-Identifier: Apache-2.0
#include "brood/net/accept_error.h"

#include <cerrno>
#include <set>

#include "absl/status/status.h"
#include "brood/proc/posix.h"
#include "gtest/gtest.h"

namespace brood {
namespace {

bool IsPassing(const absl::Status& trouble) {
  return RemedyFor(ErrnoOf(trouble)) != AcceptRemedy::kGiveUp;
}

TEST(AcceptErrorTest, HeaderExample) {
  EXPECT_TRUE(IsPassing(ErrnoStatus(EMFILE, "accept")));
  EXPECT_FALSE(IsPassing(ErrnoStatus(EBADF, "accept")));
}

TEST(AcceptErrorTest, HasOneRowForEachErrno) {
  std::set<int> seen;
  for (const AcceptErrorRow& row : AcceptErrors()) {
    EXPECT_TRUE(seen.insert(row.error).second) << row.error;
    EXPECT_EQ(RemedyFor(row.error), row.remedy);
    EXPECT_FALSE(row.meaning.empty());
  }
  // What the manual page lists under "ERRORS" and "Error handling", and what it
  // says that Linux may return besides.
  for (const int error :
       {EAGAIN,      EBADF,           ECONNABORTED,    EFAULT,   EINTR,
        EINVAL,      EMFILE,          ENFILE,          ENOBUFS,  ENOMEM,
        ENOTSOCK,    EOPNOTSUPP,      EPERM,           EPROTO,   ENOSR,
        ENETDOWN,    ENOPROTOOPT,     EHOSTDOWN,       ENONET,   EHOSTUNREACH,
        ENETUNREACH, ESOCKTNOSUPPORT, EPROTONOSUPPORT, ETIMEDOUT}) {
    EXPECT_TRUE(seen.contains(error)) << error;
  }
}

TEST(AcceptErrorTest, DoesNotGiveUpForAnErrnoItDoesNotKnow) {
  EXPECT_EQ(RemedyFor(EXFULL), AcceptRemedy::kPause);
  EXPECT_EQ(RemedyFor(0), AcceptRemedy::kPause);
}

}  // namespace
}  // namespace brood
