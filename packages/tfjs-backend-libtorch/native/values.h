// JavaScript's values as ATen's, by the types that an operator's schema declares, and back.
#pragma once

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <node_api.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "errors.h"
#include "tensor-table.h"

namespace espalier {

constexpr double kLargestExactInteger = 9007199254740991.0;

inline napi_valuetype typeOf(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  check(napi_typeof(env, value, &type), "unreadable value");
  return type;
}

inline double toDouble(napi_env env, napi_value value) {
  double number = 0;
  check(napi_get_value_double(env, value, &number), "expected a number");
  return number;
}

inline int64_t toInteger(napi_env env, napi_value value) {
  const double number = toDouble(env, value);
  if (!(std::trunc(number) == number) || std::fabs(number) > kLargestExactInteger) {
    throw std::runtime_error("expected an integer");
  }
  return static_cast<int64_t>(number);
}

inline bool toBoolean(napi_env env, napi_value value) {
  bool truth = false;
  check(napi_get_value_bool(env, value, &truth), "expected a boolean");
  return truth;
}

inline std::string toString(napi_env env, napi_value value) {
  size_t length = 0;
  check(napi_get_value_string_utf8(env, value, nullptr, 0, &length), "expected a string");
  std::string text(length, '\0');
  check(napi_get_value_string_utf8(env, value, &text[0], length + 1, &length), "expected a string");
  return text;
}

inline uint32_t lengthOf(napi_env env, napi_value value) {
  uint32_t length = 0;
  check(napi_get_array_length(env, value, &length), "expected an array");
  return length;
}

template <typename Visit>
void forEach(napi_env env, napi_value array, const Visit& visit) {
  const uint32_t length = lengthOf(env, array);
  for (uint32_t index = 0; index < length; ++index) {
    napi_value element;
    check(napi_get_element(env, array, index, &element), "unreadable array");
    visit(element);
  }
}

inline std::vector<int64_t> toIntegers(napi_env env, napi_value array) {
  std::vector<int64_t> integers;
  integers.reserve(lengthOf(env, array));
  forEach(env, array, [&](napi_value element) { integers.push_back(toInteger(env, element)); });
  return integers;
}

inline at::Tensor& toTensor(napi_env env, Environment& state, napi_value value) {
  if (typeOf(env, value) != napi_number) throw std::runtime_error("expected a tensor");
  return state.slot(toInteger(env, value)).tensor;
}

inline at::ScalarType toScalarType(const std::string& name) {
  static const std::unordered_map<std::string, at::ScalarType> kTypes = {
      {"float32", at::kFloat}, {"float64", at::kDouble},          {"bfloat16", at::kBFloat16},
      {"float16", at::kHalf},  {"int32", at::kInt},               {"int64", at::kLong},
      {"bool", at::kBool},     {"complex64", at::kComplexFloat},  {"uint8", at::kByte},
  };
  const auto found = kTypes.find(name);
  if (found == kTypes.end()) throw std::runtime_error("unknown dtype '" + name + "'");
  return found->second;
}

/// A whole number stays exact as an integer scalar; negative zero, NaN and infinities need a floating one.
inline at::Scalar toScalar(napi_env env, napi_value value) {
  if (typeOf(env, value) == napi_boolean) return at::Scalar(toBoolean(env, value));
  const double number = toDouble(env, value);
  const bool whole = std::trunc(number) == number && std::fabs(number) <= kLargestExactInteger;
  if (whole && !(number == 0 && std::signbit(number))) return at::Scalar(static_cast<int64_t>(number));
  return at::Scalar(number);
}

/// A generator of its own for each call: what was drawn before never matters.
inline at::Generator toGenerator(napi_env env, napi_value value, const c10::Device& device) {
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(static_cast<uint64_t>(toInteger(env, value)));
  return generator;
}

inline c10::IValue toValue(napi_env env, Environment& state, napi_value value, const c10::TypePtr& type);

inline c10::IValue toList(napi_env env, Environment& state, napi_value value, const c10::TypePtr& element) {
  switch (element->kind()) {
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return c10::IValue(toIntegers(env, value));
    case c10::TypeKind::TensorType: {
      c10::List<at::Tensor> list;
      list.reserve(lengthOf(env, value));
      forEach(env, value, [&](napi_value item) { list.push_back(toTensor(env, state, item)); });
      return c10::IValue(std::move(list));
    }
    case c10::TypeKind::FloatType: {
      c10::List<double> list;
      forEach(env, value, [&](napi_value item) { list.push_back(toDouble(env, item)); });
      return c10::IValue(std::move(list));
    }
    case c10::TypeKind::BoolType: {
      c10::List<bool> list;
      forEach(env, value, [&](napi_value item) { list.push_back(toBoolean(env, item)); });
      return c10::IValue(std::move(list));
    }
    default: {
      c10::impl::GenericList list(element);
      forEach(env, value, [&](napi_value item) { list.push_back(toValue(env, state, item, element)); });
      return c10::IValue(std::move(list));
    }
  }
}

inline c10::IValue toValue(napi_env env, Environment& state, napi_value value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return c10::IValue(toTensor(env, state, value));
    case c10::TypeKind::OptionalType: {
      const napi_valuetype given = typeOf(env, value);
      if (given == napi_null || given == napi_undefined) return c10::IValue();
      return toValue(env, state, value, type->expectRef<c10::OptionalType>().getElementType());
    }
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      // A dtype is an integer in a schema, and its name in JavaScript.
      if (typeOf(env, value) == napi_string) return c10::IValue(toScalarType(toString(env, value)));
      return c10::IValue(toInteger(env, value));
    case c10::TypeKind::FloatType:
      return c10::IValue(toDouble(env, value));
    case c10::TypeKind::NumberType:
      return c10::IValue(toScalar(env, value));
    case c10::TypeKind::BoolType:
      return c10::IValue(toBoolean(env, value));
    case c10::TypeKind::StringType:
      return c10::IValue(toString(env, value));
    case c10::TypeKind::DeviceObjType:
      return c10::IValue(c10::Device(toString(env, value)));
    case c10::TypeKind::GeneratorType:
      return c10::IValue(toGenerator(env, value, state.device));
    case c10::TypeKind::ListType:
      return toList(env, state, value, type->expectRef<c10::ListType>().getElementType());
    default:
      throw std::runtime_error("arguments of type " + type->str() + " are not supported");
  }
}

inline napi_value toNumber(napi_env env, double number) {
  napi_value value;
  check(napi_create_double(env, number, &value), "cannot create a number");
  return value;
}

inline napi_value handleOf(napi_env env, Environment& state, const at::Tensor& tensor) {
  if (!tensor.defined()) {
    napi_value null;
    check(napi_get_null(env, &null), "cannot create null");
    return null;
  }
  return toNumber(env, static_cast<double>(state.add(tensor)));
}

inline napi_value fromValue(napi_env env, Environment& state, const c10::IValue& value) {
  if (value.isTensor()) return handleOf(env, state, value.toTensor());
  napi_value result;
  if (value.isTensorList()) {
    const c10::List<at::Tensor> list = value.toTensorList();
    check(napi_create_array_with_length(env, list.size(), &result), "cannot create an array");
    for (size_t index = 0; index < list.size(); ++index) {
      check(napi_set_element(env, result, static_cast<uint32_t>(index), handleOf(env, state, list.get(index))),
            "cannot fill an array");
    }
    return result;
  }
  if (value.isBool()) {
    check(napi_get_boolean(env, value.toBool(), &result), "cannot create a boolean");
    return result;
  }
  if (value.isInt()) return toNumber(env, static_cast<double>(value.toInt()));
  if (value.isDouble()) return toNumber(env, value.toDouble());
  if (value.isSymInt()) return toNumber(env, static_cast<double>(value.toSymInt().expect_int()));
  if (value.isScalar()) return toNumber(env, value.toScalar().toDouble());
  check(napi_get_null(env, &result), "cannot create null");
  return result;
}

}  // namespace espalier
