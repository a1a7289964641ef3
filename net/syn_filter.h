// SPDX-License-Identifier: Apache-2.0
//
// A SYN filter is a listener's list of those whose knocking the kernel drops
// before anybody hears it.
//
//   absl::Status Ignore(const Listener& listener, const Address& flooder) {
//     absl::StatusOr<AddressRange> source =
//         AddressRange::Around(flooder, AddressRange::kMaxPrefixIPv4);
//     if (!source.ok()) return source.status();
//     return DropSynsFrom(listener.fd(), {*source});
//   }
//
// What it is not: a firewall, or a refusal. It holds for this one socket, and
// nobody is told: to a client on the list the server seems not to be there, so
// it asks again after one second, three, seven and so on, as TCP does when a
// packet is lost, and comes in with the first try after it was taken off the
// list. Who is connected, or in the kernel's queue, stays.
//
// What it is for: to accept a connection only to end it costs the server
// microseconds, and whoever floods it fills the queue in which everybody waits.
// A SYN that is dropped costs what the packet does, and takes no place in it.
//
// Ownership: the list is the socket's, whoever holds copies of it; each call
// replaces the former list, and an empty one takes it away. Connections inherit
// the filter, which finds nothing to drop among their packets.
//
// How many it has dropped is known: a flood that nobody hears can be seen to go
// on, or to be over.
//
// Errors: more than kMaxFilteredSources are InvalidArgument. Else what
// setsockopt(2) says, with its errno: EPERM where the kernel wants
// CAP_NET_ADMIN for it, as newer ones do (seen with Linux 6.18.44), or somebody
// has locked the filter. A unix socket takes a filter, which does nothing
// there.
//
// Threads: any. Signals: none. Fork: the socket is shared, so the list is.
// Rests on: socket(7) SO_ATTACH_FILTER; linux/filter.h; RFC 9293 section 3.1
// for the flags; RFC 6298 for the pauses; SO_MEMINFO (Linux 4.12).
#ifndef BROOD_NET_SYN_FILTER_H_
#define BROOD_NET_SYN_FILTER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "brood/net/address_range.h"
#include "brood/net/listener.h"

namespace brood {

// So many that the filter stays below what the kernel allows each of the
// connections that inherit it (net.core.optmem_max).
inline constexpr size_t kMaxFilteredSources = 32;

absl::Status DropSynsFrom(int listener, absl::Span<const AddressRange> sources);

// At each of these that is open and of TCP. The first error is returned after
// all have been tried.
absl::Status DropSynsFrom(absl::Span<const Listener> listeners,
                          absl::Span<const AddressRange> sources);

// How many packets the kernel has dropped at these so far, all together and
// modulo 2^32: by their filters, and for want of room in their queues. One that
// is closed, or cannot be asked, counts nothing.
uint32_t PacketsDroppedAt(absl::Span<const Listener> listeners);

}  // namespace brood

#endif  // BROOD_NET_SYN_FILTER_H_
