#include "brood/proc/reaper.h"

int main() { return brood::Reaper::Create().ok() ? 0 : 1; }
