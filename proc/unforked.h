// SPDX-License-Identifier: Apache-2.0
//
// UnforkedAllocator gives a container memory that is the parent's alone: a fork
// does not copy it. Unforked does so for the objects of a class.
//
//   struct Job {
//     pid_t pid = -1;
//     std::array<char, 512> what = {};
//   };
//   using Jobs = std::vector<Job, UnforkedAllocator<Job>>;
//
//   class Foreman : public Unforked {  // By new, each in pages of its own.
//    public:
//     Jobs jobs;
//   };
//
// What it is for: what a program that forks knows of its many children, and
// none of them needs. A fork marks each page of the parent's as shared and
// copies it once either writes to it, whoever needs it or not; with some
// megabytes that is dearer than the rest of the fork.
//
// What it is not: for small or many allocations. Each takes whole pages and two
// system calls, so that it suits a container that grows by doubling.
//
// Ownership: as with any allocator. Errors: std::bad_alloc, like the other
// allocators of this program. Threads: any. Signals: nothing here is safe in a
// handler. Fork: in a child there is nothing at these addresses, and touching
// one ends it by SIGSEGV; so a child may not even destroy the container. It
// suits whoever leaves the child by _exit(2), as Fork does.
// Rests on: mmap(2), and MADV_DONTFORK in madvise(2).
#ifndef BROOD_PROC_UNFORKED_H_
#define BROOD_PROC_UNFORKED_H_

#include <sys/mman.h>

#include <cstddef>
#include <limits>
#include <new>

namespace brood {

template <typename T>
class UnforkedAllocator {
 public:
  using value_type = T;

  UnforkedAllocator() = default;
  template <typename U>
  // NOLINTNEXTLINE(google-explicit-constructor): clang-tidy 16 cannot read it.
  explicit(false) UnforkedAllocator(const UnforkedAllocator<U>&) {}

  T* allocate(size_t n) {
    if (n > std::numeric_limits<size_t>::max() / sizeof(T)) {
      throw std::bad_array_new_length();
    }
    void* const memory = mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    // A kernel that will not leaves ordinary memory.
    (void)madvise(memory, n * sizeof(T), MADV_DONTFORK);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t n) { (void)munmap(memory, n * sizeof(T)); }

  friend bool operator==(const UnforkedAllocator&, const UnforkedAllocator&) {
    return true;
  }
};

// A base of classes whose objects, and those of classes derived from them, are
// to be there if made by new. What they own elsewhere is not.
class Unforked {
 public:
  static void* operator new(size_t size) {
    return UnforkedAllocator<std::byte>().allocate(size);
  }
  static void operator delete(void* memory, size_t size) {
    UnforkedAllocator<std::byte>().deallocate(static_cast<std::byte*>(memory),
                                              size);
  }
};

}  // namespace brood

#endif  // BROOD_PROC_UNFORKED_H_
