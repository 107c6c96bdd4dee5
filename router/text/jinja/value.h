// Value: what a template computes with. Plain data only: nothing here can reach the process.
// Lists and dicts never change once made (namespaces do), so values share them freely.
// Used by one render on one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <absl/status/statusor.h>

#include "router/text/jinja/text.h"

namespace mili::router::jinja {

class Value;
struct MacroDef;  // ast.h

// How deep lists and dicts may nest: destructors, comparison and printing recurse.
inline constexpr int kMaxValueDepth = 64;
// The most that one value may weigh, all that it holds counted as often as it is held: what
// comparing or printing it costs. Sharing could make it exponential.
inline constexpr uint64_t kMaxValueWeight = 1 << 24;

// How deep and how heavy a value is that holds others; bounded when it is made.
struct Extent {
  int depth = 1;
  uint64_t weight = 1;

  // INVALID_ARGUMENT past the limits.
  absl::Status Hold(const Value& value);
};

struct Undefined {
  std::string what;  // for the message when it is used, "'x' is undefined"
};
struct None {};

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  Extent extent;
};

// In order of insertion. Small: looked up by walking.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  Extent extent;
  const Value* Find(std::string_view key) const;
  const Value* Find(const Value& key) const;
};

// The one thing that changes. Owned by the interpreter, so that one may hold itself.
struct Namespace {
  std::vector<std::pair<std::string, Value>> entries;
  Value* Find(std::string_view key);
};

// What `loop` names inside a for.
struct Loop {
  std::vector<Value> items;
  size_t index0 = 0;
  Extent extent;
};

enum class GlobalFunction { kRange, kDict, kNamespace, kRaiseException, kStrftimeNow };

// Something that can be called: a function of the language, a method bound to its value, a macro.
struct Callable;

class Value {
 public:
  using TextPtr = std::shared_ptr<const Text>;
  using ListPtr = std::shared_ptr<const List>;
  using DictPtr = std::shared_ptr<const Dict>;
  using LoopPtr = std::shared_ptr<Loop>;
  using CallablePtr = std::shared_ptr<const Callable>;
  using Data = std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr,
                            Namespace*, LoopPtr, CallablePtr>;

  Value() : data_(None{}) {}
  Value(Data data) : data_(std::move(data)) {}  // NOLINT: a wrapper around its variant
  static Value MakeUndefined(std::string what) { return Data(Undefined{std::move(what)}); }
  static Value Of(bool value) { return Data(value); }
  static Value Of(int64_t value) { return Data(value); }
  static Value Of(double value) { return Data(value); }
  static Value Of(Text text) { return Data(std::make_shared<const Text>(std::move(text))); }
  static Value Of(std::string text) { return Of(Text(std::move(text))); }
  // INVALID_ARGUMENT past kMaxValueDepth and kMaxValueWeight.
  static absl::StatusOr<Value> MakeList(std::vector<Value> items, bool is_tuple = false);
  // A later entry of the same key replaces the value of an earlier one.
  static absl::StatusOr<Value> MakeDict(std::vector<std::pair<Value, Value>> entries);

  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }
  bool is_undefined() const { return Is<Undefined>(); }
  bool is_none() const { return Is<None>(); }
  bool is_number() const { return Is<bool>() || Is<int64_t>() || Is<double>(); }

  // Null if it is something else.
  const Text* text() const { return Deref<TextPtr>(); }
  const List* list() const { return Deref<ListPtr>(); }
  const Dict* dict() const { return Deref<DictPtr>(); }
  Loop* loop() const { return Is<LoopPtr>() ? std::get<LoopPtr>(data_).get() : nullptr; }
  Namespace* ns() const { return Is<Namespace*>() ? std::get<Namespace*>(data_) : nullptr; }
  const Callable* callable() const { return Deref<CallablePtr>(); }
  const Undefined* undefined() const { return std::get_if<Undefined>(&data_); }
  // True for bool and int; bools count as 0 and 1, as in Python.
  bool AsInt(int64_t* value) const;
  // Of any number.
  bool AsDouble(double* value) const;

  // Python's truth: empty, zero, none and undefined are false.
  bool IsTrue() const;
  // "str", "int", ...: Python's name of the type, for messages.
  std::string_view TypeName() const;
  // A value that holds no others has depth 0.
  Extent extent() const;

 private:
  template <typename Ptr>
  auto Deref() const -> decltype(std::declval<Ptr>().get()) {
    const Ptr* pointer = std::get_if<Ptr>(&data_);
    return pointer == nullptr ? nullptr : pointer->get();
  }

  Data data_;
};

struct Callable {
  struct Method {
    Value self;
    std::string name;
  };
  struct Macro {
    const MacroDef* definition;
    // The scope that it was defined in: its place on the stack, and its serial number there.
    size_t scope;
    uint64_t scope_serial;
  };
  std::variant<GlobalFunction, Method, Macro> target;
};

// At most as many steps as the lighter of the two weighs. Python's ==: 1 == 1.0 == true; the order
// of dict entries does not matter.
bool Equal(const Value& a, const Value& b);
// Python's <: numbers, strings, lists. INVALID_ARGUMENT for what has no order.
absl::StatusOr<bool> Less(const Value& a, const Value& b);

}  // namespace mili::router::jinja
