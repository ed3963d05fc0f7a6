// Loops of our own, dealt out to libtorch's threads.
//
// ATen's `at::parallel_for` is a template with OpenMP pragmas: in an addon that is compiled without OpenMP it runs on one
// thread, silently, and compiled with OpenMP the addon might bring a second runtime with a second set of threads. So the
// runtime that libtorch itself has loaded is called, by the entry point that GNU's, LLVM's and Intel's runtimes share.

#pragma once

#include <cstdint>
#include <functional>

namespace espalier {

/// Calls `body(begin, end)` with parts of [begin, end), side by side: as many as there are threads, none smaller than
/// `grain` (at least 1) except the last. Which parts there are depends on the sizes and the number of threads alone.
/// Within such a call, and without a runtime, the whole is one part. The first exception of a part is thrown on.
void parallelFor(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

/// How many threads a loop of ours was dealt out to, by running one.
int64_t threadsOfALoop();

}  // namespace espalier
