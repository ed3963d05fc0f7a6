// What a profile is made of: a note of each call of the addon. While nothing is recorded a call costs one comparison.
//
// `timing` notes when each call began and ended, its tensors' sizes and the bytes that it made; on a GPU it waits for
// the device after each operator, so that the time is the operator's own. `tracing` costs more and times nothing: it
// also notes the operators that an operator calls within, and the most memory that was in use while it ran.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace espalier {

enum class Detail { timing = 1, tracing = 2 };

/// What a call is, beside the operators, which have indices from 0.
constexpr int64_t kKernelChanges = -1;
constexpr int64_t kFromData = -2;
constexpr int64_t kToData = -3;
constexpr int64_t kAlias = -4;
constexpr int64_t kFree = -5;
constexpr int64_t kDescribe = -6;

/// An argument that is no tensor.
constexpr double kNumber = -2;
constexpr double kOther = -1;

/// JavaScript reads these as rows of doubles, in this order.
struct CallRecord {
  double what;
  double kernel;     // the label of the TensorFlow.js kernel that calls, or -1
  double phase;      // the label of the part of the step
  double start;      // nanoseconds since the recording began
  double duration;   // nanoseconds in the addon
  double within;     // of these, in the operator itself
  double read;       // bytes of the tensors that it was given
  double made;       // bytes of memory that came into being with its results
  double peak;       // tracing: most bytes in use meanwhile, what lies between included
  double live;       // bytes under live handles afterwards
  double arguments;  // where its tensors' sizes are noted, or -1
};

/// An operator that was called within an operator.
struct NestedRecord {
  double name;
  double call;       // the call that it belongs to
  double depth;      // 0: the operator itself
  double waits;      // 1: the host waited for the device
  double arguments;
};

class Recording {
 public:
  explicit Recording(Detail detail) : detail_(detail), began_(std::chrono::steady_clock::now()) {
    if (!tracing()) return;
    meter_ = std::make_shared<MemoryMeter>();
    current() = this;
    callback_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&Recording::enterNested, &Recording::leaveNested).needsInputs(true));
  }

  ~Recording() {
    if (!tracing()) return;
    at::removeCallback(callback_);
    current() = nullptr;
  }

  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  bool tracing() const { return detail_ == Detail::tracing; }

  double now() const {
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - began_).count();
  }

  void enterKernel(double label) {
    kernel_ = label;
    calls.push_back({double(kKernelChanges), kernel_, phase_, now(), 0, 0, 0, 0, 0, 0, -1});
  }

  void enterPhase(double label) {
    phase_ = label;
    calls.push_back({double(kKernelChanges), kernel_, phase_, now(), 0, 0, 0, 0, 0, 0, -1});
  }

  size_t begin(double what) {
    calls.push_back({what, kernel_, phase_, now(), 0, 0, 0, 0, 0, 0, -1});
    return calls.size() - 1;
  }

  void end(size_t index, int64_t liveBytes) {
    CallRecord& call = calls[index];
    call.live = double(liveBytes);
    call.peak = std::max(call.peak, call.live);
    call.duration = now() - call.start;
  }

  void given(size_t index, c10::ArrayRef<const c10::IValue> values) {
    CallRecord& call = calls[index];
    call.arguments = note(values);
    for (const c10::IValue& value : values) call.read += bytesOf(value);
  }

  /// Runs an operator; its results' new memory is for the caller to count.
  template <typename Run>
  void operate(size_t index, const c10::Device& device, int64_t liveBytes, const Run& run) {
    const double start = now();
    if (tracing()) {
      nesting_ = 0;
      running_ = index;
      isRunning_ = true;
      meter_->begin(liveBytes);
      try {
        const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter_);
        run();
      } catch (...) {
        isRunning_ = false;
        throw;
      }
      isRunning_ = false;
      calls[index].peak = double(meter_->highest());
    } else {
      run();
      if (!device.is_cpu()) {
        const c10::impl::VirtualGuardImpl implementation(device.type());
        implementation.synchronizeStream(implementation.getStream(device));
      }
    }
    calls[index].within = now() - start;
  }

  std::vector<CallRecord> calls;
  std::vector<NestedRecord> nested;
  /// For each noted call: the number of its arguments, then of each: a tensor's dtype, rank, sizes and strides; kNumber
  /// and a number; or kOther.
  std::vector<double> arguments;
  std::vector<std::string> names;

 private:
  /// Is told of every block that an allocator of PyTorch gives out or takes back.
  class MemoryMeter : public c10::MemoryReportingInfoBase {
   public:
    void begin(int64_t inUse) { now_ = highest_ = inUse; }
    int64_t highest() const { return highest_; }
    void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
      now_ += bytes;
      highest_ = std::max(highest_, now_);
    }
    bool memoryProfilingEnabled() const override { return true; }

   private:
    int64_t now_ = 0;
    int64_t highest_ = 0;
  };

  static Recording*& current() {
    thread_local Recording* recording = nullptr;
    return recording;
  }

  static double bytesOf(const c10::IValue& value) {
    if (value.isTensor()) return value.toTensor().defined() ? double(value.toTensor().nbytes()) : 0;
    double bytes = 0;
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) bytes += double(tensor.nbytes());
    return bytes;
  }

  double note(c10::ArrayRef<const c10::IValue> values) {
    const size_t offset = arguments.size();
    arguments.push_back(double(values.size()));
    for (const c10::IValue& value : values) {
      if (value.isInt() || value.isDouble() || value.isBool()) {
        arguments.push_back(kNumber);
        arguments.push_back(value.isInt() ? double(value.toInt()) : value.isDouble() ? value.toDouble() : double(value.toBool()));
        continue;
      }
      if (!value.isTensor() || !value.toTensor().defined()) {
        arguments.push_back(kOther);
        continue;
      }
      const at::Tensor& tensor = value.toTensor();
      arguments.push_back(double(tensor.scalar_type()));
      arguments.push_back(double(tensor.dim()));
      for (const int64_t size : tensor.sizes()) arguments.push_back(double(size));
      for (const int64_t stride : tensor.strides()) arguments.push_back(double(stride));
    }
    return double(offset);
  }

  /// Whether an operator makes the host wait for the device: it reads a value, or a size that depends on values.
  static bool waits(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
    const auto elsewhere = [&](size_t index) {
      return index < inputs.size() && inputs[index].isTensor() && inputs[index].toTensor().defined() &&
             !inputs[index].toTensor().is_cpu();
    };
    if (name == "aten::_local_scalar_dense" || name == "aten::nonzero" || name == "aten::masked_select" ||
        name == "aten::_unique2" || name == "aten::equal") {
      return elsewhere(0);
    }
    // Both directions wait unless the copy was asked not to.
    if (name == "aten::copy_" && elsewhere(0) != elsewhere(1)) {
      return !(inputs.size() > 2 && inputs[2].isBool() && inputs[2].toBool());
    }
    return false;
  }

  static std::unique_ptr<at::ObserverContext> enterNested(const at::RecordFunction& function) {
    Recording* recording = current();
    if (recording == nullptr || !recording->isRunning_) return nullptr;
    const std::string name = function.name();
    const auto known = recording->nameIndices_.emplace(name, recording->names.size());
    if (known.second) recording->names.push_back(name);
    const auto inputs = function.inputs();
    recording->nested.push_back({double(known.first->second), double(recording->running_),
                                 double(recording->nesting_++), waits(name, inputs) ? 1.0 : 0.0,
                                 recording->note(inputs)});
    return nullptr;
  }

  static void leaveNested(const at::RecordFunction&, at::ObserverContext*) {
    Recording* recording = current();
    if (recording != nullptr && recording->isRunning_) --recording->nesting_;
  }

  const Detail detail_;
  const std::chrono::steady_clock::time_point began_;
  double kernel_ = -1;
  double phase_ = -1;
  at::CallbackHandle callback_ = 0;
  std::shared_ptr<MemoryMeter> meter_;
  size_t running_ = 0;
  bool isRunning_ = false;
  int64_t nesting_ = 0;
  std::unordered_map<std::string, size_t> nameIndices_;
};

/// One call of the addon, noted from here to the end of the scope where something is recorded.
class Noted {
 public:
  Noted(Recording* recording, int64_t what, const int64_t& liveBytes) : recording_(recording), liveBytes_(liveBytes) {
    if (recording_ != nullptr) index_ = recording_->begin(double(what));
  }
  ~Noted() {
    if (recording_ != nullptr) recording_->end(index_, liveBytes_);
  }
  Noted(const Noted&) = delete;
  Noted& operator=(const Noted&) = delete;

  size_t index() const { return index_; }

 private:
  Recording* recording_;
  const int64_t& liveBytes_;
  size_t index_ = 0;
};

}  // namespace espalier
