// Every ATen operator for JavaScript, through PyTorch's own dispatcher.
//
// An operator is looked up by schema name; its arguments are converted by the types that the schema itself declares
// and it is called boxed. Nothing here knows a particular operator, so a kernel is written in TypeScript alone.
//
// A tensor is a number in JavaScript: a slot of a table and the slot's generation. Disposal is explicit, as in
// TensorFlow.js, and a number that outlives its tensor is recognised and refused instead of reaching another tensor.
//
// No C++ exception leaves a function of this file: each becomes a JavaScript Error with the operator's name and the
// first line of the message.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/view_as_real.h>
#include <c10/core/InferenceMode.h>
#include <node_api.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
#define ESPALIER_DEVICE_STATISTICS
#include <c10/core/CachingDeviceAllocator.h>
#endif

#include <array>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "tensor-table.h"
#include "threads.h"
#include "values.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace {

using namespace espalier;

Environment& environment(napi_env env) {
  void* data = nullptr;
  check(napi_get_instance_data(env, &data), "the addon has no state in this environment");
  return *static_cast<Environment*>(data);
}

template <size_t Count>
std::array<napi_value, Count> parameters(napi_env env, napi_callback_info info) {
  std::array<napi_value, Count> values{};
  size_t count = Count;
  check(napi_get_cb_info(env, info, &count, values.data(), nullptr, nullptr), "unreadable arguments");
  return values;
}

// --- functions that JavaScript sees -----------------------------------------------------------------------------

/// operator(name, overload) -> index for `call`
napi_value findOperator(napi_env env, napi_callback_info info) {
  std::string context = "libtorch";
  return guarded(env, [&] { return context; }, [&] {
    Environment& state = environment(env);
    const auto given = parameters<2>(env, info);
    const std::string name = toString(env, given[0]);
    const std::string overload = toString(env, given[1]);
    context = overload.empty() ? name : name + "." + overload;
    auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle.has_value()) throw std::runtime_error("this version of libtorch has no such operator");
    state.operators.push_back({context, *handle});
    return toNumber(env, static_cast<double>(state.operators.size() - 1));
  });
}

/// call(index, arguments) -> tensor, list of tensors, number, boolean, null, or an array of those.
/// Results that are only the mutated inputs again (in-place operators) are left out.
napi_value call(napi_env env, napi_callback_info info) {
  const Operator* current = nullptr;
  Environment* state = nullptr;
  napi_value result = guarded(env, [&] { return current == nullptr ? std::string("libtorch") : current->name; }, [&] {
    state = &environment(env);
    const auto given = parameters<2>(env, info);
    const int64_t index = toInteger(env, given[0]);
    if (index < 0 || index >= static_cast<int64_t>(state->operators.size())) {
      throw std::runtime_error("no operator with this index");
    }
    current = &state->operators[index];
    Recording* recording = state->recording.get();
    const Noted noted(recording, index, state->liveBytes);
    const c10::FunctionSchema& schema = current->handle.schema();
    const uint32_t count = lengthOf(env, given[1]);
    const auto& declared = schema.arguments();
    if (count > declared.size()) {
      throw std::runtime_error("takes " + std::to_string(declared.size()) + " arguments, got " +
                               std::to_string(count));
    }
    c10::Stack& stack = state->stack;
    stack.clear();
    for (size_t position = 0; position < declared.size(); ++position) {
      const c10::Argument& argument = declared[position];
      napi_value value = nullptr;
      bool missing = position >= count;
      if (!missing) {
        check(napi_get_element(env, given[1], static_cast<uint32_t>(position), &value), "unreadable arguments");
        missing = typeOf(env, value) == napi_undefined;
      }
      if (missing) {
        if (argument.default_value().has_value()) {
          stack.push_back(*argument.default_value());
        } else if (argument.type()->kind() == c10::TypeKind::OptionalType) {
          stack.emplace_back();
        } else {
          throw std::runtime_error("argument '" + argument.name() + "' is missing");
        }
        continue;
      }
      try {
        stack.push_back(toValue(env, *state, value, argument.type()));
      } catch (const std::runtime_error& error) {
        throw std::runtime_error("argument '" + argument.name() + "': " + error.what());
      }
    }
    {
      const c10::InferenceMode inference(true);
      if (recording == nullptr) {
        current->handle.callBoxed(stack);
      } else {
        recording->given(noted.index(), c10::ArrayRef<const c10::IValue>(stack.data(), stack.size()));
        recording->operate(noted.index(), state->device, state->liveBytes, [&] { current->handle.callBoxed(stack); });
      }
    }
    const int64_t liveBefore = state->liveBytes;
    std::vector<napi_value> results;
    const auto& returns = schema.returns();
    for (size_t position = 0; position < stack.size(); ++position) {
      const c10::AliasInfo* alias = position < returns.size() ? returns[position].alias_info() : nullptr;
      if (alias == nullptr || !alias->isWrite()) results.push_back(fromValue(env, *state, stack[position]));
    }
    if (recording != nullptr) recording->calls[noted.index()].made = double(state->liveBytes - liveBefore);
    if (results.size() == 1) return results[0];
    napi_value array;
    check(napi_create_array_with_length(env, results.size(), &array), "cannot create an array");
    for (size_t position = 0; position < results.size(); ++position) {
      check(napi_set_element(env, array, static_cast<uint32_t>(position), results[position]), "cannot fill an array");
    }
    return array;
  });
  // The stack holds tensors: emptied at once, also after a failure, so that none outlives its handle.
  if (state != nullptr) state->stack.clear();
  return result;
}

struct Bytes {
  void* data;
  size_t length;
  at::ScalarType type;
};

Bytes bytesOf(napi_env env, napi_value value) {
  bool typed = false;
  check(napi_is_typedarray(env, value, &typed), "expected a typed array");
  if (!typed) throw std::runtime_error("expected a typed array");
  napi_typedarray_type kind;
  size_t count = 0;
  void* data = nullptr;
  check(napi_get_typedarray_info(env, value, &kind, &count, &data, nullptr, nullptr), "unreadable typed array");
  switch (kind) {
    case napi_float32_array:
      return {data, count * 4, at::kFloat};
    case napi_float64_array:
      return {data, count * 8, at::kDouble};
    case napi_int32_array:
      return {data, count * 4, at::kInt};
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return {data, count, at::kByte};
    case napi_bigint64_array:
      return {data, count * 8, at::kLong};
    default:
      throw std::runtime_error("typed arrays of this kind are not supported");
  }
}

/// fromData(values, shape, dtype, device) -> tensor. The values' bytes are those of the dtype.
napi_value fromData(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch fromData"); }, [&] {
    Environment& state = environment(env);
    const Noted noted(state.recording.get(), kFromData, state.liveBytes);
    const auto given = parameters<4>(env, info);
    const Bytes bytes = bytesOf(env, given[0]);
    const std::vector<int64_t> shape = toIntegers(env, given[1]);
    const at::ScalarType type = toScalarType(toString(env, given[2]));
    const c10::Device device(toString(env, given[3]));
    const c10::InferenceMode inference(true);
    // From pinned memory a GPU fetches the values later: the host does not wait. The memory's allocator keeps the block
    // until it was read, although the tensor is freed at once.
    at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(type).pinned_memory(device.is_cuda()));
    if (tensor.nbytes() != bytes.length) {
      throw std::runtime_error("the shape needs " + std::to_string(tensor.nbytes()) + " bytes, got " +
                               std::to_string(bytes.length));
    }
    if (bytes.length > 0) std::memcpy(tensor.data_ptr(), bytes.data, bytes.length);
    if (!device.is_cpu()) tensor = tensor.to(device, type, /*non_blocking=*/device.is_cuda());
    return handleOf(env, state, tensor);
  });
}

/// toData(tensor, values): fills the typed array, converting to its type.
napi_value toData(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch toData"); }, [&]() -> napi_value {
    Environment& state = environment(env);
    const Noted noted(state.recording.get(), kToData, state.liveBytes);
    const auto given = parameters<2>(env, info);
    at::Tensor tensor = toTensor(env, state, given[0]);
    const Bytes bytes = bytesOf(env, given[1]);
    const c10::InferenceMode inference(true);
    if (tensor.is_complex()) tensor = at::view_as_real(tensor);
    // A boolean and a byte are both one byte, 0 or 1, and need no conversion.
    const bool same = tensor.scalar_type() == bytes.type || (tensor.scalar_type() == at::kBool && bytes.type == at::kByte);
    tensor = same ? tensor.to(c10::kCPU) : tensor.to(c10::kCPU, bytes.type);
    tensor = tensor.contiguous();
    if (tensor.nbytes() != bytes.length) {
      throw std::runtime_error("the tensor has " + std::to_string(tensor.nbytes()) + " bytes, the array " +
                               std::to_string(bytes.length));
    }
    if (bytes.length > 0) std::memcpy(bytes.data, tensor.data_ptr(), bytes.length);
    return nullptr;
  });
}

/// alias(tensor) -> a second handle of the same tensor, freed by itself
napi_value alias(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch alias"); }, [&] {
    Environment& state = environment(env);
    const Noted noted(state.recording.get(), kAlias, state.liveBytes);
    const at::Tensor tensor = toTensor(env, state, parameters<1>(env, info)[0]);
    return handleOf(env, state, tensor);
  });
}

/// free(tensor)
napi_value freeTensor(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch free"); }, [&]() -> napi_value {
    Environment& state = environment(env);
    const Noted noted(state.recording.get(), kFree, state.liveBytes);
    state.remove(toInteger(env, parameters<1>(env, info)[0]));
    return nullptr;
  });
}

/// describe(tensor) -> [...shape, dtype as ATen's number]
napi_value describe(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch describe"); }, [&] {
    Environment& state = environment(env);
    const Noted noted(state.recording.get(), kDescribe, state.liveBytes);
    const at::Tensor& tensor = toTensor(env, state, parameters<1>(env, info)[0]);
    const auto sizes = tensor.sizes();
    napi_value result;
    check(napi_create_array_with_length(env, sizes.size() + 1, &result), "cannot create an array");
    for (size_t axis = 0; axis < sizes.size(); ++axis) {
      check(napi_set_element(env, result, static_cast<uint32_t>(axis), toNumber(env, static_cast<double>(sizes[axis]))),
            "cannot fill an array");
    }
    check(napi_set_element(env, result, static_cast<uint32_t>(sizes.size()),
                           toNumber(env, static_cast<double>(tensor.scalar_type()))),
          "cannot fill an array");
    return result;
  });
}

/// isContiguous(tensor) -> boolean
napi_value isContiguous(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch isContiguous"); }, [&] {
    const at::Tensor& tensor = toTensor(env, environment(env), parameters<1>(env, info)[0]);
    napi_value result;
    check(napi_get_boolean(env, tensor.is_contiguous(), &result), "cannot create a boolean");
    return result;
  });
}

/// storageHandles(tensor) -> how many live handles look into the same memory, this one included
napi_value storageHandles(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch storageHandles"); }, [&] {
    Environment& state = environment(env);
    const at::Tensor& tensor = toTensor(env, state, parameters<1>(env, info)[0]);
    const auto use = state.storages.find(tensor.storage().unsafeGetStorageImpl());
    return toNumber(env, use == state.storages.end() ? 0.0 : static_cast<double>(use->second.handles));
  });
}

/// loadLibrary(path): loads a shared library for its registrations (libtorch_cuda.so brings the CUDA kernels)
napi_value loadLibrary(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch loadLibrary"); }, [&]() -> napi_value {
    const std::string path = toString(env, parameters<1>(env, info)[0]);
#ifdef _WIN32
    if (LoadLibraryA(path.c_str()) == nullptr) throw std::runtime_error("cannot load " + path);
#else
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
#endif
    return nullptr;
  });
}

/// useDevice(device): readies the device on which generators draw, or says why it cannot be used
napi_value useDevice(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch device"); }, [&]() -> napi_value {
    const c10::Device device(toString(env, parameters<1>(env, info)[0]));
    if (!device.is_cpu()) at::globalContext().lazyInitDevice(device.type());
    environment(env).device = device;
    return nullptr;
  });
}

/// setThreads(count): threads of one operator
napi_value setThreads(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch setThreads"); }, [&]() -> napi_value {
    const int64_t count = toInteger(env, parameters<1>(env, info)[0]);
    if (count < 1 || count > std::numeric_limits<int>::max()) throw std::runtime_error("expected at least 1 thread");
    at::set_num_threads(static_cast<int>(count));
    return nullptr;
  });
}

/// Most bytes that the device's allocator gave out at a time; below 0 where it does not say, as on a CPU.
double devicePeakBytes(const c10::Device& device) {
#ifdef ESPALIER_DEVICE_STATISTICS
  if (!device.is_cpu()) {
    const auto statistics = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return static_cast<double>(statistics.allocated_bytes[kAll].peak);
  }
#endif
  return -1;
}

/// info() -> {version, threads, loopThreads, handles, bytes, devicePeakBytes}
napi_value information(napi_env env, napi_callback_info) {
  return guarded(env, [] { return std::string("libtorch info"); }, [&] {
    const Environment& state = environment(env);
    napi_value result, version;
    check(napi_create_object(env, &result), "cannot create an object");
    check(napi_create_string_utf8(env, TORCH_VERSION, NAPI_AUTO_LENGTH, &version), "cannot create a string");
    check(napi_set_named_property(env, result, "version", version), "cannot set a property");
    check(napi_set_named_property(env, result, "threads", toNumber(env, at::get_num_threads())), "cannot set a property");
    check(napi_set_named_property(env, result, "loopThreads", toNumber(env, static_cast<double>(threadsOfALoop()))),
          "cannot set a property");
    check(napi_set_named_property(env, result, "handles", toNumber(env, static_cast<double>(state.liveHandles()))),
          "cannot set a property");
    check(napi_set_named_property(env, result, "bytes", toNumber(env, static_cast<double>(state.liveBytes))),
          "cannot set a property");
    check(napi_set_named_property(env, result, "devicePeakBytes", toNumber(env, devicePeakBytes(state.device))),
          "cannot set a property");
    return result;
  });
}

// --- profiles ---------------------------------------------------------------------------------------------------

/// startRecording(detail): notes every call from here on, 1 = timing, 2 = tracing; what was recorded before is dropped
napi_value startRecording(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch startRecording"); }, [&]() -> napi_value {
    Environment& state = environment(env);
    const int64_t detail = toInteger(env, parameters<1>(env, info)[0]);
    if (detail != 1 && detail != 2) throw std::runtime_error("expected 1 (timing) or 2 (tracing)");
    state.recording.reset();
    state.recording = std::make_unique<Recording>(static_cast<Detail>(detail));
    return nullptr;
  });
}

/// recordKernel(label): the kernel that the calls from here on belong to, -1 for none
napi_value recordKernel(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch recordKernel"); }, [&]() -> napi_value {
    Environment& state = environment(env);
    if (state.recording) state.recording->enterKernel(toDouble(env, parameters<1>(env, info)[0]));
    return nullptr;
  });
}

/// recordPhase(label): the part of the step that begins here, -1 for none
napi_value recordPhase(napi_env env, napi_callback_info info) {
  return guarded(env, [] { return std::string("libtorch recordPhase"); }, [&]() -> napi_value {
    Environment& state = environment(env);
    if (state.recording) state.recording->enterPhase(toDouble(env, parameters<1>(env, info)[0]));
    return nullptr;
  });
}

template <typename Record>
napi_value rowsOf(napi_env env, const std::vector<Record>& records) {
  static_assert(sizeof(Record) % sizeof(double) == 0, "rows of doubles");
  const size_t bytes = records.size() * sizeof(Record);
  void* data = nullptr;
  napi_value buffer, array;
  check(napi_create_arraybuffer(env, bytes, &data, &buffer), "cannot create a buffer");
  if (bytes > 0) std::memcpy(data, records.data(), bytes);
  check(napi_create_typedarray(env, napi_float64_array, bytes / sizeof(double), buffer, 0, &array),
        "cannot create a typed array");
  return array;
}

/// stopRecording() -> {seconds, calls, nested, arguments, names, operators}; calls and nested are rows of `recording.h`
napi_value stopRecording(napi_env env, napi_callback_info) {
  return guarded(env, [] { return std::string("libtorch stopRecording"); }, [&] {
    Environment& state = environment(env);
    if (!state.recording) throw std::runtime_error("nothing is recorded");
    const double seconds = state.recording->now() * 1e-9;
    const std::unique_ptr<Recording> recording = std::move(state.recording);
    napi_value result;
    check(napi_create_object(env, &result), "cannot create an object");
    const auto set = [&](const char* name, napi_value value) {
      check(napi_set_named_property(env, result, name, value), "cannot set a property");
    };
    const auto strings = [&](size_t count, const auto& at) {
      napi_value array;
      check(napi_create_array_with_length(env, count, &array), "cannot create an array");
      for (size_t index = 0; index < count; ++index) {
        napi_value text;
        check(napi_create_string_utf8(env, at(index).c_str(), NAPI_AUTO_LENGTH, &text), "cannot create a string");
        check(napi_set_element(env, array, static_cast<uint32_t>(index), text), "cannot fill an array");
      }
      return array;
    };
    set("seconds", toNumber(env, seconds));
    set("calls", rowsOf(env, recording->calls));
    set("nested", rowsOf(env, recording->nested));
    set("arguments", rowsOf(env, recording->arguments));
    set("names", strings(recording->names.size(), [&](size_t index) { return recording->names[index]; }));
    set("operators", strings(state.operators.size(), [&](size_t index) { return state.operators[index].name; }));
    return result;
  });
}

void release(napi_env, void* data, void*) { delete static_cast<Environment*>(data); }

// A training step frees and takes the same large blocks again and again. As glibc is set at the start, each goes back to
// the system and comes again as untouched pages, whose first writes cost up to a fifth of a step. Kept in the heap they
// are warm. Whoever has set the allocator by its own variables is left alone.
void keepFreedMemory() {
#ifdef __GLIBC__
  for (const char* name : {"MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"})
    if (std::getenv(name) != nullptr) return;
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

napi_value initialize(napi_env env, napi_value exports) {
  return guarded(env, [] { return std::string("libtorch"); }, [&] {
    check(napi_set_instance_data(env, new Environment(), release, nullptr), "cannot keep the addon's state");
    keepFreedMemory();
    const std::pair<const char*, napi_callback> functions[] = {
        {"operator", findOperator},   {"call", call},
        {"fromData", fromData},       {"toData", toData},
        {"alias", alias},             {"free", freeTensor},
        {"describe", describe},       {"isContiguous", isContiguous},
        {"storageHandles", storageHandles}, {"loadLibrary", loadLibrary},
        {"useDevice", useDevice}, {"setThreads", setThreads},
        {"info", information}, {"startRecording", startRecording},
        {"recordKernel", recordKernel}, {"recordPhase", recordPhase},
        {"stopRecording", stopRecording},
    };
    for (const auto& [name, function] : functions) {
      napi_value value;
      check(napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value), "cannot create a function");
      check(napi_set_named_property(env, exports, name, value), "cannot export a function");
    }
    return exports;
  });
}

}  // namespace

NAPI_MODULE(espalier_libtorch, initialize)
