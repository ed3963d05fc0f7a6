// What a device other than the CPU has beside operators: how many there are, its allocator's statistics, waiting for it,
// and reproducible algorithms. Operators without tensors, so that JavaScript calls them like ATen's.
//
// Everything goes through PyTorch's interfaces that are common to devices; nothing of CUDA is included or linked.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Device.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/library.h>
#include <torch/version.h>

#include <cstdint>
#include <string>
#include <tuple>

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 9)
#define ESPALIER_ALLOCATOR_STATISTICS
#include <c10/core/CachingDeviceAllocator.h>
#endif

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace {

/// Whether the library that knows this kind of device is loaded.
bool hasGuard(c10::DeviceType type) { return c10::impl::hasDeviceGuardImpl(type); }

#ifdef ESPALIER_ALLOCATOR_STATISTICS
/// The device's caching allocator, or null where it has none (the CPU, the meta device) or is not in use yet.
c10::DeviceAllocator* allocatorOf(c10::Device device) {
  if (device.is_cpu() || device.is_meta() || !hasGuard(device.type())) return nullptr;
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  return allocator != nullptr && allocator->initialized() ? allocator : nullptr;
}
#endif

/// How many devices of a kind the driver gives to this process. 0 where their library is not loaded.
int64_t deviceCount(c10::Device device) {
  return hasGuard(device.type()) ? c10::impl::VirtualGuardImpl(device.type()).deviceCount() : 0;
}

/// Waits until the device has done what was started on it.
void synchronize(c10::Device device) {
  if (device.is_cpu() || device.is_meta() || !hasGuard(device.type())) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeStream(guard.getStream(device));
}

/// Bytes in tensors now, the most since the peak was reset, and bytes that the allocator holds of the device. -1 each
/// where the device has no such allocator (the CPU), or this PyTorch does not tell.
std::tuple<int64_t, int64_t, int64_t> memoryStatistics(c10::Device device) {
#ifdef ESPALIER_ALLOCATOR_STATISTICS
  if (c10::DeviceAllocator* allocator = allocatorOf(device)) {
    const auto statistics = allocator->getDeviceStats(device.index());
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return {statistics.allocated_bytes[all].current, statistics.allocated_bytes[all].peak,
            statistics.reserved_bytes[all].current};
  }
#endif
  return {-1, -1, -1};
}

/// The peak of `memoryStatistics` is counted from now on.
void resetPeakMemory(c10::Device device) {
#ifdef ESPALIER_ALLOCATOR_STATISTICS
  if (c10::DeviceAllocator* allocator = allocatorOf(device)) allocator->resetPeakStats(device.index());
#endif
}

/// Gives memory that no tensor uses back to the device: after a failed allocation, before another try.
void releaseCachedMemory(c10::Device device) {
#ifdef ESPALIER_ALLOCATOR_STATISTICS
  if (c10::DeviceAllocator* allocator = allocatorOf(device)) allocator->emptyCache();
#endif
}

/// Reproducible algorithms only; an operator that has none raises an error that names it. cuBLAS also needs
/// CUBLAS_WORKSPACE_CONFIG, which is read when its first handle is made and so is set by whoever loads the library.
void setDeterministic(bool on) {
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(on);
  at::globalContext().setBenchmarkCuDNN(false);
  // Every operator here writes all of its result: filling fresh memory with NaN first would only cost time.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

/// With `true`, an operator that makes the host wait for the GPU raises an error instead ("called a synchronizing CUDA
/// operation"): the proof that a step has none. It is the switch behind Python's torch.cuda.set_sync_debug_mode, found by
/// its name in the loaded library. Gives false where there is no such switch: without CUDA, or in another PyTorch.
bool forbidSynchronization(bool on) {
#ifdef _WIN32
  return false;
#else
  void* state = dlsym(RTLD_DEFAULT, "_ZZN3c104cuda13warning_stateEvE14warning_state_");
  if (state == nullptr) return false;
  constexpr int kDisabled = 0;
  constexpr int kError = 2;
  *static_cast<int*>(state) = on ? kError : kDisabled;
  return true;
#endif
}

/// Whether an operator has a kernel for a device ("CPU", "CUDA", "Meta"), of its own or composed of other operators.
bool hasKernel(std::string name, std::string overload, std::string device) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!handle.has_value()) return false;
  const c10::DispatchKey key = c10::parseDispatchKey(device);
  for (const c10::DispatchKey each : {key, c10::DispatchKey::CompositeExplicitAutograd,
                                      c10::DispatchKey::CompositeExplicitAutogradNonFunctional,
                                      c10::DispatchKey::CompositeImplicitAutograd}) {
    if (handle->hasKernelForDispatchKey(each)) return true;
  }
  return false;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(espalier, library) {
  library.def("device_count(Device device) -> int", deviceCount);
  library.def("synchronize(Device device) -> ()", synchronize);
  library.def("memory_statistics(Device device) -> (int allocated, int peak, int reserved)", memoryStatistics);
  library.def("reset_peak_memory(Device device) -> ()", resetPeakMemory);
  library.def("release_cached_memory(Device device) -> ()", releaseCachedMemory);
  library.def("set_deterministic(bool on) -> ()", setDeterministic);
  library.def("forbid_synchronization(bool on) -> bool", forbidSynchronization);
  library.def("has_kernel(str name, str overload, str device) -> bool", hasKernel);
}
