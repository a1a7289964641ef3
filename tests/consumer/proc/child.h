// Has the path of a header of brood's, and nothing to do with it.
#ifndef CONSUMER_PROC_CHILD_H_
#define CONSUMER_PROC_CHILD_H_

namespace consumer {

inline constexpr char kChild[] = "a child";

}  // namespace consumer

#endif  // CONSUMER_PROC_CHILD_H_
