#include "threads.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>

extern "C" {
// Of the OpenMP runtime that libtorch is linked to; weak, for there may be none.
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) __attribute__((weak));
int omp_get_num_threads() __attribute__((weak));
int omp_get_thread_num() __attribute__((weak));
}

namespace espalier {
namespace {

struct Loop {
  int64_t begin;
  int64_t end;
  int64_t grain;
  const std::function<void(int64_t, int64_t)>& body;
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr failure;
};

/// What each thread of the team runs. No exception may leave it.
void runPart(void* data) {
  Loop& loop = *static_cast<Loop*>(data);
  const int64_t count = loop.end - loop.begin;
  const int64_t threads = std::min<int64_t>(omp_get_num_threads(), (count + loop.grain - 1) / loop.grain);
  const int64_t part = (count + threads - 1) / threads;
  const int64_t first = loop.begin + omp_get_thread_num() * part;
  if (omp_get_thread_num() >= threads || first >= loop.end) return;
  try {
    loop.body(first, std::min(first + part, loop.end));
  } catch (...) {
    if (!loop.failed.test_and_set()) loop.failure = std::current_exception();
  }
}

}  // namespace

void parallelFor(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (begin >= end) return;
  const int64_t least = std::max<int64_t>(grain, 1);
  // Also sets the runtime's number of threads where that was not done yet in this thread.
  const bool alone = at::get_num_threads() <= 1 || at::in_parallel_region() || end - begin <= least;
  if (alone || GOMP_parallel == nullptr || omp_get_num_threads == nullptr || omp_get_thread_num == nullptr) {
    body(begin, end);
    return;
  }
  Loop loop{begin, end, least, body, {}, nullptr};
  // 0 threads: as many as libtorch has set; naming a number makes GNU's runtime build its team anew.
  GOMP_parallel(runPart, &loop, 0, 0);
  if (loop.failure) std::rethrow_exception(loop.failure);
}

int64_t threadsOfALoop() {
  std::atomic<int64_t> parts{0};
  parallelFor(0, at::get_num_threads(), 1, [&](int64_t, int64_t) { ++parts; });
  return parts;
}

}  // namespace espalier
