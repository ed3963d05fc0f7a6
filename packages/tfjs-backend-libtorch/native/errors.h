// C++ exceptions as JavaScript errors.
#pragma once

#include <c10/util/Exception.h>
#include <node_api.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace espalier {

constexpr size_t kLongestMessage = 400;

/// A JavaScript exception is already pending: unwind without raising another one.
struct PendingException {};

inline void check(napi_status status, const char* expectation) {
  if (status == napi_ok) return;
  if (status == napi_pending_exception) throw PendingException();
  throw std::runtime_error(expectation);
}

inline std::string firstLine(const char* text) {
  std::string message(text == nullptr ? "" : text);
  const size_t start = message.find_first_not_of("\r\n \t");
  if (start == std::string::npos) return "unknown failure";
  const size_t end = message.find_first_of("\r\n", start);
  message = message.substr(start, end == std::string::npos ? std::string::npos : end - start);
  if (message.size() > kLongestMessage) message = message.substr(0, kLongestMessage) + "...";
  return message;
}

inline napi_value raise(napi_env env, const std::string& context, const std::string& message, const char* code) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_error(env, code, (context.empty() ? message : context + ": " + message).c_str());
  return nullptr;
}

/// Runs `body`; whatever it throws becomes a JavaScript Error that begins with `context()`.
template <typename Context, typename Body>
napi_value guarded(napi_env env, const Context& context, const Body& body) {
  try {
    return body();
  } catch (const PendingException&) {
    return nullptr;
  } catch (const c10::OutOfMemoryError& error) {
    return raise(env, context(), firstLine(error.what_without_backtrace()), "ERR_LIBTORCH_MEMORY");
  } catch (const c10::Error& error) {
    const std::string message = firstLine(error.what_without_backtrace());
    const bool memory = message.find("llocat") != std::string::npos && message.find("memory") != std::string::npos;
    return raise(env, context(), message, memory ? "ERR_LIBTORCH_MEMORY" : "ERR_LIBTORCH");
  } catch (const std::bad_alloc&) {
    return raise(env, context(), "out of memory", "ERR_LIBTORCH_MEMORY");
  } catch (const std::exception& error) {
    return raise(env, context(), firstLine(error.what()), "ERR_LIBTORCH");
  } catch (...) {
    return raise(env, context(), "unknown failure", "ERR_LIBTORCH");
  }
}

}  // namespace espalier
