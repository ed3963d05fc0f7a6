// The tensors that JavaScript holds, and the operators that it has looked up.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "recording.h"

namespace espalier {

// 2^22 live tensors; the generation takes the rest of the 53 bits in which a JavaScript number counts exactly.
constexpr int64_t kSlotBits = 22;
constexpr int64_t kSlotCount = int64_t{1} << kSlotBits;
constexpr int64_t kGenerationCount = int64_t{1} << 30;

struct Slot {
  at::Tensor tensor;
  int64_t generation = 0;
  bool used = false;
};

struct StorageUse {
  int64_t handles = 0;
  int64_t bytes = 0;
};

struct Operator {
  std::string name;
  c10::OperatorHandle handle;
};

/// Everything that belongs to one JavaScript environment (the main thread or a worker).
struct Environment {
  std::vector<Slot> slots;
  std::vector<int64_t> freeSlots;
  std::vector<Operator> operators;
  std::unordered_map<const c10::StorageImpl*, StorageUse> storages;
  c10::Stack stack;
  c10::Device device{c10::kCPU};  // where generators draw
  int64_t liveBytes = 0;
  std::unique_ptr<Recording> recording;  // none, unless a profile is taken

  int64_t add(at::Tensor tensor) {
    const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
    int64_t index;
    if (freeSlots.empty()) {
      index = static_cast<int64_t>(slots.size());
      if (index >= kSlotCount) throw std::runtime_error("too many live tensors");
      slots.emplace_back();
    } else {
      index = freeSlots.back();
      freeSlots.pop_back();
    }
    StorageUse& use = storages[storage];
    if (use.handles++ == 0) {
      use.bytes = static_cast<int64_t>(tensor.storage().nbytes());
      liveBytes += use.bytes;
    }
    Slot& slot = slots[index];
    slot.tensor = std::move(tensor);
    slot.used = true;
    return (slot.generation << kSlotBits) | index;
  }

  Slot& slot(int64_t handle) {
    const int64_t index = handle & (kSlotCount - 1);
    if (handle < 0 || index >= static_cast<int64_t>(slots.size()) || !slots[index].used ||
        slots[index].generation != handle >> kSlotBits) {
      throw std::runtime_error("the tensor was disposed or never existed (native handle " + std::to_string(handle) +
                               ")");
    }
    return slots[index];
  }

  void remove(int64_t handle) {
    Slot& freed = slot(handle);
    auto use = storages.find(freed.tensor.storage().unsafeGetStorageImpl());
    if (use != storages.end() && --use->second.handles == 0) {
      liveBytes -= use->second.bytes;
      storages.erase(use);
    }
    freed.tensor = at::Tensor();
    freed.used = false;
    freed.generation = (freed.generation + 1) % kGenerationCount;
    freeSlots.push_back(handle & (kSlotCount - 1));
  }

  int64_t liveHandles() const { return static_cast<int64_t>(slots.size() - freeSlots.size()); }
};

}  // namespace espalier
