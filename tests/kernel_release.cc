// SPDX-License-Identifier: Apache-2.0
#include "brood/tests/kernel_release.h"

#include <sys/utsname.h>

#include <cstdio>
#include <utility>

namespace brood {

bool KernelIsAtLeast(int major, int minor) {
  utsname name;
  std::pair<int, int> here;
  return uname(&name) == 0 &&
         std::sscanf(name.release, "%d.%d", &here.first, &here.second) == 2 &&
         here >= std::pair(major, minor);
}

}  // namespace brood
