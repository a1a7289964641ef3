// SPDX-License-Identifier: Apache-2.0
//
// KernelIsAtLeast(major, minor): whether what is new in that release of Linux
// is to be expected.
//
//   if (!KernelIsAtLeast(6, 15)) GTEST_SKIP() << "needs Linux 6.15";
//
// What it is not: for what ships. That tries a call and sees; a test must know
// beforehand, or it could not tell a kernel that is too old from a mistake.
// Rests on: uname(2).
#ifndef BROOD_TESTS_KERNEL_RELEASE_H_
#define BROOD_TESTS_KERNEL_RELEASE_H_

namespace brood {

bool KernelIsAtLeast(int major, int minor);

}  // namespace brood

#endif  // BROOD_TESTS_KERNEL_RELEASE_H_
