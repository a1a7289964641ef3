// Has the path of a header of brood's, and nothing to do with it.
#ifndef CONSUMER_NET_ADDRESS_H_
#define CONSUMER_NET_ADDRESS_H_

namespace consumer {

inline constexpr char kAddress[] = "127.0.0.1:0";

}  // namespace consumer

#endif  // CONSUMER_NET_ADDRESS_H_
